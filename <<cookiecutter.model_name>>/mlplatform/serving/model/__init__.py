"""The served model: loading, runtimes, batching, the signature."""
