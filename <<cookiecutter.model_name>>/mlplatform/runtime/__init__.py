"""What computes a published model: the loaders that the server, the gate, the image's check and the preflight share.

Below both training and serving, as a model that one of them loads in a way of its own proves nothing for the other.
"""
