"""Several targets in a training: what does not fit is refused before it begins; the report has a part for each."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import model
from mlplatform.contract import gate
from mlplatform.contract.comparison import Opponent
from mlplatform.contract.criteria import Criteria
from mlplatform.contract.errors import PipelineError
from mlplatform.contract.parameters import TrainingParameters, parameters_type
from mlplatform.contract.targets import Classes, Number, Tags
from mlplatform.contract.targets.several import Several
from mlplatform.data.dataset import Split
from mlplatform.tests.training import test_report
from mlplatform.tests.training.preflighting import check
from mlplatform.tests.training.splits import split
from mlplatform.tests.training.test_preflight import Hyperparameters
from mlplatform.training import fitting, onnx_model, preflight, report
from mlplatform.training.export import Exported, export, predict_split
from mlplatform.training.findings import Compared, Findings
from mlplatform.training.phases import Phase

pytestmark = pytest.mark.long

TARGET = Several([Classes("kind", "abc"), Number("size", "cm"), Tags("traits", ("old", "loud"), (0.5, 0.5))])
PROPERTIES = {"x": {"type": "array", "items": {"type": "number"}}, "kind": {}, "size": {}, "traits": {}}
LOSSES = {"kind": "sparse_categorical_crossentropy", "size": "mse", "traits": "binary_crossentropy"}
# The truths of 40 rows, as the dataset holds them.
TRUTH = np.column_stack(
    [np.arange(40) % 3, np.arange(40) / 4, np.arange(40) % 2, np.arange(40) % 5 == 0],
).astype(np.float32)


def network(loss: Any = None, compiled: bool = True, **outputs: Any) -> keras.Model:
    """One with an output for each target, or with other ones in their place."""
    x = keras.Input((4,), name="x")
    given = {
        "kind": layers.Dense(3, activation="softmax")(x),
        "size": layers.Dense(1)(x),
        "traits": layers.Dense(2, activation="sigmoid")(x),
    }
    given |= {name: make(x) for name, make in outputs.items() if make}
    built = keras.Model({"x": x}, {name: one for name, one in given.items() if outputs.get(name, True)})
    if compiled:
        built.compile("adam", loss or LOSSES)
    return built


@pytest.fixture
def parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingParameters:
    (tmp_path / "service.toml").write_text("")
    monkeypatch.setenv("SERVICE_TOML", str(tmp_path / "service.toml"))
    monkeypatch.setattr(model, "Hyperparameters", Hyperparameters)
    monkeypatch.setattr(model, "RECORD", {"type": "object", "properties": PROPERTIES, "required": list(PROPERTIES)})
    monkeypatch.setattr(model, "TARGETS", TARGET.parts, raising=False)
    return parameters_type()(batch_size=8, litert=False)


@pytest.fixture
def rows(tmp_path: Path) -> Split:
    split(tmp_path, x=np.random.default_rng(1).normal(size=(40, 4)).astype(np.float32), label=TRUTH)
    return Split(tmp_path, "any", ["x"], TARGET)


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: network(size=False), "it must be a dict with an output for each of model.TARGETS, outputs={'kind', "),
        (lambda: network(other=layers.Dense(1)), "it must be a dict with an output for each of model.TARGETS"),
        (lambda: network(size=layers.Dense(2)), "it must be of 'size' one value for target 'size', (None, 1)"),
    ],
)
def test_outputs_that_are_not_one_for_each_are_refused_before_the_data_is_read(
    build: Callable[[], keras.Model], sentence: str, parameters: TrainingParameters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "build", lambda _: build())
    with pytest.raises(PipelineError) as refused:
        preflight.definition(parameters)
    assert sentence in str(refused.value)


def test_a_target_that_is_no_property_is_refused_before_the_data_is_read(
    parameters: TrainingParameters, monkeypatch: pytest.MonkeyPatch
) -> None:
    properties = {name: schema for name, schema in PROPERTIES.items() if name != "size"}
    monkeypatch.setattr(model, "RECORD", {"type": "object", "properties": properties})
    with pytest.raises(PipelineError, match=r"model\.RECORD has no property 'size', what is to be learned"):
        preflight.definition(parameters)


def test_a_split_by_the_one_label_is_refused_before_the_data_is_read(parameters: TrainingParameters) -> None:
    with pytest.raises(PipelineError, match="split_stratified = true: it divides by an example's one label"):
        preflight.definition(parameters.model_copy(update={"split_stratified": True}))


def test_an_onnx_model_of_several_targets_is_refused_before_the_data_is_read(parameters: TrainingParameters) -> None:
    with pytest.raises(PipelineError, match=r"which a network of model\.build can learn, and model\.train one"):
        onnx_model.definition(parameters)


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: network(compiled=False), "optimizer=..., loss={'kind': 'sparse_categorical_crossentropy', 'size': "),
        (lambda: network(loss="mse"), "loss='mse' must be a dict with a loss for each of model.TARGETS; compile with "),
        (lambda: network(loss={**LOSSES, "kind": "mse"}), "loss['kind']='mse' is not for labels"),
        (lambda: network(loss={**LOSSES, "size": "mistyped"}), "loss['size']='mistyped' is not known to Keras"),
        (lambda: network(traits=layers.Dense(2, bias_initializer="ones")), "output 'traits': the output is no probab"),
    ],
)
def test_a_network_that_does_not_learn_each_is_refused_by_the_first_rows(
    build: Callable[[], keras.Model],
    sentence: str,
    parameters: TrainingParameters,
    rows: Split,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(model, "build", lambda _: build())
    with pytest.raises(PipelineError) as refused:
        check(rows, parameters, TARGET, tmp_path)
    assert sentence in str(refused.value)


def test_a_network_with_an_output_for_each_passes_on_both_runtimes_in_whatever_order_they_are(
    parameters: TrainingParameters, rows: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "build", lambda _: network())
    monkeypatch.setenv("SERVING_RUNTIME", "litert")
    backwards = Several(TARGET.parts[::-1])
    turned = Split(tmp_path, "any", ["x"], backwards)
    check(rows, parameters.model_copy(update={"litert": True}), TARGET, tmp_path)
    signature = export(network(), backwards, tmp_path / "saved_model")
    assert [output["name"] for output in signature["outputs"]] == ["traits", "size", "kind"]
    predicted = predict_split(Exported(tmp_path / "saved_model", signature), turned, 8)
    assert predicted.shape == (40, 6)
    assert predicted[:, 3:].sum(axis=1) == pytest.approx(np.ones(40), abs=1e-5)


def test_weights_follow_from_the_truths_of_each(parameters: TrainingParameters, rows: Split) -> None:
    seen: list[set[str]] = []

    def weigh(truth: dict[str, Any]) -> Any:
        seen.append(set(truth))
        return 1.0 + (truth["size"][:, 0] > 5)

    phase = Phase("weighed", weigh=weigh)
    fitting.Fitting(network(), (rows, rows), parameters, phase).rehearse()
    assert seen
    assert all(names == {"kind", "size", "traits"} for names in seen)


def found(tmp_path: Path, off: float) -> Findings:
    """What a report is made of, of a model whose sizes are off by as much, beside one whose kinds are all wrong."""
    kind = np.eye(3)[TRUTH[:, 0].astype(int)] * 0.7 + 0.1
    traits = TRUTH[:, 2:] * 0.8 + 0.1
    size = TRUTH[:, 1] + np.where(np.arange(40) % 2, off, -off)
    predictions = np.column_stack([kind, size, traits]).astype(np.float32)
    theirs = np.column_stack([np.roll(kind, 1, axis=1), size + 0.5, traits]).astype(np.float32)
    made = test_report.findings(tmp_path / "alone", {"width": np.arange(6, dtype=np.float32)})
    (tmp_path / "test").mkdir()
    target, criteria = TARGET, TARGET.fitted(Criteria(by_default=True))
    test = split(tmp_path / "test", label=TRUTH, width=np.arange(40, dtype=np.float32))
    rows, other = target.rows(TRUTH, predictions), target.rows(TRUTH, theirs)
    measured = {
        **{name: made.metrics[name] for name in ("export_difference", "inference_ms", "bytes")},
        **target.metrics(rows),
    }
    opponent = target.compare("c0ffee000000", rows, other, criteria)
    constant = target.against_constant(rows, criteria, TRUTH)
    splits = {
        name: {"examples": 40, **target.described(TRUTH), "inputs": {}} for name in ("train", "validation", "test")
    }
    return replace(
        made,
        schema=replace(made.schema, target=target),
        dataset=replace(made.dataset, properties={**made.dataset.properties, "splits": splits}),
        metrics=measured,
        mistakes=report.collect_mistakes(target, test, rows),
        verdict=gate.judge(target, measured, criteria, opponent, constant),
        compared=Compared("c0ffee000000", "2026-11-01T08:00:00Z", target.metrics(other), other, False),
        test=rows,
    )


def test_the_report_has_a_part_for_each(tmp_path: Path) -> None:
    page = test_report.Page(report.render(found(tmp_path, off=0.1)))
    for told in (
        "Passed the gate",
        "kind.accuracy",
        "size.r2_score",
        "traits.macro_f1",
        "40 of the 40 examples in the test split are predicted right",
        "predictions are off by 0.1 cm in the mean",
        "all tags are right for 100.0 %",
        "this model alone gets 40 right and production alone 0",
        "size: says",
        "Wilcoxon",
    ):
        assert told in page.words, told


def test_the_report_says_which_closes_the_gate(tmp_path: Path) -> None:
    page = test_report.Page(report.render(found(tmp_path, off=20.0)))
    assert "The gate is closed" in page.words
    assert "size: r2_score" in page.words


def test_the_report_stands_without_production(tmp_path: Path) -> None:
    made = found(tmp_path, off=0.1)
    skipped = Opponent(skipped="there is no model in production yet")
    page = test_report.Page(
        report.render(replace(made, compared=None, verdict=replace(made.verdict, opponent=skipped)))
    )
    assert "Not compared: there is no model in production yet." in page.words
