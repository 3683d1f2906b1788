"""What cannot work ends before the training starts, with a sentence that says what in `model/` to change."""

from collections.abc import Callable
from dataclasses import dataclass, field, make_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import model
from mlplatform.config.settings import SettingsError
from mlplatform.contract.errors import PipelineError
from mlplatform.contract.parameters import TrainingParameters, parameters_type
from mlplatform.contract.stopping import Stop
from mlplatform.contract.targets import Classes
from mlplatform.data.dataset import InputSpec, Split
from mlplatform.store.storage import LocalStorage
from mlplatform.tests.training.preflighting import check
from mlplatform.tests.training.splits import split
from mlplatform.training import devices, preflight
from mlplatform.training.checkpoints import Checkpoints
from mlplatform.training.fitting import Fitting

pytestmark = pytest.mark.long

RECORD = {
    "type": "object",
    "properties": {"x": {"type": "array", "items": {"type": "number"}}, "label": {"enum": ["a", "b", "c"]}},
    "required": ["x", "label"],
}
TARGET = Classes("label", "abc")

SPARSE = "sparse_categorical_crossentropy"


@dataclass(frozen=True)
class Hyperparameters:
    learning_rate: float = field(default=0.01)


class PerClass(keras.metrics.Metric):  # type: ignore[misc]
    """A value for each class."""

    def __init__(self) -> None:
        super().__init__(name="recalls")
        self.hits = self.add_weight(shape=(3,), initializer="zeros", name="hits")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.hits.assign_add(ops.sum(y_pred, 0))

    def result(self) -> Any:
        return self.hits


class RandomAlways(layers.Layer):  # type: ignore[misc]
    """Random where it should not be: when it serves."""

    def call(self, inputs: Any) -> Any:
        return inputs + keras.random.normal(ops.shape(inputs))


class MeanOfBatch(layers.Layer):  # type: ignore[misc]
    """Depends on the rows that come along."""

    def call(self, inputs: Any) -> Any:
        return inputs - ops.mean(inputs, axis=0, keepdims=True)


class Brightness(layers.Layer):  # type: ignore[misc]
    """The mean of an image file's pixels, (batch, 1)."""

    def call(self, files: Any) -> Any:
        def mean(file: Any) -> Any:
            return tf.reduce_mean(tf.cast(tf.io.decode_image(file, expand_animations=False), tf.float32), keepdims=True)

        return tf.map_fn(mean, files, tf.float32)[:, 0, 0]

    def compute_output_spec(self, files: Any) -> Any:
        return keras.KerasTensor((*files.shape, 1), "float32")


class Subclassed(keras.Model):  # type: ignore[misc]
    def call(self, inputs: Any) -> Any:
        return layers.Dense(3)(inputs["x"])


def network(
    name: str = "x", activation: str | None = "softmax", middle: Any = None, compiled: bool = True, **given: Any
) -> Any:
    x = keras.Input((4,), name=name.replace("/", "_"))
    features = middle(x) if middle else x
    built = keras.Model(inputs={name: x}, outputs=layers.Dense(3, activation=activation)(features))
    if compiled:
        built.compile(**{"optimizer": "adam", "loss": SPARSE, "metrics": ["accuracy"], **given})
    return built


def raises() -> Any:
    raise ValueError("the number of units is odd")


def subclassed() -> Any:
    built = Subclassed()
    built.compile("adam", SPARSE)
    return built


@pytest.fixture
def parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingParameters:
    (tmp_path / "service.toml").write_text("")
    monkeypatch.setenv("SERVICE_TOML", str(tmp_path / "service.toml"))
    monkeypatch.setattr(model, "Hyperparameters", Hyperparameters)
    monkeypatch.setattr(model, "RECORD", RECORD)
    monkeypatch.setattr(model, "LABELS", ("a", "b", "c"))
    return parameters_type()(litert=False)


@pytest.fixture
def rows(tmp_path: Path) -> Split:
    random = np.random.default_rng(1)
    return split(tmp_path, x=random.normal(size=(40, 4)).astype(np.float32), label=np.arange(40, dtype=np.int32) % 3)


