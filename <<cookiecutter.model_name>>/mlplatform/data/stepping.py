"""Applying the steps of `model.STEPS` to the records of a source, before anything is checked."""

import base64
import copy
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from mlplatform.contract import team_code
from mlplatform.contract.errors import BadDataError
from mlplatform.data.batches import Batch, JsonBatch, Problem
from mlplatform.data.checking import shortened
from mlplatform.data.steps import Step


class Lineage(NamedTuple):
    """Of the examples of a batch that steps made: their ids, and those of the records that they come from."""

    ids: Sequence[bytes]
    sources: Sequence[bytes]


class _StepError(Exception):
    """A step made nothing of a record; the message says why."""


class Stepper:
    """Applies steps to batches, and tries each step twice on the first record that it is given."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self._tried: set[int] = set()

    def apply(self, batch: Batch) -> tuple[JsonBatch, Lineage, int]:
        """What the steps make of a batch, each at the row of its source, and how many rows they made nothing of.

        An example has the id of its source, or one that follows from the source's content if it has none. Where a step
        makes several of one, `-0`, `-1` ... follow it, unless the step gives each an id of its own. Raises BadDataError
        if a step gives something else for the same record.
        """
        rows: list[int] = []
        records: list[Any] = []
        lineage = Lineage(ids := [], sources := [])
        problems = list(batch.problems)
        dropped = 0
        for i, row in enumerate(batch.rows):
            record = batch.record(i)
            if not isinstance(record, dict):
                problems.append(Problem(row, f"must be a JSON object, is {shortened(json.dumps(record))}"))
                continue
            source = _id_of(record)
            try:
                made = self._made(record, source)
            except _StepError as error:
                problems.append(Problem(row, str(error)))
                continue
            dropped += not made
            for example_id, example in made:
                rows.append(row)
                records.append(example)
                ids.append(example_id.encode())
                sources.append(source.encode())
        return JsonBatch(rows, records, problems, ["id"], True), lineage, dropped

    def _made(self, record: dict[str, Any], source: str) -> list[tuple[str, dict[str, Any]]]:
        """Ids and records that all steps together make of one. Raises _StepError."""
        made = [(source, record)]
        for number, step in enumerate(self._steps):
            made = [entry for of, one in made for entry in self._by(number, step, of, one)]
        return made

    def _by(self, number: int, step: Step, of: str, record: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        before = copy.deepcopy(record) if number not in self._tried else None
        own = record.get("id")
        found = _called(step, record)
        if before is not None:
            self._tried.add(number)
            if _called(step, before) != found:
                raise BadDataError(
                    f"model.STEPS: step {step.identity[0]!r} gives something else for the same record ({of}) each "
                    "time; let it follow from the record alone, without chance and clock"
                )
        ids = [str(one["id"]) if one.get("id") not in (None, own) else "" for one in found]
        several = len(found) > 1
        return [
            (own_id or (f"{of}-{place}" if several else of), one)
            for place, (own_id, one) in enumerate(zip(ids, found, strict=True))
        ]


def _called(step: Step, record: dict[str, Any]) -> list[dict[str, Any]]:
    """The records that a step makes of one, as JSON holds them. Raises _StepError."""
    name = f"step {step.identity[0]!r}"
    found = []
    try:
        # One by one: a generator may change the record that it gave before.
        for one in _listed(step.function(record)):
            if not isinstance(one, Mapping):
                raise _StepError(f"{name} returns {type(one).__name__}; return a record, several, or None")
            found.append(orjson.loads(orjson.dumps(dict(one), _as_json, orjson.OPT_SERIALIZE_NUMPY)))
    # That there was no memory left says nothing of the record.
    except (_StepError, MemoryError):
        raise
    except orjson.JSONEncodeError as error:
        raise _StepError(f"{name} returns what no record can hold: {shortened(str(error))}") from error
    # Anything at all: it is the team's code.
    except Exception as error:
        place = team_code.place(error)
        told = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        raise _StepError(
            f"{name}{f' ({place})' if place else ''} raises {type(error).__name__}: {shortened(told)}"
        ) from error
    return found


def _listed(given: Any) -> Iterable[Any]:
    """What a step returned as several records; anything that is no record stays for the message."""
    if given is None:
        return ()
    return given if isinstance(given, Iterable) and not isinstance(given, Mapping | str | bytes) else (given,)


def _as_json(value: Any) -> Any:
    """What orjson does not write itself: bytes as base64, and arrays that are not in one piece."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError


def _id_of(record: Mapping[str, Any]) -> str:
    """The id of a record of the source; of one that has none it follows from its content."""
    if record.get("id") is not None:
        return str(record["id"])
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:32]
