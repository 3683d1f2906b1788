"""A model that `model.train` makes: from its records to answers, and what is refused before it is trained."""

import json
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import model
from mlplatform.contract.errors import PipelineError
from mlplatform.contract.examples import Examples
from mlplatform.contract.parameters import TrainingParameters, parameters_type
from mlplatform.contract.targets import Classes, Number, Target
from mlplatform.data.dataset import InputSpec, Split
from mlplatform.store.manifest import read_directory
from mlplatform.tests import conftest, onnx_models
from mlplatform.tests.model_contract import protocols
from mlplatform.tests.onnx_models import DOUBLE, FLOAT, linear, node
from mlplatform.tests.serving.running import NAME, serving
from mlplatform.tests.training.splits import split
from mlplatform.training import onnx_model

TABLE = Path(__file__).parent / "table"
TARGET = Classes("label", ("a", "b", "c"))
RECORD = {
    "type": "object",
    "properties": {"x": {"type": "number"}, "y": {"type": "number"}, "label": {"enum": ["a", "b", "c"]}},
    "required": ["x", "y", "label"],
}
SPECS = (InputSpec("x", (), "float32"), InputSpec("y", (), "float32"))
EYE = np.eye(2, 3, dtype=np.float32)


@dataclass(frozen=True)
class Hyperparameters:
    """None of them."""


@pytest.fixture
def parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingParameters:
    (tmp_path / "service.toml").write_text("")
    monkeypatch.setenv("SERVICE_TOML", str(tmp_path / "service.toml"))
    monkeypatch.setenv("SERVING_RUNTIME", "onnx")
    for name, value in {"Hyperparameters": Hyperparameters, "RECORD": RECORD, "LABELS": ("a", "b", "c")}.items():
        monkeypatch.setattr(model, name, value)
    monkeypatch.delattr(model, "build")
    return parameters_type()()


@pytest.fixture
def rows(tmp_path: Path) -> Split:
    """40 of the first two labels, and then as many of the third."""
    values = np.random.default_rng(1).normal(size=(2, 160)).astype(np.float32)
    labels = np.repeat([0, 1, 2], [80, 40, 40]).astype(np.int32)
    return split(tmp_path, x=values[0], y=values[1], label=labels)


class Trainings:
    """A `train` that gives the same model each time, and keeps what it was called with."""

    def __init__(self, gives: Any) -> None:
        self.gives = gives
        self.calls: list[tuple[Examples, Examples]] = []

    def __call__(self, hyperparameters: Hyperparameters, train: Examples, validation: Examples) -> Any:
        self.calls.append((train, validation))
        return self.gives() if callable(self.gives) else self.gives


def check(
    monkeypatch: pytest.MonkeyPatch,
    given: Any,
    rows: Split,
    parameters: TrainingParameters,
    work: Path,
    target: Target = TARGET,
) -> Trainings:
    trainings = Trainings(given)
    monkeypatch.setattr(model, "train", trainings, raising=False)
    onnx_model.check(rows, rows, parameters, SPECS, target, work)
    return trainings


