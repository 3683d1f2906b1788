"""Networks whose input is a list of any length: preflight, batches by length, resuming, export, samples, baseline."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import model
from mlplatform.contract.drift import histogram
from mlplatform.contract.errors import PipelineError
from mlplatform.contract.lengths import Length
from mlplatform.contract.parameters import TrainingParameters, parameters_type
from mlplatform.contract.stopping import Stop, Stopped
from mlplatform.contract.targets import Classes
from mlplatform.data.columns import stored_arrays
from mlplatform.data.dataset import InputSpec, Split
from mlplatform.data.lists import packed
from mlplatform.store.storage import LocalStorage
from mlplatform.tests.training.preflighting import check
from mlplatform.training import preflight
from mlplatform.training.baseline import baseline
from mlplatform.training.checkpoints import Checkpoints
from mlplatform.training.export import Exported, export, input_specs
from mlplatform.training.fitting import by_length, fit, order
from mlplatform.training.phases import WHOLE

pytestmark = pytest.mark.long

LENGTH = Length(1, 12)
SPEC = InputSpec("x", (None, 2), "float32", length=LENGTH)
ITEM = {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "number"}}
LIST: dict[str, Any] = {"type": "array", "minItems": 1, "maxItems": 12, "items": ITEM}
RECORD = {
    "type": "object",
    "properties": {"x": LIST, "label": {"enum": ["a", "b", "c"]}},
    "required": ["x", "label"],
}
TARGET = Classes("label", "abc")


@dataclass(frozen=True)
class Hyperparameters:
    learning_rate: float = field(default=0.01)


class MeanOfItems(layers.Layer):  # type: ignore[misc]
    """Takes what fills a row up for items."""

    def call(self, inputs: Any) -> Any:
        return ops.mean(inputs, axis=1)


class UpTo(layers.Layer):  # type: ignore[misc]
    """Has weights for so many items."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.embedding = layers.Embedding(most, 2)

    def call(self, inputs: Any) -> Any:
        return inputs + self.embedding(ops.arange(ops.shape(inputs)[1]))


def network(read: Any = None, shape: tuple[int | None, ...] = (None, 2), dtype: str | None = None) -> Any:
    """A network that reads lists with a masked GRU, or with the layers given."""
    keras.utils.set_random_seed(1)
    x = keras.Input(shape, name="x", dtype=dtype)
    features = read(x) if read else layers.GRU(6)(layers.Masking()(x))
    built = keras.Model({"x": x}, layers.Dense(3, activation="softmax")(features))
    built.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return built


@pytest.fixture
def rows(tmp_path: Path) -> Split:
    """60 lists of 2 to 7 items."""
    random = np.random.default_rng(1)
    lengths = 2 + np.arange(60) % 6
    arrays: dict[str, Any] = stored_arrays(
        "x", packed(random.normal(size=(lengths.sum(), 2)).astype(np.float32), lengths)
    )
    arrays |= {"label": (np.arange(60, dtype=np.int32) % 3), "id": np.full(60, b"e")}
    (tmp_path / "any").mkdir()
    for name, array in arrays.items():
        np.save(tmp_path / "any" / f"00000.{name}.npy", array)
    return Split.of(tmp_path, "any", [SPEC])


@pytest.fixture
def parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingParameters:
    (tmp_path / "service.toml").write_text("")
    monkeypatch.setenv("SERVICE_TOML", str(tmp_path / "service.toml"))
    monkeypatch.setattr(model, "RECORD", RECORD)
    monkeypatch.setattr(model, "LABELS", ("a", "b", "c"))
    monkeypatch.setattr(model, "build", lambda _: network())
    monkeypatch.setattr(model, "Hyperparameters", Hyperparameters)
    return parameters_type()(litert=False, batch_size=16)


def test_a_masked_network_passes_the_preflight(parameters: TrainingParameters, rows: Split, tmp_path: Path) -> None:
    assert preflight.definition(parameters) == (SPEC,)
    check(rows, parameters, TARGET, tmp_path)


WITH_THE_ROWS = {
    "a mean over what fills up": (
        MeanOfItems(name="mean_of_items"),
        "where a longer row is beside it, for which it is filled up; layer 'mean_of_items' must leave out what",
    ),
    "a recurrent layer without a mask": (
        layers.GRU(6, name="gru"),
        "layer 'gru' must leave out what it is filled up with",
    ),
}


