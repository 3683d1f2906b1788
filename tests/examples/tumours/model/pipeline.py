"""The model: a pipeline of scikit-learn, a logistic regression over scaled measurements, converted to ONNX."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import skl2onnx  # type: ignore[import-untyped]
from numpy.typing import NDArray
from skl2onnx.common.data_types import FloatTensorType  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlplatform.contract.examples import Examples
from model.hyperparameters import Hyperparameters

Predict = Callable[[Mapping[str, NDArray[Any]]], NDArray[Any]]


def train(hyperparameters: Hyperparameters, train: Examples) -> tuple[bytes, Predict]:
    """The ONNX model, with an input for each measurement, and the pipeline that it has to predict like."""
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=hyperparameters.inverse_penalty, max_iter=1000))
    pipeline.fit(_table(train.inputs), train.truth)
    columns = [(name, FloatTensorType([None, 1])) for name in train.inputs]
    converted = skl2onnx.convert_sklearn(pipeline, initial_types=columns, options={"zipmap": False})
    return converted.SerializeToString(), lambda inputs: pipeline.predict_proba(_table(inputs))


def _table(inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    return np.stack(list(inputs.values()), axis=1)
