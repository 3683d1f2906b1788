"""The pipeline from source data to a published model: gather, validate, prepare, train, evaluate, publish."""

import os

from mlplatform.training import quiet_start

# Read by TensorFlow when it is imported: no messages below errors, and oneDNN's kernels on every CPU, not only on those
# where TensorFlow turns them on by itself.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
quiet_start.install()
