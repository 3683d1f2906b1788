"""Settings: service.toml and the environment, read once into typed objects."""
