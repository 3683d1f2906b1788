"""The report: whole, safe and self-contained, whatever the model's inputs, labels and data are."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from mlplatform.config.settings import ServiceSettings
from mlplatform.contract import gate
from mlplatform.contract.criteria import Criteria, Criterion
from mlplatform.contract.measures import sample
from mlplatform.data.dataset import InputSpec, Schema
from mlplatform.reporting import charts
from mlplatform.reporting.page import as_percent
from mlplatform.store.manifest import Manifest
from mlplatform.tests.training.splits import split
from mlplatform.training import evaluation, report
from mlplatform.training.binary import Threshold, choose_threshold

HOSTILE = "<script>alert('&\"')</script>"
NO_PRODUCTION = gate.Opponent(skipped="there is no model in production yet")
CRITERIA = Criteria((Criterion("accuracy", minimum=0.5, maximum_regression=0.01),))
INLINE = {"b", "strong", "code", "span"}
# Elements that have no end.
VOID = {"meta", "link", "img", "br", "line", "rect", "circle", "polyline", "hr", "input"}


class Page(HTMLParser):
    """What a browser finds in a page; fails on an element that is not closed where it should be."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(content)
        self.close()
        assert self._open == [], f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        self.text += " " if tag == "br" else ""

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag
        self.text += "" if tag in INLINE else " "

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] != "style":
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def words(self) -> str:
        """The text with a plain space for any white space."""
        return " ".join(self.text.split())


def predictions(classes: int, *predicted: int) -> NDArray[np.float32]:
    rows = np.full((len(predicted), classes), 0.2 / (classes - 1), np.float32)
    rows[np.arange(len(predicted)), list(predicted)] = 0.8
    return rows


