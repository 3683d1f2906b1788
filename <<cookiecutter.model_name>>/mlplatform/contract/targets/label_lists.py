"""Sentences about the labels that a target has, and that somebody names."""

import difflib
from collections.abc import Iterator, Sequence

from mlplatform.contract.criteria import Criteria
from mlplatform.contract.metrics import split_name

SHOWN = 20


def some(labels: Sequence[str]) -> str:
    """The first of them."""
    return ", ".join(labels[:SHOWN]) + (", ..." if len(labels) > SHOWN else "")


def unknown(criteria: Criteria, labels: Sequence[str]) -> Iterator[str]:
    """What is wrong with the labels that the gate's tables name."""
    for row in criteria.rows:
        _, label = split_name(row.metric)
        if label is not None and label not in labels:
            near = difflib.get_close_matches(label, labels, 1)
            known = f"did you mean {near[0]!r}?" if near else f"it has: {some(labels)}"
            yield f"[{row.table}]: the model has no label {label!r}; {known}"
    for label in criteria.absent_labels:
        if label not in labels:
            yield f"gate.absent_labels: the model has no label {label!r}; it has: {some(labels)}"


def why_others(here: Sequence[str], there: Sequence[str]) -> str:
    """Why a model with the labels `there` does another task, as a clause; empty if they are the same in order."""
    if list(here) == list(there):
        return ""
    only_there = [label for label in there if label not in here]
    only_here = [label for label in here if label not in there]
    parts = [
        f"{', '.join(names)} only {place}" for names, place in ((only_there, "there"), (only_here, "here")) if names
    ]
    return f"it knows other labels: {'; '.join(parts) or 'the same in another order'}"
