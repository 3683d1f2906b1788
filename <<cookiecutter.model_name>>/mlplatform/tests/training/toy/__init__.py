"""A directory that, first on the path, puts a small model in place of the team's: for tests of the pipeline itself."""
