"""Commands that build, release and compare models, for a laptop and for Jenkins."""
