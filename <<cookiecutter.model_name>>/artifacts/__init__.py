"""The contract between the rooms: where things are stored, how they are published, and how settings are read."""
