"""Images: what they are made of, building and pushing them, the registry."""