def findings(tmp_path: Path, inputs: dict[str, NDArray[Any]], **changes: Any) -> report.Findings:
    """A run on six test examples with these inputs; the first two, of `cat`, are said to be a dog."""
    names: tuple[str, ...] = changes.pop("labels", ("cat", "dog"))
    true = np.array([0, 0, 0, 0, 1, 1], np.int32)
    found = predictions(len(names), 1, 1, 0, 0, 1, 1)
    tmp_path.mkdir(exist_ok=True)
    test = split(tmp_path, label=true, **inputs, **changes.pop("columns", {}))
    kinds = {name: "string" if array.dtype.kind == "S" else array.dtype.name for name, array in inputs.items()}
    specs = tuple(InputSpec(name, array.shape[1:], kinds[name]) for name, array in inputs.items())
    counted = {"examples": 6, "classes": {name: 6 // len(names) for name in names}}
    statistics = {
        name: {"minimum": 0.0, "maximum": 10.0, "mean": 4.0, "deviation": 2.0}
        for name in inputs
        if kinds[name] != "string"
    }
    measured = {
        **evaluation.metrics(found, true, names),
        "export_difference": 0.0,
        "inference_ms": {"1": 0.5, "32": 2.0},
        "bytes": 123_456,
    }
    trained = {
        "parameters": {"epochs": 2, "learning_rate": 0.001},
        "code": "c0de",
        "git_commit": None,
        "packages": {"tensorflow": "2.21.0"},
    }
    dataset = {
        "splits": {"train": {**counted, "inputs": statistics}, "validation": counted, "test": counted},
        "duplicates": {"repeated": 3, "conflicting": 0},
    }
    made = report.Findings(
        service=ServiceSettings.model_construct(name="pets", description="Tells pets apart.", team="animals"),
        schema=Schema({}, specs, names),
        run="0123456789ab",
        trained=Manifest("training", "0123456789ab", "2026-11-23T12:00:00Z", "", {}, trained),
        dataset=Manifest("dataset", "da7a5e700000", "2026-11-23T11:00:00Z", "", {}, dataset),
        history=[
            {"loss": 1.0, "val_loss": 1.1, "accuracy": 0.5, "val_accuracy": 0.4},
            {"loss": 0.5, "val_loss": 0.7, "accuracy": 0.7, "val_accuracy": 0.6},
        ],
        metrics=measured,
        mistakes=report.collect_mistakes(test, found, true, names),
        verdict=gate.judge(measured, CRITERIA, NO_PRODUCTION),
        compared=None,
        test=sample(names, true, found),
    )
    return replace(made, **changes)


NUMBERS = {"size": np.array([1, 12, 3, 4, 5, 6], np.float32), "legs": np.array([4, 4, 4, 4, 2, 2], np.int32)}


def test_the_report_is_complete_without_production(tmp_path: Path) -> None:
    page = Page(report.render(findings(tmp_path, NUMBERS)))
    for told in (
        "pets",
        "Tells pets apart.",
        "Passed the gate",
        "66.7 % accuracy",
        "4 of the 6 examples in the test split are predicted right",
        "lies between 30.0 % and 90.3 %",
        "Not compared: there is no model in production yet.",
        "2 epochs. The validation loss was lowest after epoch 2, 0.7",
        "of 2 mistakes on the test split",
        "18 examples, 6 to train on, 6 to watch the training, 6 to measure the result.",
        "3 repeated records counted once.",
        "It misses cat most: it finds 50.0 % of its 4 test examples.",
        "learning_rate 0.001",
        "commit not in a git repository",
        "trained 2026-11-23 12:00 UTC",
        "dataset da7a5e700000",
        "tensorflow 2.21.0",
    ):
        assert told in page.words
    assert len(page.all("h1")) == 1
    assert len(page.all("svg")) == 5


def test_nothing_is_fetched_from_elsewhere_and_no_script_runs(tmp_path: Path) -> None:
    content = report.render(findings(tmp_path, {"photo": np.zeros((6, 8, 8, 3), np.uint8)}))
    page = Page(content)
    references = [
        (tag, name, value)
        for tag, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data", "poster", "background")
    ]
    assert references
    assert all(value and value.startswith("data:image/png;base64,") for _, _, value in references)
    assert not re.search(r"url\(|@import|https?:", content)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.elements}
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@pytest.mark.parametrize("shape", [(8, 8), (8, 6, 1), (6, 8, 3), (300, 200, 3)])
def test_arrays_of_pixels_are_shown_as_pictures(tmp_path: Path, shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).uniform(0, 10, (6, *shape)).astype(np.float32)
    content = report.render(findings(tmp_path, {"photo": pixels}))
    images = Page(content).all("img")
    assert [image["alt"] for image in images] == ["photo of e0", "photo of e1"]
    decoded = tf.io.decode_png(base64.b64decode(str(images[0]["src"]).split(",")[1])).numpy()
    assert decoded.shape[2] == (3 if shape[-1] == 3 else 1)
    if max(shape) <= report.PICTURE:
        # The train split's minimum, 0, is black and its maximum, 10, is white.
        assert decoded.reshape(shape) == pytest.approx(pixels[0] * 25.5, abs=0.51)
    else:
        assert decoded.shape[:2] == (96, 64)
    assert len(content) < 500_000


def test_other_numbers_are_shown_as_values_and_where_they_lie_in_the_training_data(tmp_path: Path) -> None:
    page = Page(report.render(findings(tmp_path, NUMBERS)))
    assert page.all("img") == []
    # The first wrong example has size 1 and four legs, the second size 12, which training never saw.
    assert "says dog 80.0 % is cat 20.0 % e0 size 1 legs 4" in page.words
    assert [mark["style"] for mark in page.all("i") if "left" in str(mark.get("style"))] == [
        "left:10.0%",
        "left:40.0%",
        "left:100.0%",
        "left:40.0%",
    ]
    assert [mark["style"] for mark in page.all("i") if mark.get("class") == "beyond"] == ["left:100.0%"]


def test_long_arrays_are_shown_by_their_first_values(tmp_path: Path) -> None:
    page = Page(report.render(findings(tmp_path, {"signal": np.tile(np.arange(500, dtype=np.float32), (6, 1))})))
    assert "signal 0, 1, 2, 3, 4, 5, 6, 7, … (500 values)" in page.words


def test_text_is_shown_as_text(tmp_path: Path) -> None:
    words = np.array([f"Grüße {i} {'x' * 700}".encode() for i in range(6)])
    page = Page(report.render(findings(tmp_path, {"review": words})))
    assert f"Grüße 0 {'x' * (report.SHOWN_TEXT - 8)}…" in page.words
    assert page.all("img") == []


def test_whatever_comes_from_data_is_text_and_never_markup(tmp_path: Path) -> None:
    hostile = HOSTILE.encode()
    found = findings(
        tmp_path,
        {"review": np.array([hostile] * 6)},
        labels=(HOSTILE, "<b>dog</b>"),
        columns={"id": np.array([hostile] * 6)},
        service=ServiceSettings.model_construct(name=HOSTILE, description=HOSTILE, team=HOSTILE),
        history=[{HOSTILE: 1.0, f"val_{HOSTILE}": float("nan")}],
        verdict=gate.Verdict(CRITERIA, gate.Opponent(unusable=HOSTILE), reasons=(HOSTILE,)),
    )
    page = Page(report.render(found))
    assert page.all("script") == []
    assert "<b>dog</b>" in page.words
    assert page.words.count(HOSTILE) > 10


def test_a_closed_gate_says_why(tmp_path: Path) -> None:
    found = findings(tmp_path, NUMBERS)
    strict = gate.judge(found.metrics, Criteria(), NO_PRODUCTION)
    page = Page(report.render(replace(found, verdict=strict)))
    assert "The gate is closed" in page.words
    assert "Accuracy 0.6667 on the test split is below minimum 0.9 of [gate.accuracy]." in page.words
    assert "Passed" not in page.words


def compared(found: report.Findings, theirs: NDArray[np.float32], **changes: Any) -> report.Findings:
    true = np.array([0, 0, 0, 0, 1, 1], np.int32)
    names = found.schema.labels
    opponent = gate.compare("c0ffee000000", found.test, sample(names, true, theirs), CRITERIA)
    measured = evaluation.metrics(theirs, true, found.schema.labels)
    return replace(
        found,
        verdict=gate.judge(found.metrics, CRITERIA, opponent),
        compared=report.Compared("c0ffee000000", "2026-11-01T08:00:00Z", measured, **changes),
    )


def test_production_is_compared_with_on_the_same_examples(tmp_path: Path) -> None:
    found = compared(findings(tmp_path, NUMBERS), predictions(2, 0, 0, 0, 0, 1, 0), may_have_learned=True)
    page = Page(report.render(found))
    for told in (
        "In production is c0ffee000000, published 2026-11-01 08:00 UTC.",
        "this model alone gets 1 right and production alone 2: a difference of \N{MINUS SIGN}16.67 percentage points",
        "This may be chance",
        "a probability of 1 (McNemar's exact test)",
        "it may have learned from examples that are counted here",
        "Right by production only 2",
        "50 → 100",
    ):
        assert told in page.words
    assert "The gate is closed" in page.words
    assert len(page.all("svg")) == 7


def test_what_is_asked_for_stands_beside_the_figures_of_both(tmp_path: Path) -> None:
    found = compared(findings(tmp_path, NUMBERS), predictions(2, 0, 0, 0, 0, 1, 0), may_have_learned=False)
    assert "accuracy at least 50.0 % 66.7 % 83.3 % 1.0 %" in Page(report.render(found)).words


def imbalanced(tmp_path: Path, threshold: Threshold | None, **changes: Any) -> report.Findings:
    """As `findings`, with a model that gives the two dogs 0.4 and 0.9, and the cats 0.1 to 0.45."""
    true = np.array([0, 0, 0, 0, 1, 1], np.int32)
    dog = np.array([0.1, 0.2, 0.3, 0.45, 0.4, 0.9], np.float32)
    said = np.stack([1 - dog, dog], axis=1)
    found = findings(tmp_path, NUMBERS)
    measured = {**found.metrics, **evaluation.metrics(said, true, ("cat", "dog"))}
    return replace(found, metrics=measured, test=sample(("cat", "dog"), true, said), threshold=threshold, **changes)


def test_two_classes_have_curves_and_a_threshold_with_what_it_costs(tmp_path: Path) -> None:
    page = Page(report.render(imbalanced(tmp_path, Threshold(0.4, "cost", 10))))
    for told in (
        "Finding dog 2 of the 6 test examples are dog, 33.3 %.",
        "ROC curve, area 0.8750",
        "average precision 0.8333",
        "0.4, the chosen one 2 0 1 100.0 % 66.7 % 166.7",
        "0.5 1 1 0 50.0 % 100.0 % 1667",
        "where missing one costs as much as 10 false alarms",
    ):
        assert told in page.words
    assert len(page.all("svg")) == 5


def test_without_costs_the_threshold_is_that_of_the_highest_f1(tmp_path: Path) -> None:
    assert "Chosen for the highest F1" in Page(report.render(imbalanced(tmp_path, Threshold(0.4, "f1", None)))).words
    assert "None is chosen: the validation split" in Page(report.render(imbalanced(tmp_path / "n", None))).words


def test_the_threshold_follows_from_the_validation_split() -> None:
    true, dog = np.array([0, 0, 0, 1, 1], np.int32), np.array([0.1, 0.3, 0.6, 0.5, 0.9], np.float32)
    validation = sample(("cat", "dog"), true, np.stack([1 - dog, dog], axis=1))
    cheap, dear = (choose_threshold(validation, cost_of_miss) for cost_of_miss in (0.5, 5))
    assert cheap and dear
    assert [cheap.value, dear.value] == pytest.approx([0.9, 0.5])
    by_f1 = choose_threshold(validation, None)
    assert by_f1 is not None
    assert by_f1.value == pytest.approx(0.5)
    assert choose_threshold(sample(("cat", "dog"), true[:3], np.eye(2, dtype=np.float32)[[0, 0, 1]]), None) is None


def test_models_that_agree_have_no_classes_that_changed(tmp_path: Path) -> None:
    found = compared(findings(tmp_path, NUMBERS), predictions(2, 1, 1, 0, 0, 1, 1), may_have_learned=False)
    words = Page(report.render(found)).words
    assert "Of the same 6 test examples, both get the same 4 right." in words
    assert "None: precision and recall of every class are the same." in words


def test_a_model_without_mistakes_has_none_to_show(tmp_path: Path) -> None:
    found = findings(tmp_path, NUMBERS, mistakes=[])
    assert "None: every example of the test split is predicted right." in Page(report.render(found)).words


def test_of_many_classes_those_worth_seeing_are_shown(tmp_path: Path) -> None:
    names = tuple(f"class {i}" for i in range(200))
    content = report.render(findings(tmp_path, NUMBERS, labels=names))
    words = Page(content).words
    assert "Most frequent confusions" in words
    assert "class 0 class 1 2 of 4" in words
    assert "The 30 classes with the lowest F1, of 200" in words
    assert "The ten most and the ten least frequent of 200 classes." in words
    assert len(content) < 200_000


@pytest.mark.parametrize(
    "history", [[], [{"loss": float("nan"), "val_loss": float("nan")}], [{"loss": 0.5}]], ids=["none", "nan", "single"]
)
def test_any_history_has_a_page(tmp_path: Path, history: list[dict[str, float]]) -> None:
    Page(report.render(findings(tmp_path, NUMBERS, history=history)))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.0096, 1.39, [0, 0.5, 1, 1.5]),
        (0.981, 0.984, [0.981, 0.982, 0.983, 0.984]),
        (-3, 170_000, [-50_000, 0, 50_000, 100_000, 150_000, 200_000]),
        (5, 5, [4.4, 4.6, 4.8, 5, 5.2, 5.4, 5.6]),
        (0, 0, [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_ticks_are_round_and_hold_all_values(low: float, high: float, expected: list[float]) -> None:
    found = charts.ticks(low, high)
    assert found == pytest.approx(expected)
    assert found[0] <= low <= high <= found[-1]


@pytest.mark.parametrize(
    ("rate", "shown"),
    [(0.001, ("0.001", "0.0008")), (2.5e-5, ("2.5e\N{MINUS SIGN}5", "2e\N{MINUS SIGN}5")), (3e6, ("2e6", "1e6"))],
)
def test_numbers_beside_a_chart_are_short(rate: float, shown: tuple[str, ...]) -> None:
    drawn = charts.lines("learning_rate", [rate, rate / 5], [])
    assert all(f">{number}<" in drawn for number in shown)


def test_a_long_history_makes_no_long_page() -> None:
    drawn = charts.lines("loss", list(np.geomspace(1, 1e-3, 50_000)), [])
    assert len(drawn) < 15_000


def test_what_is_not_all_is_never_called_all() -> None:
    assert as_percent(0.99999) == "99.9\N{NARROW NO-BREAK SPACE}%"
    assert as_percent(1.0) == "100.0\N{NARROW NO-BREAK SPACE}%"
