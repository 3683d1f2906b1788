"""What the report on a run shows of a target of tags."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mlplatform.contract.comparison import Comparison
from mlplatform.contract.targets.tag_measures import TagRows, listed
from mlplatform.contract.targets.tags import in_line
from mlplatform.data.dataset import SPLITS
from mlplatform.reporting.page import as_percent
from mlplatform.training.findings import Findings, Prediction

TEMPLATE = "report_tags.html"
# Tags up to which each is shown; with more, those with the lowest F1.
SHOWN_TAGS = 60
# With fewer examples of a tag its figures say little.
FEW_EXAMPLES = 30


def mistakes(rows: TagRows, count: int) -> list[Prediction]:
    """The rows with the most wrong tags, of equally many the least probable truth first; at most `count`."""
    probabilities = rows.of_every_tag()
    of_truth = np.where(rows.true, probabilities, 1 - probabilities).min(axis=1)
    wrong = np.flatnonzero(rows.wrong)
    worst = wrong[np.lexsort((of_truth[wrong], -rows.wrong[wrong]))][:count]
    return [
        Prediction(
            row=int(row),
            predicted=_named(rows, rows.said[row]),
            note=f"{rows.wrong[row]} wrong",
            truth=_named(rows, rows.true[row]),
            note_of_truth=_least_probable(rows, int(row)),
        )
        for row in worst
    ]


def values(findings: Findings) -> dict[str, Any]:
    """What the template shows."""
    metrics = findings.metrics
    classes = metrics["classes"]
    return {
        "comparison": _comparison(findings),
        "figures": findings.figures(listed(findings.test)),
        "tags": _tags(findings),
        "shown_tags": SHOWN_TAGS,
        "balance": _balance(findings.dataset.properties),
        "few_examples": FEW_EXAMPLES,
        "scarce": [label for label, figures in classes.items() if figures["examples"] < FEW_EXAMPLES],
    }


def _named(rows: TagRows, tags: Any) -> str:
    return in_line([rows.labels[tag] for tag in np.flatnonzero(tags)])


def _least_probable(rows: TagRows, row: int) -> str:
    """The wrong tag that the model is surest about, with its probability."""
    probabilities = rows.of_every_tag()[row]
    wrong = rows.true[row] != rows.said[row]
    tag = int(np.where(wrong, np.where(rows.true[row], 1 - probabilities, probabilities), -1.0).argmax())
    return f"{rows.labels[tag]}: {as_percent(float(probabilities[tag]))}"


def _comparison(findings: Findings) -> dict[str, Any] | None:
    """Row by row against production, how each metric has changed, and the tags whose F1 has, by how much."""
    opponent, compared = findings.verdict.opponent, findings.compared
    if not isinstance(opponent.comparison, Comparison) or compared is None:
        return None
    rows = []
    for label, here in findings.metrics["classes"].items():
        there = compared.metrics["classes"][label]
        if (here["precision"], here["recall"]) != (there["precision"], there["recall"]):
            change = (here["f1"] or 0.0) - (there["f1"] or 0.0)
            rows.append({"name": label, "here": here, "there": there, "change": change})
    rows.sort(key=lambda row: row["change"])
    return {
        **opponent.comparison.to_json(),
        "changes": list(opponent.changes.values()),
        "tags": rows if len(rows) <= SHOWN_TAGS else [*rows[: SHOWN_TAGS // 2], *rows[-SHOWN_TAGS // 2 :]],
        "all_tags": len(rows),
    }


def _tags(findings: Findings) -> list[dict[str, Any]]:
    """Figures of each tag in the order of the labels; of many, those with the lowest F1."""
    rows = [{"name": label, **figures} for label, figures in findings.metrics["classes"].items()]
    if len(rows) > SHOWN_TAGS:
        rows = sorted(rows, key=lambda row: 2.0 if row["f1"] is None else row["f1"])[:SHOWN_TAGS]
    return rows


def _balance(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """By tag its examples and share in each split, the most frequent first; `without`: examples that have none."""
    splits = {name: dataset["splits"][name] for name in SPLITS}

    def row(name: str, counts: list[int]) -> dict[str, Any]:
        shares = [count / max(1, split["examples"]) for count, split in zip(counts, splits.values(), strict=True)]
        cells = [{"examples": count, "share": share} for count, share in zip(counts, shares, strict=True)]
        return {"name": name, "cells": cells}

    rows = [row(label, [split["classes"][label] for split in splits.values()]) for label in splits["train"]["classes"]]
    rows.sort(key=lambda row: -row["cells"][0]["examples"])
    return {"rows": rows[:SHOWN_TAGS], "without": row("no tag", [split["without"] for split in splits.values()])}