def test_a_model_goes_from_its_records_to_answers_by_every_protocol(tmp_path: Path) -> None:
    (tmp_path / "service.toml").write_text(f'[service]\nname = "{NAME}"\n[serving]\nruntime = "onnx"\n')
    (tmp_path / "data").mkdir()
    chance = random.Random(1)
    with (tmp_path / "data" / "table.jsonl").open("w") as file:
        for number in range(300):
            x, count, colour = chance.uniform(-3, 3), chance.randint(0, 4), chance.choice(["red", "blue"])
            score = x + count - 2 + 2 * (colour == "red")
            record = {"id": f"e{number}", "x": x, "count": count, "colour": colour, "patient": f"p{number % 50}"}
            file.write(json.dumps({**record, "label": "above" if score > 0 else "below"}) + "\n")
    environment = {"PYTHONPATH": os.pathsep.join([str(TABLE), str(conftest.ROOT)])}
    arguments = ("train", "--source", "data")
    trained = conftest.run(tmp_path, *arguments, **environment)
    assert trained.returncode == 0, trained.stdout + trained.stderr
    assert "train: not in model.INPUTS, so nothing is learned from: patient" in trained.stdout

    (version,) = (tmp_path / "store" / "models").iterdir()
    manifest, content = read_directory(version)
    properties = manifest.properties
    assert (content / "model.onnx").is_file()
    assert properties["runtimes"] == {
        "onnx": {"path": "model.onnx", "valid": True},
        "tensorflow": {"valid": False, "reason": "it is an ONNX model"},
        "litert": {"valid": False, "reason": "it is an ONNX model"},
    }
    assert {tensor["name"]: tensor["dtype"] for tensor in properties["signature"]["inputs"]} == {
        "x": "float32",
        "count": "int64",
        "colour": "string",
    }
    assert properties["metrics"]["accuracy"] > 0.9
    assert "onnxruntime" in properties["packages"]
    assert (content / "report.html").read_text(encoding="utf-8").count("The run has recorded no epochs.") == 1

    again = conftest.run(tmp_path, *arguments, **environment)
    assert "nothing to do" in again.stdout, again.stdout + again.stderr

    instances = [sample["instance"] for sample in properties["samples"]]
    with serving(tmp_path / "service.toml") as running:
        running.wait_for(200)
        first = protocols.v1_rows(running, instances)["probabilities"]
        for ask in (protocols.v1_columns, protocols.v2_json, protocols.v2_binary):
            found = ask(running, instances)["probabilities"]
            np.testing.assert_allclose(found, first, atol=1e-6, err_msg=ask.__name__)
    predicted = [properties["labels"][index] for index in first.argmax(axis=1)]
    assert sum(a == sample["label"] for a, sample in zip(predicted, properties["samples"], strict=True)) >= 4