BEFORE_THE_DATA: dict[str, tuple[Callable[[], Any], str]] = {
    "returns nothing": (lambda: None, "it returns NoneType; end it with `return network`"),
    "raises": (raises, " raises ValueError: the number of units is odd"),
    "a subclass without shapes": (subclassed, "the network has no inputs, as a subclass of keras.Model"),
    "an input the record lacks": (
        lambda: network("y"),
        "input 'y' is no property of model.RECORD; its properties are: x",
    ),
    "a batch of its own": (
        lambda: keras.Model({"x": (x := keras.Input(batch_shape=(8, 4), name="x"))}, layers.Dense(3)(x)),
        "input 'x' has a batch of 8 rows; the server's varies, so leave out batch_size and batch_shape",
    ),
    "an input that no request can carry": (
        lambda: keras.Model({"x": (x := keras.Input((4,), dtype="bfloat16", name="x"))}, layers.Dense(3)(x)),
        "input 'x' is bfloat16, which no request can carry; use one of bool, uint8",
    ),
    "an input called label": (lambda: network("label"), "an input cannot be called 'label'"),
    **{
        name: (partial(network, name), f"input {name!r} needs a name that TensorFlow takes as it is")
        for name in ("sepal length (cm)", "1st", "a.b", "größe", "a/b", "self", "class")
    },
}


@pytest.mark.parametrize("fault", BEFORE_THE_DATA)
def test_before_the_data_is_read(fault: str, parameters: TrainingParameters, monkeypatch: pytest.MonkeyPatch) -> None:
    build, sentence = BEFORE_THE_DATA[fault]
    monkeypatch.setattr(model, "build", lambda hyperparameters: build())
    with pytest.raises(PipelineError) as refused:
        preflight.definition(parameters)
    assert sentence in str(refused.value)


WITH_THE_FIRST_ROWS: dict[str, tuple[Callable[[], Any], str]] = {
    "no compile": (lambda: network(compiled=False), "the network is not compiled; call network.compile("),
    "one-hot": (lambda: network(loss="categorical_crossentropy"), "loss='categorical_crossentropy' is not for labels"),
    "binary": (lambda: network(loss=keras.losses.BinaryCrossentropy()), "loss='BinaryCrossentropy' is not for labels"),
    "mse": (lambda: network(loss="mse"), "loss='mse' is not for labels that are positions in model.LABELS; use"),
    "a typo": (lambda: network(loss="sparse_crossentropy"), "loss='sparse_crossentropy' is not known to Keras"),
    "a value per class": (lambda: network(metrics=[PerClass()]), "metric 'recalls' has a value of shape (3,)"),
    "a metric for one-hot": (lambda: network(metrics=[keras.metrics.F1Score()]), "a metric given to compile fails: "),
    "steps_per_execution": (lambda: network(steps_per_execution=4), "leave out steps_per_execution=4"),
    "random when it serves": (
        lambda: network(middle=RandomAlways(name="jitter")),
        "layer 'jitter' must not be random where training is False",
    ),
    "rows that are not alone": (
        lambda: network(middle=lambda x: MeanOfBatch(name="centred")(layers.Rescaling(9)(x))),
        "layer 'centred' must compute each row by itself",
    ),
    "logits": (
        lambda: network(activation=None, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)),
        "the output is no probability",
    ),
}


