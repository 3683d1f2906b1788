"""What the report on a run shows of a target that is a number."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mlplatform.contract.targets.number import Number
from mlplatform.contract.targets.number_measures import METRICS, Numbers
from mlplatform.data.dataset import SPLITS
from mlplatform.reporting import charts
from mlplatform.reporting.page import as_number
from mlplatform.training.findings import Findings, Prediction

TEMPLATE = "report_number.html"
BINS = 30


def mistakes(rows: Numbers, count: int) -> list[Prediction]:
    """The rows with the largest errors, the worst first; at most `count`."""
    errors = np.nan_to_num(rows.errors, nan=np.inf)
    return [
        Prediction(
            row=int(row),
            predicted=as_number(float(rows.predicted[row])),
            note=f"{'+' if rows.residuals[row] > 0 else ''}{as_number(float(rows.residuals[row]))}",
            truth=as_number(float(rows.true[row])),
            note_of_truth="",
        )
        for row in np.argsort(-errors, kind="stable")[:count]
    ]


def values(findings: Findings) -> dict[str, Any]:
    """What the template shows."""
    target = findings.schema.target
    splits = findings.dataset.properties["splits"]
    return {
        "unit": target.unit if isinstance(target, Number) else "",
        "comparison": findings.paired,
        "figures": findings.figures(METRICS),
        "residuals": _residuals(findings),
        "spread": {name: splits[name].get("values") or {} for name in SPLITS},
        "distribution": _distribution(splits["train"].get("values") or {}),
    }


def _residuals(findings: Findings) -> Any:
    """How far predictions are off, with their sign; production's as a line."""
    sides = [findings.test, *([findings.compared.test] if findings.compared else [])]
    drawn = [rows.at(rows.valid).residuals for rows in sides]
    together = np.concatenate(drawn)
    if not len(together) or together.min() == together.max():
        return None
    edges = np.histogram_bin_edges(together, BINS)
    shares = [(np.histogram(residuals, edges)[0] / max(1, len(residuals))).tolist() for residuals in drawn]
    return charts.histograms("predicted - true", edges.tolist(), shares[0], shares[1] if len(shares) > 1 else [])


def _distribution(values: Mapping[str, Any]) -> Any:
    """How the true values of the train split are spread."""
    if not values or values["minimum"] == values["maximum"]:
        return None
    counts = np.array(values["counts"], np.float64)
    return charts.histograms("true value", values["edges"], (counts / counts.sum()).tolist(), [])
