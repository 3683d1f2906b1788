"""The server: a published SavedModel behind HTTP. It knows a model by its manifest alone."""