@pytest.mark.parametrize("fault", WITH_THE_FIRST_ROWS)
def test_with_the_first_rows(
    fault: str, parameters: TrainingParameters, rows: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, sentence = WITH_THE_FIRST_ROWS[fault]
    monkeypatch.setattr(model, "build", lambda hyperparameters: build())
    with pytest.raises(PipelineError) as refused:
        check(rows, parameters, TARGET, tmp_path)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


MAY_BE_NULL = {**RECORD["properties"], "x": {"type": "array", "items": {"type": ["number", "null"]}}}  # type: ignore[dict-item]


def filled(x: Any) -> Any:
    return ops.where(ops.isnan(x), 0.0, x)


WHERE_INPUTS_ARE_MISSING: dict[str, tuple[Callable[[Any], Any], str]] = {
    "nothing is done": (lambda x: x, "where 'x' is missing, which model.RECORD allows, the network is given NaN and"),
    "only the whole is looked at": (
        lambda x: ops.where(ops.all(ops.isnan(x), axis=1, keepdims=True), 0.0, x),
        "where a value of 'x' is missing, which",
    ),
    "too late for the gradient": (
        lambda x: filled(layers.Dense(4)(x)),
        "after a training step on rows where inputs are missing, which model.RECORD allows, weights are NaN; replace",
    ),
}


@pytest.mark.parametrize("fault", WHERE_INPUTS_ARE_MISSING)
def test_a_network_that_cannot_do_with_what_may_be_missing_is_refused(
    fault: str, parameters: TrainingParameters, rows: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    middle, sentence = WHERE_INPUTS_ARE_MISSING[fault]
    monkeypatch.setattr(model, "RECORD", {**RECORD, "properties": MAY_BE_NULL})
    monkeypatch.setattr(model, "build", lambda _: network(middle=middle))
    with pytest.raises(PipelineError) as refused:
        check(rows, parameters, TARGET, tmp_path)
    assert sentence in str(refused.value)


def test_a_network_that_replaces_what_is_missing_passes_on_both_runtimes(
    parameters: TrainingParameters, rows: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "RECORD", {**RECORD, "required": ["label"]})
    monkeypatch.setattr(model, "build", lambda _: network(middle=filled))
    (spec,) = preflight.definition(parameters)
    assert spec == InputSpec("x", (4,), "float32", nullable=True)
    monkeypatch.setenv("SERVING_RUNTIME", "litert")
    check(rows, parameters.model_copy(update={"litert": True}), TARGET, tmp_path)


def of_dtype(dtype: str) -> Any:
    """A network whose input `x` is four values of a dtype."""
    x = keras.Input((4,), name="x", dtype=dtype)
    text = dtype == "string"
    numbers = layers.StringLookup(vocabulary=["a"], output_mode="multi_hot")(x) if text else ops.cast(x, "float32")
    return keras.Model({"x": x}, layers.Dense(3)(numbers))


@pytest.mark.parametrize(("dtype", "instead"), [("int32", "-1"), ("string", '""'), ("bool", "false")])
def test_null_for_an_input_that_has_no_nan_is_refused_before_the_data_is_read(
    dtype: str, instead: str, parameters: TrainingParameters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "RECORD", {**RECORD, "properties": MAY_BE_NULL})
    monkeypatch.setattr(model, "build", lambda _: of_dtype(dtype))
    with pytest.raises(PipelineError) as refused:
        preflight.definition(parameters)
    assert f"'x' may be null, and the network takes it as {dtype}, which has no value for that" in str(refused.value)
    assert f'name one that stands for it, such as "missing": {instead}, or let the network' in str(refused.value)


def x_of(kind: str, **more: Any) -> dict[str, Any]:
    """The record with four values of a type as `x`, each of which may be null."""
    x = {"type": "array", "items": {"type": [kind, "null"]}, **more}
    return {**RECORD, "properties": {**RECORD["properties"], "x": x}}  # type: ignore[dict-item]


@pytest.mark.parametrize(("kind", "dtype", "missing"), [("integer", "int32", -1), ("string", "string", "?")])
def test_a_value_that_the_schema_names_stands_for_what_is_missing(
    kind: str, dtype: str, missing: Any, parameters: TrainingParameters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "RECORD", x_of(kind, missing=missing))
    monkeypatch.setattr(model, "build", lambda _: of_dtype(dtype))
    assert preflight.definition(parameters) == (InputSpec("x", (4,), dtype, missing=missing),)


@pytest.mark.parametrize(
    ("x", "dtype", "sentence"),
    [
        ({"missing": "none"}, "int32", "names missing = 'none', and the model takes it as int32; name a whole number"),
        ({"missing": 2**31}, "int32", "takes it as int32; name a whole number from -2147483648 to 2147483647"),
        ({"missing": 0}, "string", "names missing = 0, and the model takes it as string; name text"),
        ({"missing": 0}, "bool", "names missing = 0, and the model takes it as bool; name true or false"),
        (
            {"missing": 0, "items": {}},
            "int32",
            "is never missing; let its type have null, or required leave",
        ),
    ],
)
def test_a_value_that_cannot_stand_for_it_is_refused(
    x: dict[str, Any], dtype: str, sentence: str, parameters: TrainingParameters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "RECORD", x_of("integer", **x))
    monkeypatch.setattr(model, "build", lambda _: of_dtype(dtype))
    with pytest.raises(PipelineError) as refused:
        preflight.definition(parameters)
    assert sentence in str(refused.value)


def test_the_preflight_tries_the_value_that_stands_for_what_is_missing(
    parameters: TrainingParameters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rows").mkdir()
    rows = split(tmp_path / "rows", x=np.zeros((8, 4), np.int32))
    whole = keras.Input((4,), name="x", dtype="int32")
    # 9 is no place of the table.
    hidden = layers.Flatten()(layers.Embedding(3, 2, name="table")(whole))
    embedded = keras.Model({"x": whole}, layers.Dense(3, activation="softmax")(hidden))
    embedded.compile("adam", "sparse_categorical_crossentropy")
    monkeypatch.setattr(model, "RECORD", x_of("integer", missing=9))
    monkeypatch.setattr(model, "build", lambda _: embedded)
    with pytest.raises(PipelineError, match="the layers fail on the dataset's first rows"):
        check(rows, parameters, TARGET, tmp_path)


def test_bytes_are_an_input_of_strings(parameters: TrainingParameters, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/jpeg"}
    photos = {"type": "array", "items": photo}
    monkeypatch.setattr(model, "RECORD", {**RECORD, "properties": {**RECORD["properties"], "x": photos}})  # type: ignore[dict-item]
    monkeypatch.setattr(model, "build", lambda _: of_dtype("string"))
    assert preflight.definition(parameters) == (InputSpec("x", (4,), "string", media_type="image/jpeg"),)
    monkeypatch.setattr(model, "build", lambda _: network())
    with pytest.raises(PipelineError, match="'x' is bytes in base64, and the network takes it as float32; give its"):
        preflight.definition(parameters)


def test_a_file_that_the_network_cannot_decode_is_named_before_the_training(
    parameters: TrainingParameters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(_: Any) -> keras.Model:
        photo = keras.Input((), name="photo", dtype="string")
        built = keras.Model({"photo": photo}, layers.Dense(3, activation="softmax")(Brightness()(photo)))
        built.compile("adam", SPARSE)
        return built

    photo = {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/png"}
    monkeypatch.setattr(model, "RECORD", {"type": "object", "properties": {"photo": photo, **RECORD["properties"]}})  # type: ignore[dict-item]
    monkeypatch.setattr(model, "build", build)
    files = [tf.io.encode_png(tf.fill((4, 6, 1), tf.constant(grey, tf.uint8))).numpy() for grey in range(100)]
    (tmp_path / "good").mkdir()
    (tmp_path / "bad").mkdir()
    splits = {"train": split(tmp_path / "good", photo=np.array(files))}
    inputs = preflight.definition(parameters)
    preflight.check_files(splits, parameters, inputs)
    files[70] = files[70][:30]
    splits["test"] = split(tmp_path / "bad", photo=np.array(files))
    with pytest.raises(PipelineError) as refused:
        preflight.check_files(splits, parameters, inputs)
    assert "the network cannot compute example 'e70' of the test split: " in str(refused.value)
    assert "mend or remove its record" in str(refused.value)


def test_the_training_split_is_for_a_build_that_asks_for_it(
    parameters: TrainingParameters, rows: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []

    def build(hyperparameters: Any, train: Split | None = None) -> keras.Model:
        given.append(train if train is None else train.column(train.inputs[0]))
        return network()

    monkeypatch.setattr(model, "build", build)
    preflight.definition(parameters)
    preflight.build(parameters, rows)
    assert given[0] is None
    np.testing.assert_array_equal(given[1], rows.take(np.arange(len(rows)))[0][rows.inputs[0]])


def test_a_schedule_and_a_plateau_exclude_each_other(
    parameters: TrainingParameters, rows: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 100)
    monkeypatch.setattr(model, "build", lambda _: network(optimizer=keras.optimizers.Adam(schedule)))
    check(rows, parameters, TARGET, tmp_path)
    with pytest.raises(PipelineError, match="the optimizer has a learning-rate schedule, and plateau_patience"):
        check(rows, parameters.model_copy(update={"plateau_patience": 1}), TARGET, tmp_path)


def test_a_record_that_is_no_json_schema_is_refused(
    parameters: TrainingParameters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "RECORD", {"type": "object", "properties": {"x": {"type": "nubmer"}}})
    with pytest.raises(PipelineError, match=r"model\.RECORD is no valid JSON Schema: properties\.x\.type: "):
        preflight.definition(parameters)


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        ([], r"model\.RECORD is list; it must be a JSON Schema, a dict"),
        ({"properties": {"x": {}}}, r"model\.RECORD has no property 'label'"),
    ],
)
def test_a_record_without_what_is_to_be_learned_is_refused(
    record: Any, sentence: str, parameters: TrainingParameters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "RECORD", record)
    with pytest.raises(PipelineError, match=sentence):
        preflight.definition(parameters)


def test_a_property_that_no_input_uses_is_named(
    parameters: TrainingParameters, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    properties = {**RECORD["properties"], "id": {}, "colour": {"type": "string"}}  # type: ignore[dict-item]
    monkeypatch.setattr(model, "RECORD", {**RECORD, "properties": properties})
    monkeypatch.setattr(model, "build", lambda hyperparameters: network())
    preflight.definition(parameters)
    (warning,) = caplog.messages
    assert warning.endswith("so nothing is learned from it: model.RECORD's 'colour'")


def recurrent(x: Any) -> Any:
    return layers.GRU(4)(layers.Reshape((2, 2))(x))


def test_a_network_that_litert_cannot_compute_is_refused_where_litert_is_to_serve_it(
    parameters: TrainingParameters,
    rows: Split,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(model, "build", lambda _: network(middle=recurrent))
    check(rows, parameters.model_copy(update={"litert": True}), TARGET, tmp_path)
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    (warning,) = (record.getMessage() for record in warnings if record.name == preflight.__name__)
    assert warning.startswith("train: there will be no copy for LiteRT: op tf.TensorListReserve requires ")
    monkeypatch.setenv("SERVING_RUNTIME", "litert")
    with pytest.raises(PipelineError, match=r"LiteRT cannot compute the network \(.*\), and \[serving\] runtime = "):
        check(rows, parameters, TARGET, tmp_path)


@pytest.mark.parametrize(
    ("name", "given", "sentence"),
    [
        ("units", {}, r"model\.Hyperparameters\.units has no default; give it one: units: int = "),
        ("epochs", {"default": 3}, r"model\.Hyperparameters\.epochs: the pipeline has a parameter of this name"),
        ("model_copy", {"default": 3}, r"model\.Hyperparameters\.model_copy: no parameter can have this name"),
        ("help", {"default": 3}, r"model\.Hyperparameters\.help: no parameter can have this name"),
    ],
)
def test_hyperparameters_have_defaults_and_names_of_their_own(
    name: str, given: dict[str, Any], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "Hyperparameters", make_dataclass("H", [(name, int, field(**given))]))
    with pytest.raises(SettingsError, match=sentence):
        parameters_type()


def test_the_runs_result_is_the_same_with_and_without(
    parameters: TrainingParameters, rows: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "build", lambda _: network(middle=layers.Dropout(0.5)))

    def trained(checked: bool) -> list[Any]:
        if checked:
            check(rows, parameters, TARGET, tmp_path)
        devices.seed(parameters)
        built = preflight.build(parameters)
        few = parameters.model_copy(update={"epochs": 1})
        Fitting(built, (rows, rows), few).run(Checkpoints(LocalStorage(tmp_path / "store"), "r"), Stop())
        return list(built.get_weights())

    for with_it, without in zip(trained(True), trained(False), strict=True):
        np.testing.assert_array_equal(with_it, without)
