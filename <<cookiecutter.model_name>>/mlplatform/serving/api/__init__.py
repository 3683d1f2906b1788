"""What the server answers: predictions, metadata, feedback, health, pages."""
