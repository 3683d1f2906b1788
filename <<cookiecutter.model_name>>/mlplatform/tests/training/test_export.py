"""What the pipeline asks of a network, and what is exported."""

from pathlib import Path

import keras
import numpy as np
import pytest

from mlplatform.contract.errors import PipelineError
from mlplatform.contract.targets import Classes, Number
from mlplatform.data.dataset import InputSpec
from mlplatform.training.export import Exported, export, input_specs


def of(classes: int) -> Classes:
    return Classes("label", range(classes))


def network(classes: int = 2) -> keras.Model:
    x, t = keras.Input((3,), name="x"), keras.Input((), name="t", dtype="int32")
    joined = keras.layers.Concatenate()([x, keras.ops.cast(t, "float32")[:, None]])
    return keras.Model(inputs={"x": x, "t": t}, outputs=keras.layers.Dense(classes, activation="softmax")(joined))


def test_inputs_are_taken_from_the_network() -> None:
    assert set(input_specs(network(), of(2))) == {InputSpec("x", (3,), "float32"), InputSpec("t", (), "int32")}


def test_the_exported_model_predicts_what_the_network_does_for_any_batch(tmp_path: Path) -> None:
    built = network()
    signature = export(built, of(2), tmp_path)
    assert {"name": "t", "shape": [None], "dtype": "int32"} in signature["inputs"]
    assert signature["outputs"] == [{"name": "probabilities", "shape": [None, 2], "dtype": "float32"}]
    exported = Exported(tmp_path, signature)
    for batch in (1, 5):
        inputs = {"x": np.ones((batch, 3), np.float32), "t": np.arange(batch, dtype=np.int32)}
        np.testing.assert_allclose(exported(inputs), built(inputs), atol=1e-6)


def test_inputs_without_names_are_refused() -> None:
    x = keras.Input((3,))
    with pytest.raises(PipelineError, match=r"give keras\.Model its inputs as a dict by name"):
        input_specs(keras.Model(x, keras.layers.Dense(2)(x)), of(2))


def test_inputs_of_varying_shape_are_refused() -> None:
    x = keras.Input((None, 3), name="x")
    built = keras.Model(inputs={"x": x}, outputs=keras.layers.GlobalAveragePooling1D()(x))
    with pytest.raises(PipelineError, match=r"input 'x' has shape \(None, None, 3\); only the batch may vary"):
        input_specs(built, of(3))


def test_inputs_that_only_differ_in_capital_letters_are_refused() -> None:
    inputs = {name: keras.Input((3,), name=name) for name in ("x", "X")}
    built = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Concatenate()(list(inputs.values()))))
    with pytest.raises(PipelineError, match=r"inputs 'x' and 'X' are one to TensorFlow, which does not tell capital"):
        input_specs(built, of(2))


def test_an_output_that_does_not_fit_the_labels_is_refused() -> None:
    with pytest.raises(
        PipelineError, match=r"the output has shape \(None, 3\); it must be one probability .* 2 labels"
    ):
        input_specs(network(classes=3), of(2))


def test_a_number_is_one_value_a_row_and_the_output_has_its_name(tmp_path: Path) -> None:
    x = keras.Input((3,), name="x")
    built = keras.Model({"x": x}, keras.layers.Dense(1)(x))
    signature = export(built, Number("price"), tmp_path)
    assert signature["outputs"] == [{"name": "price", "shape": [None], "dtype": "float32"}]
    inputs = {"x": np.ones((5, 3), np.float32)}
    np.testing.assert_allclose(Exported(tmp_path, signature)(inputs), np.ravel(built(inputs)), atol=1e-6)


def test_an_output_of_more_than_a_number_is_refused() -> None:
    with pytest.raises(PipelineError, match=r"must be one value for target 'price', \(None, 1\)"):
        input_specs(network(classes=3), Number("price"))
