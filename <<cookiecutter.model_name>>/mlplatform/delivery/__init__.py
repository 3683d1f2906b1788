"""What is done with models: from a laptop or from Jenkins, the same commands."""
