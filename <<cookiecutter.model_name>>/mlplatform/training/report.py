"""The report on a run: one self-contained HTML file, which is the model card of a published model."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from markupsafe import Markup
from numpy.typing import NDArray

from mlplatform.config.settings import ServiceSettings
from mlplatform.contract.criteria import Criterion
from mlplatform.contract.gate import Verdict, figure
from mlplatform.contract.measures import Sample
from mlplatform.contract.metrics import METRICS, split_name
from mlplatform.data.dataset import SPLITS, InputSpec, Schema, Split
from mlplatform.reporting import charts, page
from mlplatform.reporting.page import as_number
from mlplatform.store.manifest import Manifest
from mlplatform.training import binary
from mlplatform.training.binary import Threshold
from mlplatform.training.evaluation import Labels, Probabilities, predicted_classes, worst_mistakes

TEMPLATE = Path(__file__).parent / "report_template.html"
MISTAKES = 12
# Pixels along the longer side of a picture: twelve of noise are 0.5 MB. Smaller ones are enlarged by the browser.
PICTURE = 96
# Values shown of an input that is neither a picture nor a single value, inputs shown of an example, letters of a text.
SHOWN_VALUES = 8
SHOWN_INPUTS = 24
SHOWN_TEXT = 600
# Classes up to which everything is shown of each; with more, what is worth seeing.
SHOWN_CLASSES = 30
# With fewer examples of a class its figures say little: 30 right of 30 may still be 89 %.
FEW_EXAMPLES = 30


@dataclass(frozen=True)
class Mistake:
    """A wrong example of the test split: probabilities of what was predicted and of what is true, inputs by name."""

    id: str
    label: str
    predicted: str
    probability: float
    probability_of_label: float
    inputs: Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Compared:
    """The model in production, measured on the same test split.

    may_have_learned: part of this test split may have been in its training data.
    """

    version: str
    created_at: str
    metrics: Mapping[str, Any]
    may_have_learned: bool


@dataclass(frozen=True)
class Findings:
    """The contents of the report.

    compared: set if the verdict holds a comparison. test: the predictions for the test split. threshold: chosen on the
    validation split, of a model with two classes.
    """

    service: ServiceSettings
    schema: Schema
    run: str
    trained: Manifest
    dataset: Manifest
    history: Sequence[Mapping[str, float]]
    metrics: Mapping[str, Any]
    mistakes: Sequence[Mistake]
    verdict: Verdict
    compared: Compared | None
    test: Sample
    threshold: Threshold | None = None


def collect_mistakes(test: Split, probabilities: Probabilities, labels: Labels, names: Sequence[str]) -> list[Mistake]:
    """The most confident wrong examples of the test split. probabilities: (examples, classes); labels: (examples,)."""
    indices = worst_mistakes(probabilities, labels, MISTAKES)
    inputs, _ = test.take(indices)
    ids = test.column("id", indices)
    predicted = predicted_classes(probabilities)
    return [
        Mistake(
            id=_text(ids[n]),
            label=names[labels[i]],
            predicted=names[predicted[i]],
            probability=float(probabilities[i, predicted[i]]),
            probability_of_label=float(probabilities[i, labels[i]]),
            inputs={name: array[n] for name, array in inputs.items()},
        )
        for n, i in enumerate(indices)
    ]


def render(findings: Findings) -> str:
    """The page."""
    return page.render(
        TEMPLATE,
        findings=findings,
        service=findings.service,
        metrics=findings.metrics,
        verdict=findings.verdict,
        compared=findings.compared,
        comparison=_comparison(findings),
        asked=_asked(findings),
        binary=_binary(findings),
        curves=_curves(findings.history),
        confusion=_confusion(findings.metrics),
        reliability=charts.reliability(findings.metrics["calibration"]["bins"]),
        mean_confidence=_mean_confidence(findings.metrics),
        classes=_classes(findings.metrics),
        shown_classes=SHOWN_CLASSES,
        balance=_balance(findings.dataset.properties),
        inputs=_inputs(findings),
        mistakes=[_shown(mistake, findings) for mistake in findings.mistakes],
        weakest=_weakest(findings.metrics),
        scarce=[name for name, figures in findings.metrics["classes"].items() if figures["examples"] < FEW_EXAMPLES],
        few_examples=FEW_EXAMPLES,
    )


def _curves(history: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """A chart per metric, the loss first; `best`: the epoch with the lowest validation loss."""
    names = list(dict.fromkeys(name.removeprefix("val_") for epoch in history for name in epoch))
    names.sort(key=lambda name: ("loss", "accuracy").index(name) if name in ("loss", "accuracy") else 2)
    losses = [epoch.get("val_loss", float("nan")) for epoch in history]
    best = int(np.nanargmin(losses)) + 1 if np.isfinite(losses).any() else None
    drawn = []
    for name in names:
        train = [epoch.get(name) for epoch in history] if any(name in epoch for epoch in history) else []
        held_out = [epoch.get(f"val_{name}") for epoch in history]
        validation = held_out if any(value is not None for value in held_out) else []
        drawn.append({"name": name, "chart": charts.lines(name, train, validation, best)})
    return {"charts": drawn, "epochs": len(history), "best": best, "best_loss": losses[best - 1] if best else None}


def _confusion(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Rows of cells with their strength in per cent; the most frequent confusions where there are too many classes."""
    names = list(metrics["classes"])
    matrix = np.array(metrics["confusion"])
    pairs = [
        {"label": names[i], "predicted": names[j], "examples": int(matrix[i, j]), "of": int(matrix[i].sum())}
        for i, j in np.argwhere(matrix)
        if i != j
    ]
    pairs.sort(key=lambda pair: -pair["examples"])
    rows = []
    for i, row in enumerate(matrix if len(names) <= SHOWN_CLASSES else []):
        shares = row / max(1, row.sum())
        # The root makes single mistakes visible; a count of 0 has no colour.
        strength = [shares[j] if i == j else shares[j] ** 0.5 for j in range(len(names))]
        cells = [
            {"count": int(row[j]), "strength": round(8 + 84 * float(strength[j])) if row[j] else 0, "right": i == j}
            for j in range(len(names))
        ]
        rows.append({"label": names[i], "cells": cells})
    # Names of columns stand side by side as long as they fit into a line of some 36 letters.
    upright = len(names) * (max(map(len, names)) + 1) > 36
    return {"names": names, "rows": rows, "pairs": pairs[:SHOWN_CLASSES], "all_pairs": len(pairs), "upright": upright}