def test_the_preflight_trains_on_a_few_rows_of_every_label(
    parameters: TrainingParameters, rows: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings = check(monkeypatch, linear("xy", EYE), rows, parameters, tmp_path)
    ((train, validation),) = trainings.calls
    assert np.bincount(train.truth).tolist() == [80, 20, 10]
    assert len(validation) == len(train)
    assert {name: array.shape for name, array in train.inputs.items()} == {"x": (110,), "y": (110,)}


@pytest.mark.parametrize("form", ["bytes", "path", "object"])
def test_a_model_is_given_as_bytes_as_a_path_or_as_what_becomes_bytes(
    form: str, parameters: TrainingParameters, rows: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = linear("xy", EYE)
    (tmp_path / "its.onnx").write_bytes(content)

    class Proto:
        def SerializeToString(self) -> bytes:  # noqa: N802 - the name that ONNX's own objects have
            return content

    given = {"bytes": content, "path": tmp_path / "its.onnx", "object": Proto()}[form]
    check(monkeypatch, given, rows, parameters, tmp_path)


def of_linear(inputs: Mapping[str, Any], shift: float = 0.0) -> Any:
    scores = np.exp(np.stack([inputs["x"] + shift, inputs["y"], np.zeros_like(inputs["x"])], axis=1))
    return scores / scores.sum(axis=1, keepdims=True)


def test_what_the_model_predicted_before_it_was_converted_is_held_against_it(
    parameters: TrainingParameters, rows: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = linear("xy", EYE)
    check(monkeypatch, (content, of_linear), rows, parameters, tmp_path)
    with pytest.raises(PipelineError, match=r"for 110 rows the ONNX model differs by 0\.\d+ from the predict that"):
        check(monkeypatch, (content, partial(of_linear, shift=1.0)), rows, parameters, tmp_path)
    with pytest.raises(PipelineError, match="the predict that it returns raises KeyError: 'z'"):
        check(monkeypatch, (content, lambda inputs: inputs["z"]), rows, parameters, tmp_path)


def test_a_number_is_the_one_column_that_comes_out(
    parameters: TrainingParameters, rows: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = graph(output="price", width=1)
    check(monkeypatch, given, rows, parameters, tmp_path, Number("price"))
    with pytest.raises(
        PipelineError, match=r"gives 'price', and the target needs an output 'cost'; name it so, as in "
    ):
        check(monkeypatch, given, rows, parameters, tmp_path, Number("cost"))


def graph(
    inputs: Mapping[str, Any] | None = None,
    output: str = "probabilities",
    width: int = 3,
    kind: int = FLOAT,
    middle: str = "Softmax",
) -> bytes:
    """A graph over x and y, of which the test changes one thing."""
    inputs = inputs or {"x": (kind, [None, 1]), "y": (kind, [None, 1])}
    weights = np.eye(2, width, dtype=np.float64 if kind == DOUBLE else np.float32)
    nodes = [
        node("Concat", "x y", "both", axis=1),
        node("MatMul", "both weights", "scores"),
        node(middle, "scores", output),
    ]
    return onnx_models.model(nodes, inputs, {output: (kind, [None, width])}, weights=weights)


def raises() -> Any:
    raise ValueError("the number of trees is odd")


def beside() -> bytes:
    """What a row gets depends on the rows beside it."""
    nodes = [
        node("Concat", "x y", "both", axis=1),
        node("MatMul", "both weights", "scores"),
        node("Softmax", "scores", "of_all", axis=0),
        node("Softmax", "of_all", "probabilities", axis=1),
    ]
    values = {"x": (FLOAT, [None, 1]), "y": (FLOAT, [None, 1])}
    return onnx_models.model(nodes, values, {"probabilities": (FLOAT, [None, 3])}, weights=EYE)


def chance() -> bytes:
    """What a row gets is another thing each time."""
    nodes = [
        node("Concat", "x y", "both", axis=1),
        node("RandomNormalLike", "both", "noise"),
        node("MatMul", "noise weights", "scores"),
        node("Softmax", "scores", "probabilities", axis=1),
    ]
    values = {"x": (FLOAT, [None, 1]), "y": (FLOAT, [None, 1])}
    return onnx_models.model(nodes, values, {"probabilities": (FLOAT, [None, 3])}, weights=EYE)


REFUSED: dict[str, tuple[Any, str]] = {
    "raises": (raises, "raises ValueError: the number of trees is odd"),
    "nothing": (None, "model.train: it returns NoneType; return an ONNX model, the content of its file as bytes"),
    "no model": (b"no graph", "the server's ONNX Runtime cannot load what it returns: "),
    "a file that is not there": (Path("absent.onnx"), "raises FileNotFoundError: "),
    "another input": (
        partial(linear, ["x", "z"], EYE),
        "the ONNX model's input 'z' is no input of model.RECORD, whose inputs are: x, y; each is an input of its own",
    ),
    "an input less": (
        lambda: linear(["x"], EYE[:1]),
        "the ONNX model has no input 'y', which model.RECORD has; name the inputs without it, INPUTS = (...)",
    ),
    "float64": (
        partial(graph, kind=DOUBLE),
        "input 'x' is float64, and model.RECORD's is float32; declare it float32, as in FloatTensorType([None, 1])",
    ),
    "a fixed batch": (
        partial(graph, {"x": (FLOAT, [8, 1]), "y": (FLOAT, [8, 1])}),
        "input 'x' has a batch of 8 rows; the server's varies, so declare None for the rows",
    ),
    "a shape that varies": (
        partial(graph, {"x": (FLOAT, ["n", "m"]), "y": (FLOAT, ["n", 1])}),
        "input 'x' has the shape (None, None); only the rows may vary",
    ),
    "no shape": (
        partial(graph, {"x": (FLOAT, None), "y": (FLOAT, ["n", 1])}),
        "input 'x' has no shape; declare it, with None for the rows",
    ),
    "another shape": (
        lambda: onnx_models.model(
            [node("Concat", "x y", "probabilities", axis=1)],
            {"x": (FLOAT, [None, 2]), "y": (FLOAT, [None, 1])},
            {"probabilities": (FLOAT, [None, 3])},
        ),
        "input 'x' has the shape (None, 2), and model.RECORD's is (None,); make them agree",
    ),
    "too few labels": (
        partial(graph, width=2),
        "output 'probabilities' has shape (None, 2); it must be one probability for each of the 3 labels",
    ),
    "a row that depends on others": (
        beside,
        "where no other row is beside it, and the server computes rows of several",
    ),
    "chance": (chance, "predicts something else each time; it must not be random"),
    "no probabilities": (partial(graph, middle="Identity"), "trained on a few rows, the output is no probability"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_served_is_refused_before_the_training(
    name: str, parameters: TrainingParameters, rows: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, said = REFUSED[name]
    with pytest.raises(PipelineError) as caught:
        check(monkeypatch, given, rows, parameters, tmp_path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("model.train")


def given(build: bool, train: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, there in (("build", build), ("train", train)):
        if there:
            monkeypatch.setattr(model, name, lambda *arguments: None, raising=False)
        else:
            monkeypatch.delattr(model, name, raising=False)


@pytest.mark.usefixtures("parameters")
@pytest.mark.parametrize(
    ("build", "train", "runtime", "said"),
    [
        (True, True, "onnx", "it has both build and train; leave one"),
        (False, False, "onnx", "it has neither build nor train; export build"),
        (True, False, "onnx", "it gives a Keras network, which [serving] runtime = 'onnx' cannot compute; use runtime"),
        (
            False,
            True,
            "tensorflow",
            "it gives an ONNX model, which [serving] runtime = 'tensorflow' cannot compute; use ",
        ),
        (
            False,
            True,
            "litert",
            "it gives an ONNX model, which [serving] runtime = 'litert' cannot compute; use runtime",
        ),
    ],
)
def test_the_way_of_making_a_model_and_the_runtime_have_to_fit(
    build: bool, train: bool, runtime: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(build, train, monkeypatch)
    monkeypatch.setenv("SERVING_RUNTIME", runtime)
    with pytest.raises(PipelineError) as caught:
        onnx_model.is_given()
    assert said in str(caught.value)


def test_the_record_says_what_the_inputs_are(parameters: TrainingParameters, monkeypatch: pytest.MonkeyPatch) -> None:
    properties = {
        "x": {"type": "number"},
        "count": {"type": ["integer", "null"]},
        "flag": {"type": "boolean"},
        "colour": {"enum": ["red", "blue"]},
        "image": {"type": "array", "minItems": 4, "maxItems": 4, "items": {"type": "number"}},
        "patient": {"type": "string"},
        "label": {"enum": ["a", "b", "c"]},
    }
    monkeypatch.setattr(model, "RECORD", {"type": "object", "properties": properties})
    found = onnx_model.definition(parameters.model_copy(update={"split_group": "patient"}))
    assert found == (
        InputSpec("x", (), "float32"),
        InputSpec("count", (), "int64"),
        InputSpec("flag", (), "bool"),
        InputSpec("colour", (), "string"),
        InputSpec("image", (4,), "float32"),
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"RECORD": {"x": {"type": "array", "items": {"type": "number"}}}}, "'x' is a list of any length, and"),
        ({"RECORD": {"x": {"type": "array", "minItems": 1, "maxItems": 1}}}, "'x' is a list of one value; make it"),
        ({"RECORD": {"x": {}}}, "'x' has no type that says what model.train gets; give it one of number, integer"),
        ({"RECORD": {"x (cm)": {"type": "number"}}}, "input 'x (cm)' needs a name of letters from a to z"),
        ({"RECORD": {}}, "model.RECORD has no property that is an input"),
        ({"INPUTS": ("x", "label")}, "model.INPUTS: 'label' cannot be an input; model.RECORD's properties that can"),
        ({"INPUTS": "x"}, "model.INPUTS is 'x'; make it a tuple of names, or leave it out"),
    ],
)
def test_a_record_that_leaves_an_input_open_is_refused(
    changed: dict[str, Any], said: str, parameters: TrainingParameters, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in changed.items():
        value = {"properties": {**value, "label": {"enum": ["a", "b", "c"]}}} if name == "RECORD" else value
        monkeypatch.setattr(model, name, value, raising=False)
    with pytest.raises(PipelineError) as caught:
        onnx_model.definition(parameters)
    assert said in str(caught.value)


def test_parameters_for_networks_that_would_do_nothing_are_refused(parameters: TrainingParameters) -> None:
    with pytest.raises(PipelineError, match=r"training\.patience = 3: it is for networks that the pipeline trains"):
        onnx_model.definition(parameters.model_copy(update={"patience": 3}))
