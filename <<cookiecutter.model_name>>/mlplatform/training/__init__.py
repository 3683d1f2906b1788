"""The pipeline from source data to a published model: gather, validate, prepare, train, evaluate, publish."""

import os

# Said to TensorFlow before it is imported: no messages at start-up that nobody acts on, among them that oneDNN is on.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
