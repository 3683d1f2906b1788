"""The model: a pipeline of scikit-learn, a forest over the measurements that tell most, converted to ONNX."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import skl2onnx  # type: ignore[import-untyped]
from numpy.typing import NDArray
from skl2onnx.common.data_types import FloatTensorType  # type: ignore[import-untyped]
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.pipeline import make_pipeline

from mlplatform.contract.examples import Examples
from model.hyperparameters import Hyperparameters

Predict = Callable[[Mapping[str, NDArray[Any]]], NDArray[Any]]


def train(hyperparameters: Hyperparameters, train: Examples) -> tuple[bytes, Predict]:
    """The ONNX model, with an input for each measurement, and the pipeline that it has to predict like."""
    forest = RandomForestClassifier(hyperparameters.trees, min_samples_leaf=hyperparameters.least_leaf)
    pipeline = make_pipeline(SelectKBest(f_classif, k=hyperparameters.features), forest)
    pipeline.fit(_table(train.inputs), train.truth)
    columns = [(name, FloatTensorType([None, 1])) for name in train.inputs]
    converted = skl2onnx.convert_sklearn(pipeline, initial_types=columns, options={"zipmap": False})
    return converted.SerializeToString(), lambda inputs: pipeline.predict_proba(_table(inputs))


def _table(inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    return np.stack(list(inputs.values()), axis=1)
