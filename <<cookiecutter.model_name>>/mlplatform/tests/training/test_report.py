"""The report: whole, safe and self-contained, whatever the model's inputs, labels and data are."""

import base64
import re
from collections.abc import Sequence
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
from mlplatform.contract.comparison import Opponent
from mlplatform.contract.criteria import Criteria, Criterion
from mlplatform.contract.targets import Classes, Number, Tags, Vector
from mlplatform.contract.targets.class_measures import sample
from mlplatform.data.dataset import InputSpec, Schema
from mlplatform.reporting import charts
from mlplatform.reporting.page import as_percent
from mlplatform.store.manifest import Manifest
from mlplatform.tests.training.splits import split
from mlplatform.training import report
from mlplatform.training.binary import choose_threshold
from mlplatform.training.findings import Compared, Findings

HOSTILE = "<script>alert('&\"')</script>"
NO_PRODUCTION = Opponent(skipped="there is no model in production yet")
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


def findings(tmp_path: Path, inputs: dict[str, NDArray[Any]], **changes: Any) -> Findings:
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
    target = Classes("label", names)
    rows = target.rows(true, found)
    measured = {
        **target.metrics(rows),
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
    made = Findings(
        service=ServiceSettings.model_construct(name="pets", description="Tells pets apart.", team="animals"),
        schema=Schema({}, specs, target),
        run="0123456789ab",
        trained=Manifest("training", "0123456789ab", "2026-11-23T12:00:00Z", "", {}, trained),
        dataset=Manifest("dataset", "da7a5e700000", "2026-11-23T11:00:00Z", "", {}, dataset),
        history=[
            {"loss": 1.0, "val_loss": 1.1, "accuracy": 0.5, "val_accuracy": 0.4},
            {"loss": 0.5, "val_loss": 0.7, "accuracy": 0.7, "val_accuracy": 0.6},
        ],
        metrics=measured,
        mistakes=report.collect_mistakes(target, test, rows),
        verdict=gate.judge(target, measured, CRITERIA, NO_PRODUCTION),
        compared=None,
        test=rows,
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
        verdict=gate.Verdict(CRITERIA, Opponent(unusable=HOSTILE), reasons=(HOSTILE,)),
    )
    page = Page(report.render(found))
    assert page.all("script") == []
    assert "<b>dog</b>" in page.words
    assert page.words.count(HOSTILE) > 10


def test_a_closed_gate_says_why(tmp_path: Path) -> None:
    found = findings(tmp_path, NUMBERS)
    strict = gate.judge(found.schema.target, found.metrics, Criteria(), NO_PRODUCTION)
    page = Page(report.render(replace(found, verdict=strict)))
    assert "The gate is closed" in page.words
    assert "Accuracy 0.6667 on the test split is below minimum 0.9 of [gate.accuracy]." in page.words
    assert "Passed" not in page.words


def compared(found: Findings, theirs: NDArray[np.float32], **changes: Any) -> Findings:
    true = np.array([0, 0, 0, 0, 1, 1], np.int32)
    target = found.schema.target
    other = target.rows(true, theirs)
    opponent = target.compare("c0ffee000000", found.test, other, CRITERIA)
    return replace(
        found,
        verdict=gate.judge(found.schema.target, found.metrics, CRITERIA, opponent),
        compared=Compared("c0ffee000000", "2026-11-01T08:00:00Z", target.metrics(other), other, **changes),
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


def imbalanced(tmp_path: Path, cost_of_miss: float | None, validated: bool = True) -> Findings:
    """As `findings`, with a model that gives the two dogs 0.4 and 0.9, and the cats 0.1 to 0.45.

    The threshold is chosen on the very same rows, unless there are none.
    """
    true = np.array([0, 0, 0, 0, 1, 1], np.int32)
    dog = np.array([0.1, 0.2, 0.3, 0.45, 0.4, 0.9], np.float32)
    said = np.stack([1 - dog, dog], axis=1)
    found = findings(tmp_path, NUMBERS)
    rows = found.schema.target.rows(true, said)
    measured = {**found.metrics, **found.schema.target.metrics(rows)}
    verdict = replace(found.verdict, criteria=replace(CRITERIA, cost_of_miss=cost_of_miss))
    return replace(found, metrics=measured, test=rows, validation=rows if validated else None, verdict=verdict)


def test_two_classes_have_curves_and_a_threshold_with_what_it_costs(tmp_path: Path) -> None:
    page = Page(report.render(imbalanced(tmp_path, 10)))
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
    assert "Chosen for the highest F1" in Page(report.render(imbalanced(tmp_path, None))).words
    assert (
        "None is chosen: the validation split"
        in Page(report.render(imbalanced(tmp_path / "n", None, validated=False))).words
    )


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


PRICE = Number("price", "EUR")


def priced(tmp_path: Path, *predicted: float, other: Sequence[float] | None = None) -> Findings:
    """A run that predicts the prices 10, 20, ... of six test examples, and what production says of them."""
    true = np.array([10, 20, 30, 40, 50, 60], np.float32)
    rows = PRICE.rows(true, np.array(predicted, np.float32))
    found = findings(tmp_path, NUMBERS)
    counted = {"examples": 6, **PRICE.described(true)}
    dataset = {**found.dataset.properties, "splits": dict.fromkeys(("train", "validation", "test"), counted)}
    measured = {**found.metrics, **PRICE.metrics(rows)}
    criteria = Criteria((Criterion("mean_absolute_error", maximum=5.0, maximum_regression=1.0),))
    opponent, compared = NO_PRODUCTION, None
    if other is not None:
        there = PRICE.rows(true, np.array(other, np.float32))
        opponent = PRICE.compare("c0ffee000000", rows, there, criteria)
        compared = Compared("c0ffee000000", "2026-11-01T08:00:00Z", PRICE.metrics(there), there, False)
    return replace(
        found,
        schema=replace(found.schema, target=PRICE),
        dataset=replace(found.dataset, properties=dataset),
        metrics=measured,
        test=rows,
        mistakes=report.collect_mistakes(PRICE, split(tmp_path / "n", **NUMBERS), rows),
        verdict=gate.judge(PRICE, measured, criteria, opponent, PRICE.against_constant(rows, criteria, true)),
        compared=compared,
    )


def test_a_number_has_residuals_and_errors_by_range_of_the_truth(tmp_path: Path) -> None:
    (tmp_path / "n").mkdir()
    page = Page(report.render(priced(tmp_path, 11, 19, 31, 39, 51, 68)))
    for told in (
        "2.167 mean_absolute_error",
        "Passed the gate",
        "predictions are off by 2.167 EUR in the mean, with 95 % confidence between",
        "Always answering the median 35 is certainly worse.",
        "mean_absolute_error at most 5 2.167",
        "says 68 +8 is 60",
        "root mean squared error 3.391",
        "It has learned from values between 10 and 60",
    ):
        assert told in page.words, told
    assert len(page.all("svg")) == 4


def test_a_number_is_compared_with_production_row_by_row(tmp_path: Path) -> None:
    (tmp_path / "n").mkdir()
    page = Page(report.render(priced(tmp_path, 14, 24, 34, 44, 54, 64, other=[11, 21, 31, 41, 51, 70])))
    for told in (
        "this model comes closer to 1 and production to 5",
        "Wilcoxon's signed-rank test",
        "mean_absolute_error 4 2.5 1.5",
        "The gate is closed",
    ):
        assert told in page.words, told


def test_a_prediction_that_is_no_number_stands_first_among_the_mistakes(tmp_path: Path) -> None:
    (tmp_path / "n").mkdir()
    page = Page(report.render(priced(tmp_path, 11, float("nan"), 31, 39, 51, 60, other=[11, 21, 31, 41, 51, 70])))
    assert "says nan nan is 20" in page.words
    assert "for 1 of 6 test examples are no numbers: not finite" in page.words


TRAITS = Tags("traits", ("even", "prime", "loop"), (0.5, 0.25, 0.5))


def tagged(tmp_path: Path, said: Sequence[Sequence[float]], other: Sequence[Sequence[float]] | None = None) -> Findings:
    """A run that says traits of six test examples, of which the last has none, and what production says of them."""
    true = np.array([[1, 0, 1], [1, 1, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0]], np.float32)
    rows = TRAITS.rows(true, np.array(said, np.float32))
    found = findings(tmp_path, NUMBERS)
    counted = {"examples": 6, **TRAITS.described(true)}
    dataset = {**found.dataset.properties, "splits": dict.fromkeys(("train", "validation", "test"), counted)}
    measured = {**found.metrics, **TRAITS.metrics(rows)}
    criteria = Criteria((Criterion("macro_f1", minimum=0.5, maximum_regression=0.1),))
    opponent, compared = NO_PRODUCTION, None
    if other is not None:
        there = TRAITS.rows(true, np.array(other, np.float32))
        opponent = TRAITS.compare("c0ffee000000", rows, there, criteria)
        compared = Compared("c0ffee000000", "2026-11-01T08:00:00Z", TRAITS.metrics(there), there, False)
    return replace(
        found,
        schema=replace(found.schema, target=TRAITS),
        dataset=replace(found.dataset, properties=dataset),
        metrics=measured,
        test=rows,
        validation=rows,
        mistakes=report.collect_mistakes(TRAITS, split(tmp_path / "t", **NUMBERS), rows),
        verdict=gate.judge(TRAITS, measured, criteria, opponent, TRAITS.against_constant(rows, criteria, true)),
        compared=compared,
    )


GOOD = [[0.9, 0.1, 0.9], [0.9, 0.3, 0.1], [0.1, 0.9, 0.1], [0.9, 0.1, 0.1], [0.1, 0.1, 0.9], [0.1, 0.6, 0.1]]


def test_tags_have_thresholds_and_figures_of_each(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    page = Page(report.render(tagged(tmp_path, GOOD)))
    for told in (
        "93.3 % macro_f1",
        "all tags are right for 83.3 %",
        "Always answering every tag is certainly worse.",
        "macro_f1 at least 50.0 % 93.3 %",
        "prime 0.25 2 3 66.7 % 100.0 % 83.3 % 80.0 %",
        "Thresholds are those with the highest F1 on the validation split",
        "says prime 1 wrong is no tag prime: 60.0 %",
        "no tag 1 · 16.7 %",
        "It says any of 3 tags (even, prime, loop), or none",
    ):
        assert told in page.words, told


def test_tags_are_compared_with_production_row_by_row_and_tag_by_tag(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    worse = [[0.9, 0.1, 0.1], [0.9, 0.1, 0.1], *GOOD[2:]]
    page = Page(report.render(tagged(tmp_path, GOOD, other=worse)))
    for told in (
        "this model alone gets all tags of 2 right, and production alone those of 0.",
        "McNemar's exact test",
        "prime 80.0 % +30.00 50 → 100 50 → 66.7",
        "macro f1 0.9333",
    ):
        assert told in page.words, told


PERSON = Vector("person", 2)
APART = ((1.0, 0.0), (1.0, 0.1), (0.0, 1.0), (0.1, 1.0), (-1.0, 0.0), (-1.0, 0.1))


def verified(
    tmp_path: Path, said: Sequence[Sequence[float]], other: Sequence[Sequence[float]] | None = None
) -> Findings:
    """A run that gives vectors to six test examples, two of each of three persons, and what production gives them."""
    true, _ = PERSON.encode([b"ann", b"ann", b"bob", b"bob", b"zo\xc3\xab", b"zo\xc3\xab"], {})
    target = PERSON.decided(true, np.array(said, np.float32))
    rows = target.rows(true, np.array(said, np.float32))
    found = findings(tmp_path, NUMBERS)
    counted = {"examples": 6, **target.described(true)}
    dataset = {**found.dataset.properties, "splits": dict.fromkeys(("train", "validation", "test"), counted)}
    measured = {**found.metrics, **target.metrics(rows)}
    criteria = Criteria((Criterion("equal_error_rate", maximum=0.2, maximum_regression=0.05),))
    opponent, compared = NO_PRODUCTION, None
    if other is not None:
        there = target.rows(true, np.array(other, np.float32))
        opponent = target.compare("c0ffee000000", rows, there, criteria)
        compared = Compared("c0ffee000000", "2026-11-01T08:00:00Z", target.metrics(there), there, False)
    return replace(
        found,
        schema=replace(found.schema, target=target),
        dataset=replace(found.dataset, properties=dataset),
        metrics=measured,
        test=rows,
        mistakes=report.collect_mistakes(target, split(tmp_path / "v", **NUMBERS), rows),
        verdict=gate.judge(target, measured, criteria, opponent, target.against_constant(rows, criteria, true)),
        compared=compared,
    )


def test_vectors_have_a_curve_and_the_pairs_that_are_hardest_to_tell(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    page = Page(report.render(verified(tmp_path, APART)))
    for told in (
        "of 3 identities, a pair of one identity is more similar than a pair of two in 100.0 % of the cases",
        "Always answering the same vector is certainly worse.",
        "equal_error_rate at most 0.2 0",
        "The figures are of 3 pairs of one identity and 12 of two.",
        "it accepts 100.0 % of the pairs of one identity and 0.00 % of those of two",
        "says pair 1 similarity 0.198 is ann beside bob",
        "is bob beside ann",
        "train 6 3 2 2 2",
        "It answers with a vector of 2 values",
    ):
        assert told in page.words, told


def test_without_pairs_to_choose_a_threshold_by_the_page_says_so(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    run = verified(tmp_path, APART)
    page = Page(report.render(replace(run, metrics={**run.metrics, "threshold": None})))
    assert "There is no threshold: the validation split needs pairs of one identity and of two" in page.words


def test_vectors_are_compared_with_production_by_the_same_pairs(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    page = Page(report.render(verified(tmp_path, [(1.0, 0.0), (0.0, 1.0), *APART[:4]], other=APART)))
    for told in (
        "this model ranks the pairs of 0 better and production those of 6",
        "Wilcoxon's signed-rank test",
        "The gate is closed",
    ):
        assert told in page.words, told
