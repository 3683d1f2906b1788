"""What the report on a run shows of a target of classes."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mlplatform.contract.comparison import Comparison
from mlplatform.contract.targets.class_judging import recall_margin
from mlplatform.contract.targets.class_measures import Sample
from mlplatform.data.dataset import SPLITS
from mlplatform.reporting import charts
from mlplatform.reporting.page import as_percent
from mlplatform.training import binary
from mlplatform.training.binary import Threshold
from mlplatform.training.findings import Findings, Prediction

TEMPLATE = "report_classes.html"
# Classes up to which everything is shown of each; with more, what is worth seeing.
SHOWN_CLASSES = 30
# With fewer examples of a class its figures say little: 30 right of 30 may still be 89 %.
FEW_EXAMPLES = 30


def mistakes(rows: Sample, count: int) -> list[Prediction]:
    """The wrong rows, the most confident ones first, each label with its probability; at most `count`."""
    probabilities = rows.of_every_class()
    said = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(said != rows.true)
    worst = wrong[np.argsort(-probabilities.max(axis=1)[wrong], kind="stable")][:count]
    return [
        Prediction(
            row=int(row),
            predicted=rows.labels[said[row]],
            note=as_percent(float(probabilities[row, said[row]])),
            truth=rows.labels[rows.true[row]],
            note_of_truth=as_percent(float(probabilities[row, rows.true[row]])),
        )
        for row in worst
    ]


def chosen_threshold(findings: Findings) -> Threshold | None:
    """The threshold that the validation split chooses, of two classes."""
    if findings.validation is None:
        return None
    return binary.choose_threshold(findings.validation, findings.verdict.criteria.cost_of_miss)


def values(findings: Findings) -> dict[str, Any]:
    """What the template shows."""
    metrics = findings.metrics
    return {
        "comparison": _comparison(findings),
        "recall_margin": recall_margin(findings.verdict.criteria),
        "binary": _binary(findings),
        "confusion": _confusion(metrics),
        "reliability": charts.reliability(metrics["calibration"]["bins"]),
        "mean_confidence": _mean_confidence(metrics),
        "classes": _classes(metrics),
        "shown_classes": SHOWN_CLASSES,
        "balance": _balance(findings.dataset.properties),
        "weakest": _weakest(metrics),
        "scarce": [name for name, figures in metrics["classes"].items() if figures["examples"] < FEW_EXAMPLES],
        "few_examples": FEW_EXAMPLES,
    }


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
    if not isinstance(counted, Comparison) or compared is None:
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


def _binary(findings: Findings) -> dict[str, Any] | None:
    """Curves, and what the chosen threshold costs, of a model with two classes; None of any other, or without both."""
    test, threshold = findings.test, chosen_threshold(findings)
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
    return {"rows": rows, "most": most or 1.0}
