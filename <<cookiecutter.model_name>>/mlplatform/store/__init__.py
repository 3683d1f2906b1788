"""The store: a directory or S3, artifacts with manifests, published models, releases."""