def _classes(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Figures per class in the order of the labels; with many classes, those with the lowest F1."""
    rows = [{"name": name, **figures} for name, figures in metrics["classes"].items()]
    if len(rows) > SHOWN_CLASSES:
        rows = sorted(rows, key=lambda row: 2.0 if row["f1"] is None else row["f1"])[:SHOWN_CLASSES]
    return rows


def _weakest(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """The class that is found least often, or None if none is ever missed."""
    present = [
        {"name": name, **figures} for name, figures in metrics["classes"].items() if figures["recall"] is not None
    ]
    weakest = min(present, key=lambda row: row["recall"])
    return weakest if weakest["recall"] < 1 else None


def _mean_confidence(metrics: Mapping[str, Any]) -> float:
    bins = [bin for bin in metrics["calibration"]["bins"] if bin["examples"]]
    return float(sum(bin["examples"] * bin["confidence"] for bin in bins) / metrics["examples"])


def _comparison(findings: Findings) -> dict[str, Any] | None:
    """Charts, figures of both models, and the classes whose recall changed, by how much."""
    counted, compared = findings.verdict.opponent.comparison, findings.compared
    if counted is None or compared is None:
        return None
    rows = []
    for name, metrics in (("this model", findings.metrics), (f"production, {compared.version}", compared.metrics)):
        interval = metrics["accuracy_interval"]
        rows.append((name, interval["low"], metrics["accuracy"], interval["high"]))
    changes = []
    for name, here in findings.metrics["classes"].items():
        there = compared.metrics["classes"][name]
        if here["recall"] != there["recall"] or here["precision"] != there["precision"]:
            changes.append({"name": name, "here": here, "there": there, "change": _gain(here, there)})
    changes.sort(key=lambda row: row["change"])
    interval_of_difference = counted.interval()
    return {
        **counted.to_json(),
        "both_charts": charts.intervals(rows),
        "difference_chart": charts.difference(
            interval_of_difference.low,
            counted.difference,
            interval_of_difference.high,
            findings.verdict.criteria.margin("accuracy"),
        ),
        "margin": findings.verdict.criteria.margin("accuracy"),
        "changes": changes if len(changes) <= SHOWN_CLASSES else [*changes[:15], *changes[-15:]],
        "all_changes": len(changes),
    }


def _asked(findings: Findings) -> list[dict[str, str]]:
    """The gate's tables: what each asks for, the model's figure, production's, and how much may be lost."""
    criteria, compared = findings.verdict.criteria, findings.compared
    rows = []
    for row in criteria.rows:
        bound = row.minimum if row.minimum is not None else row.maximum
        value, label = _value(findings.metrics, row)
        production, label_of_production = _value(compared.metrics, row) if compared else ("", "")
        least = "at least" if row.facts.higher_is_better else "at most"
        rows.append(
            {
                "metric": f"{row.metric} of each class" if row.of_each_class else row.metric,
                "asked": "" if bound is None else f"{least} {_figure(row.metric, bound)}",
                "value": value,
                "label": label,
                "production": production,
                "label_of_production": label_of_production,
                "margin": "" if row.maximum_regression is None else _figure(row.metric, row.maximum_regression),
            }
        )
    return rows


def _value(metrics: Mapping[str, Any], row: Criterion) -> tuple[str, str]:
    """A figure of the gate's tables, and its class; of each class that of the class that has the worst."""
    if not row.of_each_class:
        found = figure(metrics, row.metric)
        return "\N{EN DASH}" if found is None else _figure(row.metric, found), ""
    of_classes = {label: figure(metrics, f"{row.metric}.{label}") for label in metrics["classes"]}
    known = {label: found for label, found in of_classes.items() if found is not None}
    worst = min(known, key=lambda label: known[label])
    return _figure(row.metric, known[worst]), worst


def _figure(metric: str, value: float) -> str:
    """Metrics that are shares in per cent, others as numbers."""
    facts = METRICS[split_name(metric)[0]]
    return page.as_percent(value) if facts.higher_is_better and facts.worst == 0 else as_number(value)


def _binary(findings: Findings) -> dict[str, Any] | None:
    """Curves, and what the chosen threshold costs, of a model with two classes; None of any other, or without both."""
    test, threshold = findings.test, findings.threshold
    if len(test.labels) != 2 or not test.counts.all():
        return None
    positives = int(test.counts[binary.POSITIVE])
    cost = threshold.cost_of_miss if threshold else None
    used = [("half", 0.5), *([("chosen", threshold.value)] if threshold else [])]
    rows = {name: binary.costs(test, value) for name, value in used}
    chosen = rows.get("chosen")
    negatives = len(test) - positives
    return {
        "label": test.labels[binary.POSITIVE],
        "positives": positives,
        "share": positives / len(test),
        "threshold": threshold,
        "rows": [
            {
                "name": name,
                "costs": row,
                "cost": None if cost is None else row.cost(cost),
            }
            for name, row in reversed(rows.items())
        ],
        "roc": charts.curve(
            ("false alarms: share of the others", "recall"),
            binary.roc(test),
            None,
            (chosen.false_alarms / negatives, chosen.found / positives) if chosen else None,
        ),
        "precision_recall": charts.curve(
            ("recall", "precision"),
            binary.precision_recall(test),
            positives / len(test),
            (chosen.recall or 0.0, chosen.precision) if chosen and chosen.precision is not None else None,
        ),
    }


def _gain(here: Mapping[str, Any], there: Mapping[str, Any]) -> float:
    return (here["f1"] or 0.0) - (there["f1"] or 0.0)


def _balance(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Per class its examples and share in each split; `most`: the largest share, which bars are drawn against."""
    splits = {name: dataset["splits"][name] for name in SPLITS}
    rows = [
        {
            "name": name,
            "cells": [
                {"examples": split["classes"][name], "share": split["classes"][name] / max(1, split["examples"])}
                for split in splits.values()
            ],
        }
        for name in splits["train"]["classes"]
    ]
    most = max(cell["share"] for row in rows for cell in row["cells"])
    if len(rows) > SHOWN_CLASSES:
        rows.sort(key=lambda row: -row["cells"][0]["examples"])
        rows = [*rows[:10], *rows[-10:]]
    totals = {name: split["examples"] for name, split in splits.items()}
    return {"rows": rows, "most": most or 1.0, "totals": totals, "all": sum(totals.values())}


def _inputs(findings: Findings) -> list[dict[str, Any]]:
    """Name, dtype, shape and, if it is numeric, the statistics of each input over the train split."""
    statistics = findings.dataset.properties["splits"]["train"].get("inputs", {})
    return [{**asdict(spec), "statistics": statistics.get(spec.name)} for spec in findings.schema.inputs]


def _shown(mistake: Mistake, findings: Findings) -> dict[str, Any]:
    """A mistake as the page shows it: pictures, texts, and rows of values."""
    statistics = findings.dataset.properties["splits"]["train"].get("inputs", {})
    pictures, texts, numbers = [], [], []
    for spec in findings.schema.inputs:
        array = mistake.inputs[spec.name]
        if is_picture(spec):
            small = max(spec.shape[:2]) <= PICTURE
            pictures.append({"name": spec.name, "url": picture(array, statistics.get(spec.name)), "small": small})
        elif spec.dtype == "string":
            text = " · ".join(_text(value) for value in np.atleast_1d(array).ravel()[:SHOWN_VALUES])
            texts.append({"name": spec.name, "text": text[:SHOWN_TEXT] + ("…" if len(text) > SHOWN_TEXT else "")})
        else:
            numbers.append({"name": spec.name, **_values(array, statistics.get(spec.name))})
    return {
        "mistake": mistake,
        "pictures": pictures,
        "texts": texts,
        "numbers": numbers[:SHOWN_INPUTS],
        "more": max(0, len(numbers) - SHOWN_INPUTS),
    }


def is_picture(spec: InputSpec) -> bool:
    """Whether an input is shown as a picture: numbers of shape (h, w), (h, w, 1) or (h, w, 3), at least 4 by 4."""
    plane = spec.shape[:2] if len(spec.shape) == 2 or (len(spec.shape) == 3 and spec.shape[2] in (1, 3)) else ()
    return spec.dtype != "string" and len(plane) == 2 and min(plane) >= 4


def picture(array: NDArray[Any], statistics: Mapping[str, float] | None) -> Markup:
    """An array (h, w), (h, w, 1) or (h, w, 3) as the data URL of a PNG.

    The minimum of the train split, or without statistics of the array, is black, the maximum white.
    """
    values = np.nan_to_num(array.astype(np.float32)).reshape(*array.shape[:2], -1)
    known = statistics or {}
    low, high = (
        known.get(name, float(bound)) for name, bound in (("minimum", values.min()), ("maximum", values.max()))
    )
    scale = PICTURE / max(values.shape[:2])
    if scale < 1:
        size = [max(1, round(side * scale)) for side in values.shape[:2]]
        values = tf.image.resize(values, size, method="area").numpy()
    levels = np.clip((values - low) / ((high - low) or 1) * 255, 0, 255).round().astype(np.uint8)
    png = base64.b64encode(tf.io.encode_png(levels).numpy()).decode()
    return Markup("data:image/png;base64,") + png


def _values(array: NDArray[Any], statistics: Mapping[str, float] | None) -> dict[str, Any]:
    """Numbers as text; of a single one also its place between the train split's minimum and maximum, in per cent, and
    whether it lies beyond them.
    """
    if array.ndim:
        flat = array.ravel()
        text = ", ".join(as_number(float(value)) for value in flat[:SHOWN_VALUES])
        text = f"{text}, … ({flat.size} values)" if flat.size > SHOWN_VALUES else text
        return {"text": text, "single": False, "place": None, "beyond": False}
    value = float(array)
    place, beyond = None, False
    if statistics and statistics["maximum"] > statistics["minimum"]:
        share = (value - statistics["minimum"]) / (statistics["maximum"] - statistics["minimum"])
        place, beyond = round(100 * min(1.0, max(0.0, share)), 1), not 0 <= share <= 1
    return {"text": as_number(value), "single": True, "place": place, "beyond": beyond}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
