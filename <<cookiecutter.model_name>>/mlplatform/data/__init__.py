"""From source files to an immutable dataset version."""