@pytest.mark.parametrize("fault", WITH_THE_ROWS)
def test_a_network_whose_prediction_depends_on_the_rows_beside_is_refused(
    fault: str, parameters: TrainingParameters, rows: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, sentence = WITH_THE_ROWS[fault]
    keras.backend.clear_session()
    monkeypatch.setattr(model, "build", lambda _: network(type(read).from_config(read.get_config())))
    with pytest.raises(PipelineError) as refused:
        check(rows, parameters, TARGET, tmp_path)
    assert sentence in str(refused.value)


def test_a_network_that_cannot_take_the_longest_list_is_refused(
    parameters: TrainingParameters, rows: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "build", lambda _: network(lambda x: layers.GRU(6)(layers.Masking()(UpTo(8)(x)))))
    sentence = "the layers fail on the dataset's first rows"
    with pytest.raises(PipelineError, match=sentence):
        check(rows, parameters, TARGET, tmp_path)


BEFORE_THE_DATA: dict[str, tuple[dict[str, Any], Any, str]] = {
    "no longest": (
        {"x": {"type": "array", "minItems": 1, "items": ITEM}},
        network,
        "input 'x' has shape (None, None, 2); only the batch may vary, and the length of a list of numbers that has "
        "another maxItems than minItems in model.RECORD",
    ),
    "one length": ({"x": LIST | {"minItems": 12}}, network, "input 'x' has shape (None, None, 2); only the batch"),
    "lists in lists": (
        {},
        lambda: network(lambda x: ops.sum(x, axis=(1, 2)), (None, None, 2)),
        "input 'x' has shape (None, None, None, 2); only the batch may vary",
    ),
    "text": (
        {},
        lambda: network(layers.StringLookup(vocabulary=["a"], output_mode="multi_hot"), (None,), "string"),
        "input 'x' has shape (None, None); only the batch may vary, and the length of a list of numbers",
    ),
    "may be missing": (
        {"x": LIST | {"type": ["array", "null"]}},
        network,
        "'x' is a list of any length and may be missing, which the network cannot be told; let required name it and "
        "its type leave null out, and let the data hold [] instead, with minItems 0",
    ),
    "no padding": ({"x": LIST | {"padding": "0"}}, network, "'x' has the padding '0', and the network takes it as"),
    "a padding that does not fit": (
        {"x": LIST | {"padding": 0.5}},
        lambda: network(lambda x: ops.cast(x, "float32")[:, 0], dtype="int32"),
        "'x' has the padding 0.5, and the network takes it as int32; use a number of this type, or leave it out for 0",
    ),
}


@pytest.mark.parametrize("fault", BEFORE_THE_DATA)
def test_before_the_data_is_read(fault: str, parameters: TrainingParameters, monkeypatch: pytest.MonkeyPatch) -> None:
    changed, build, sentence = BEFORE_THE_DATA[fault]
    monkeypatch.setattr(model, "RECORD", {**RECORD, "properties": {**RECORD["properties"], **changed}})  # type: ignore[dict-item]
    monkeypatch.setattr(model, "build", lambda _: build())
    with pytest.raises(PipelineError) as refused:
        preflight.definition(parameters)
    assert sentence in str(refused.value)


def test_batches_are_of_about_one_length_and_every_example_comes_once() -> None:
    lengths = np.random.default_rng(0).integers(1, 500, 1000)
    indices = by_length(order(1000, 1, 0), lengths, 16, 1, 0)
    assert sorted(indices) == list(range(1000))
    full = lengths[indices[:992]].reshape(-1, 16)
    assert (full.max(axis=1) - full.min(axis=1)).mean() < 20
    # But the batches come in no order.
    assert abs(np.corrcoef(np.arange(len(full)), full.mean(axis=1))[0, 1]) < 0.5


def test_the_order_follows_from_seed_and_epoch() -> None:
    lengths = np.arange(1000) % 37

    def of(seed: int, epoch: int) -> list[int]:
        return list(by_length(order(1000, seed, epoch), lengths, 16, seed, epoch))

    assert of(1, 0) == of(1, 0)
    assert of(1, 0) != of(1, 1)
    assert of(1, 0) != of(2, 0)


@pytest.mark.nightly
def test_stopped_after_every_step_it_ends_as_if_it_had_not_been(
    parameters: TrainingParameters, rows: Split, tmp_path: Path
) -> None:
    few = parameters.model_copy(update={"epochs": 2})

    def attempt(stop: Stop) -> Any:
        built = network()
        checkpoints = Checkpoints(LocalStorage(tmp_path / "store"), "r")
        reached = fit(built, WHOLE, (rows, rows), few, checkpoints, stop)
        checkpoints.clear()
        return reached, built.get_weights()

    alone, weights = attempt(Stop())
    stops = 0
    while True:
        stop = Stop()
        stop.asked = True
        try:
            again, resumed = attempt(stop)
        except Stopped:
            stops += 1
            continue
        break
    assert again.resumed == stops >= 7
    assert again.history == alone.history
    for one, other in zip(weights, resumed, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_export_takes_lists_of_any_length(rows: Split, tmp_path: Path) -> None:
    built = network()
    specs = input_specs(built, TARGET, {"x": LENGTH})
    signature = export(built, TARGET, tmp_path / "saved_model", specs)
    described = {"name": "x", "shape": [None, None, 2], "dtype": "float32"}
    assert signature["inputs"] == [described | {"length": {"least": 1, "most": 12, "padding": 0}}]
    exported = Exported(tmp_path / "saved_model", signature)
    for few in (np.array([0]), np.array([5, 0])):
        inputs, _ = rows.take(few)
        np.testing.assert_allclose(exported(inputs), built(inputs), atol=1e-6)


def test_the_baseline_is_of_items_and_of_lengths(rows: Split) -> None:
    found = baseline(rows, [SPEC], np.full((4, 3), 1 / 3, np.float32), TARGET)
    items = np.concatenate(rows.rows("x", np.arange(len(rows))))
    assert found["inputs"]["x"] == histogram(items)
    assert found["lengths"]["x"] == histogram(2 + np.arange(60) % 6)
