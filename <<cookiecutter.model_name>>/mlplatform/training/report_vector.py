"""What the report on a run shows of a target that is a vector."""

from typing import Any

import numpy as np

from mlplatform.contract.targets.vector import Vector
from mlplatform.contract.targets.vector_measures import METRICS, Pairs, Vectors, rates
from mlplatform.data.dataset import SPLITS
from mlplatform.reporting import charts
from mlplatform.reporting.page import as_number
from mlplatform.training.findings import Findings, Prediction

TEMPLATE = "report_vector.html"
BINS = 30
# Points of a drawn curve.
POINTS = 400


def mistakes(rows: Vectors, count: int) -> list[Prediction]:
    """The pairs that are hardest to tell, each as two rows after one another: of two identities the most similar ones,
    of one the least similar ones, in turn; at most `count` rows, each in one pair.
    """
    pairs, seen = rows.pairs, set[int]()
    similar = _hardest(pairs, ~pairs.same, -pairs.scores, count // 4, seen)
    unlike = _hardest(pairs, pairs.same, pairs.scores, count // 4, seen)
    found = []
    for number, pair in enumerate((*similar, *unlike), start=1):
        one, other = int(pairs.first[pair]), int(pairs.second[pair])
        for row, beside in ((one, other), (other, one)):
            found.append(
                Prediction(
                    row=row,
                    predicted=f"pair {number}",
                    note=f"similarity {as_number(float(pairs.scores[pair]))}",
                    truth=_name(rows.identities[row]),
                    note_of_truth=f"beside {_name(rows.identities[beside])}",
                )
            )
    return found


def values(findings: Findings) -> dict[str, Any]:
    """What the template shows."""
    target, pairs = findings.schema.target, findings.test.pairs
    splits = findings.dataset.properties["splits"]
    return {
        "distance": target.distance if isinstance(target, Vector) else "",
        "size": target.size if isinstance(target, Vector) else 0,
        "comparison": findings.paired,
        "figures": findings.figures(METRICS),
        "roc": _roc(pairs, findings.metrics["threshold"]) if pairs.both else None,
        "similarities": _similarities(pairs) if pairs.both else None,
        "balance": [
            {"name": name, "examples": splits[name]["examples"], **splits[name]["identities"]}
            for name in SPLITS
            if "identities" in splits[name]
        ],
    }


def _name(identity: Any) -> str:
    return identity.decode() if isinstance(identity, bytes) else str(identity)


def _hardest(pairs: Pairs, kind: Any, by: Any, count: int, seen: set[int]) -> list[int]:
    """The first pairs of a kind, from the lowest value on, whose rows were not seen before."""
    found: list[int] = []
    for pair in np.argsort(np.where(kind, by, np.inf), kind="stable").tolist():
        if len(found) == count or not kind[pair]:
            break
        rows = {int(pairs.first[pair]), int(pairs.second[pair])}
        if not rows & seen:
            seen |= rows
            found.append(pair)
    return found


def _roc(pairs: Pairs, threshold: Any) -> Any:
    """The curve, with the point of the threshold."""
    wrongly, accepted = rates(pairs)
    drawn = np.unique(np.linspace(0, len(wrongly) - 1, POINTS).astype(np.int64))
    points = [*zip(wrongly[drawn].tolist(), accepted[drawn].tolist(), strict=True)]
    mark = (threshold["false_accept_rate"], threshold["true_accept_rate"]) if threshold else None
    return charts.curve(("false accept rate", "true accept rate"), points, None, mark)


def _similarities(pairs: Pairs) -> Any:
    """How similar pairs of one identity are, and as a line those of two."""
    if pairs.scores.min() == pairs.scores.max():
        return None
    edges = np.histogram_bin_edges(pairs.scores, BINS)
    same, different = (np.histogram(pairs.scores[kind], edges)[0] / kind.sum() for kind in (pairs.same, ~pairs.same))
    return charts.histograms("similarity", edges.tolist(), same.tolist(), different.tolist())
