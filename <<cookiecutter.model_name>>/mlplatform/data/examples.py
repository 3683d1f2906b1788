"""Examples: checked records as columns with the dtypes and shapes of the model's inputs."""

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.contract.lengths import Length
from mlplatform.contract.missing import filled_in
from mlplatform.data.batches import MISSING, Batch, Problem, Record
from mlplatform.data.checking import RecordChecker, truth_fault
from mlplatform.data.columns import Array, Column, Columns, Texts, take
from mlplatform.data.dataset import SOURCE, InputSpec, Schema
from mlplatform.data.lists import items_of, packed
from mlplatform.data.plain_checks import PlainChecks, may_have_shape, nested_array, number_array, within
from mlplatform.data.stepping import Lineage


@dataclass
class _Rows:
    """Records on their way to a table: where they stand, their ids if any, truths as text, and inputs as columns.

    others: the properties that are no input; None if the schema has no others, or no record has. sources: ids of the
    records that steps made them of; None if none did.
    """

    rows: Sequence[int]
    ids: Sequence[bytes | None]
    labels: Sequence[bytes]
    others: Sequence[Record] | None
    inputs: Mapping[str, Column]
    sources: Sequence[bytes] | None

    def take(self, chosen: NDArray[np.bool_]) -> "_Rows":
        """Those rows that a mask chooses."""
        if chosen.all():
            return self
        others = None if self.others is None else list(compress(self.others, chosen))
        return _Rows(
            list(compress(self.rows, chosen)),
            list(compress(self.ids, chosen)),
            list(compress(self.labels, chosen)),
            others,
            take(self.inputs, chosen),
            None if self.sources is None else list(compress(self.sources, chosen)),
        )


class ExampleMaker:
    """Turns records into examples: columns of the model's inputs.

    Examples whose id, or whose source's, has one of the SHA-256 in `forgotten` are dropped; `dropped` counts them by
    file.
    """

    def __init__(self, schema: Schema, forgotten: frozenset[str] = frozenset()) -> None:
        self.schema = schema
        self.dropped: Counter[int] = Counter()
        record = schema.record_without_labels()
        needed = (spec.name for spec in schema.inputs if not spec.optional)
        self._truths = tuple(part.name for part in schema.target.parts)
        self.checker = RecordChecker(record, (*self._truths, *needed))
        self._checks = PlainChecks(record)
        self._forgotten = {bytes.fromhex(digest) for digest in forgotten}
        self._known = frozenset({"id", *self._truths, *(spec.name for spec in schema.inputs)})
        self._has_others = not self._checks.closed or bool(self._checks.names - self._known)

    @property
    def forgets(self) -> bool:
        """Whether there are examples to be dropped."""
        return bool(self._forgotten)

    def make(self, batch: Batch, file: int, lineage: Lineage | None = None) -> tuple[list[Columns], list[Problem]]:
        """Tables of those records of a batch that are examples, and all other rows in order.

        lineage: if steps made the records.

        Columns of n rows: `high`, `low` (uint64): the first 16 bytes of the id's hash; `id`, `label` (Texts); `of`
        (int32), `row` (int64): where the record stands; `others` (Texts): properties that are no input, as JSON, if the
        schema has any; `input_<name>` for each input; SOURCE (Texts), if the schema has steps.
        """
        possible = batch.rows and self._checks.possible
        plain, rest = self._plain(batch, lineage) if possible else (None, range(len(batch.rows)))
        alone, problems = self._alone(batch, rest, lineage)
        tables = [self._table(rows, file) for rows in (plain, alone) if rows is not None and len(rows.rows)]
        return tables, sorted([*batch.problems, *problems], key=attrgetter("row"))

    def _plain(self, batch: Batch, lineage: Lineage | None) -> tuple[_Rows, Sequence[int]]:
        """The records that fit as can be seen for many at once, and the indices of the others."""
        fits, others = self._check_others(batch)
        inputs: dict[str, Column] = {}
        for spec in self.schema.inputs:
            inputs[f"input_{spec.name}"], input_fits = self._input(spec, batch)
            fits &= input_fits
        ids, truths = batch.column("id"), [batch.column(name) for name in self._truths]
        for name, values in zip(("id", *self._truths), (ids, *truths), strict=True):
            fits &= _all_if_none(self._checks.fits(name, values), len(batch.rows))
        target = self.schema.target
        labels, valid = target.texts(target.given(truths))
        fits &= valid
        own, sources = lineage or (_id_bytes(ids), None)
        rows = _Rows(batch.rows, own, labels, others, inputs, sources)
        return rows.take(fits), np.flatnonzero(~fits).tolist()

    def _check_others(self, batch: Batch) -> tuple[NDArray[np.bool_], Sequence[Record] | None]:
        """Which records' properties that are no input fit, and these properties."""
        fits = np.ones(len(batch.rows), bool)
        others = batch.others(self._known)
        named = self._checks.names - self._known
        if others is None:
            return fits & (not named & self._checks.required), None
        if self._checks.closed:
            fits &= np.array([named.issuperset(properties) for properties in others], bool)
        for name in sorted(named):
            values = [properties.get(name, MISSING) for properties in others]
            fits &= _all_if_none(self._checks.fits(name, values), len(batch.rows))
        return fits, others if self._has_others else None

    def _input(self, spec: InputSpec, batch: Batch) -> tuple[Column, NDArray[np.bool_]]:
        """The column of an input, and which of its values fit; where one does not, it holds anything."""
        numeric = spec.dtype not in ("string", "bool")
        levels = self._checks.levels(spec.name) if numeric else None
        if levels is not None and not spec.length and may_have_shape(levels, spec.sizes):
            known = batch.numbers(spec.name, spec.sizes)
            if known is not None:
                cast, kept = _of_numbers(known, spec, levels[-1])
                fits: NDArray[np.bool_] = np.logical_and.reduce(kept.reshape(len(kept), -1), axis=1)
                return cast, fits
        number = self._checks.number(spec.name) if numeric and spec.shape == () else None
        values = batch.column(spec.name)
        if spec.missing is not None:
            fits = _all_if_none(self._checks.fits(spec.name, values), len(values))
            column, wrong = _column([None if value is MISSING else value for value in values], spec)
            fits[list(wrong)] = False
            return column, fits
        if not spec.nullable or spec.name in self._checks.required or MISSING not in values:
            return self._given(spec, values, number)
        there = np.array([value is not MISSING for value in values], bool)
        numbers, fits = np.full((len(values), *spec.sizes), np.nan, spec.dtype), ~there
        numbers[there], fits[there] = self._given(spec, [value for value in values if value is not MISSING], number)
        return numbers, fits

    def _given(
        self, spec: InputSpec, values: Sequence[Any], number: Mapping[str, Any] | None
    ) -> tuple[Column, NDArray[np.bool_]]:
        """See `_input`, of values that are there. number: the schema of a single number."""
        if number is not None:
            array, exact = number_array(values)
            cast, fits = _of_numbers(array, spec, number)
            return cast, fits & exact
        if spec.length and (lists := self._lists(spec, values)) is not None:
            return lists, np.ones(len(values), bool)
        levels = self._checks.levels(spec.name)
        if levels is not None and not spec.length:
            whole = _nested_floats(values, levels, spec)
            if whole is not None:
                return whole, np.ones(len(values), bool)
        fits = _all_if_none(self._checks.fits(spec.name, values), len(values))
        column, wrong = _column(values, spec)
        fits[list(wrong)] = False
        return column, fits

    def _lists(self, spec: InputSpec, values: Sequence[Any]) -> Column | None:
        """The column of lists of any length, all at once; None if that does not do."""
        levels, found = self._checks.levels(spec.name), items_of(values, spec)
        if levels is None or found is None:
            return None
        items = _nested_floats(found[0], levels[1:], spec.item)
        return None if items is None else packed(items, found[1])

    def _alone(
        self, batch: Batch, indices: Sequence[int], lineage: Lineage | None
    ) -> tuple[_Rows | None, list[Problem]]:
        """Of the records with these indices, each judged alone, those that are examples, and the others."""
        problems: list[Problem] = []
        records: dict[int, Record] = {}
        for i in indices:
            record = batch.record(i)
            reason = self.checker.reason(record) or self._lacks(record)
            if reason:
                problems.append(Problem(batch.rows[i], reason))
            else:
                records[i] = record
        if not records:
            return None, problems
        reasons: dict[int, str] = {}
        inputs: dict[str, Column] = {}
        for spec in self.schema.inputs:
            values = [record.get(spec.name) for record in records.values()]
            inputs[f"input_{spec.name}"], wrong = _column(values, spec)
            reasons = wrong | reasons
        rows = [batch.rows[i] for i in records]
        problems += [Problem(rows[i], reason) for i, reason in reasons.items()]
        ids: Sequence[bytes | None] = _id_bytes([record.get("id") for record in records.values()])
        sources = None
        if lineage is not None:
            ids, sources = ([column[i] for i in records] for column in lineage)
        truths = [[record[name] for record in records.values()] for name in self._truths]
        labels, _ = self.schema.target.texts(self.schema.target.given(truths))
        others = [{n: v for n, v in record.items() if n not in self._known} for record in records.values()]
        examples = _Rows(rows, ids, labels, others if self._has_others else None, inputs, sources)
        return examples.take(~np.isin(np.arange(len(rows)), list(reasons))), problems

    def _lacks(self, record: Record) -> str:
        """Why a record that fits the JSON Schema is no example, as far as that is not a matter of dtypes and shapes."""
        for spec in self.schema.inputs:
            if spec.name not in record and not spec.optional:
                return f"{spec.name}: missing, and the model has this input"
        return truth_fault(record, self.schema.target)

    def _table(self, examples: _Rows, file: int) -> Columns:
        count = len(examples.rows)
        ids = _ids(examples)
        digests = [hashlib.sha256(example_id).digest() for example_id in ids]
        halves = np.frombuffer(b"".join(digests), ">u8").reshape(count, 4)[:, :2].astype("<u8")
        columns: dict[str, Column] = {
            "high": halves[:, 0].copy(),
            "low": halves[:, 1].copy(),
            "id": Texts.of(ids),
            "label": Texts.of(examples.labels),
            "of": np.full(count, file, np.int32),
            "row": np.array(examples.rows, np.int64),
        }
        if self._has_others:
            others = examples.others
            columns["others"] = Texts.of([b""] * count if others is None else list(map(_json_bytes, others)))
        columns |= examples.inputs
        sources = examples.sources or ids
        if self.schema.steps:
            columns[SOURCE] = Texts.of(sources)
        if not self._forgotten:
            return columns
        forgotten = np.array([digest in self._forgotten for digest in digests], bool)
        forgotten |= np.array([hashlib.sha256(source).digest() in self._forgotten for source in sources], bool)
        if not forgotten.any():
            return columns
        self.dropped[file] += int(forgotten.sum())
        return take(columns, ~forgotten)


def _all_if_none(fits: NDArray[np.bool_] | None, count: int) -> NDArray[np.bool_]:
    return np.ones(count, bool) if fits is None else fits


def _id_bytes(ids: Sequence[Any]) -> list[bytes | None]:
    """Ids as text; None for those that are null or missing."""
    if set(map(type, ids)) == {str}:
        return list(map(str.encode, ids))
    return [None if example_id is None or example_id is MISSING else str(example_id).encode() for example_id in ids]


def _json_bytes(properties: Record) -> bytes:
    return json.dumps(properties, sort_keys=True, ensure_ascii=False).encode() if properties else b""


def _ids(examples: _Rows) -> list[bytes]:
    """The ids of examples; those that have none take one from their inputs."""
    without = [i for i, example_id in enumerate(examples.ids) if example_id is None]
    ids = [example_id or b"" for example_id in examples.ids]
    for i, example_id in zip(without, _content_ids(examples.inputs, without), strict=True):
        ids[i] = example_id
    return ids


def _of_numbers(array: Array, spec: InputSpec, number: Mapping[str, Any]) -> tuple[Array, NDArray[np.bool_]]:
    """Numbers, float64 (n, ...), as an input's column, and which of them fit it and their schema."""
    cast = _cast(array, np.dtype(spec.dtype))
    return cast, within(array, number) & (_kept(cast, array, spec) if cast.dtype.kind == "f" else cast == array)


def _nested_floats(values: Sequence[Any], levels: Sequence[Mapping[str, Any]], spec: InputSpec) -> Array | None:
    """Nested lists of numbers of one shape, (n, *shape), see plain_checks.nested_array; None if one does not fit."""
    nested = nested_array(values, levels, spec.sizes) if spec.dtype.startswith("float") else None
    if nested is None:
        return None
    cast = _cast(nested, np.dtype(spec.dtype))
    return cast if _kept(cast, nested, spec).all() else None


def _column(values: Sequence[Any], spec: InputSpec) -> tuple[Column, dict[int, str]]:
    """The column of an input, and reasons by row for the values that do not fit; there it holds anything."""
    if spec.optional:
        values = [filled_in(value, spec.shape, spec.gap) for value in values]
    whole = _whole_column(values, spec)
    if whole is not None:
        return whole, {}
    reasons = {}
    arrays: list[Any] = []
    for i, value in enumerate(values):
        try:
            arrays.append(_to_text(value, spec) if spec.dtype == "string" else _to_array(value, spec))
        except (ValueError, TypeError, OverflowError) as error:
            reasons[i] = f"{spec.name}: {error}"
            arrays.append(None)
    if spec.dtype == "string":
        blank = [b""] * int(np.prod(spec.sizes, dtype=np.int64))
        return Texts.of([text for texts in arrays for text in (blank if texts is None else texts)], spec.sizes), reasons
    blank_array = np.zeros((0, *spec.sizes) if spec.length else spec.sizes, spec.dtype)
    if spec.length:
        lists = [blank_array if array is None else array for array in arrays]
        return packed(np.concatenate(lists), np.array(list(map(len, lists)), np.int64)), reasons
    return np.stack([blank_array if array is None else array for array in arrays]), reasons


def _whole_column(values: Sequence[Any], spec: InputSpec) -> Column | None:
    """All values at once, or None if one of them does not fit."""
    if spec.dtype == "string":
        return _whole_texts(values, spec)
    if not spec.length:
        return _whole_array(values, spec)
    found = items_of(values, spec)
    items = None if found is None or not found[0] else _whole_array(found[0], spec.item)
    return None if found is None or items is None else packed(items, found[1])


def _whole_array(values: Sequence[Any], spec: InputSpec) -> Array | None:
    """All values at once, or None if one of them does not fit."""
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, OverflowError):
        return None
    wanted = np.dtype(spec.dtype)
    # Whole numbers among others would pass through floats and lose digits.
    kinds = "biuf" if wanted.kind == "f" else "biu" if wanted.kind in "iu" else "b"
    if array.shape != (len(values), *spec.sizes) or array.dtype.kind not in kinds:
        return None
    if wanted.kind == "f":
        # As when others than whole numbers are among them: what a number becomes may not depend on its neighbours.
        array = array.astype(np.float64, copy=False)
    cast = _cast(array, wanted)
    return cast if _holds(cast, array, spec) else None


def _to_array(value: Any, spec: InputSpec) -> Array:
    """Raises ValueError, TypeError or OverflowError with a clause that says why it does not fit."""
    if spec.length:
        return _to_list(value, spec, spec.length)
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"not a {spec.dtype} array of shape {spec.shape}: {error}") from None
    if value is None:
        raise ValueError(f"null, and the model takes a {spec.dtype}")
    if array.dtype.kind == "O" and array.shape == spec.shape and all(isinstance(v, int) for v in array.flat):
        raise ValueError(f"not a {spec.dtype} array of shape {spec.shape}: {_said(value)} does not fit")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"not a {spec.dtype} array of shape {spec.shape}: holds {array.dtype.name} values")
    if array.shape != spec.shape:
        raise ValueError(f"has shape {array.shape}, the model takes {spec.shape}")
    cast = _cast(array, np.dtype(spec.dtype))
    if not _holds(cast, array, spec):
        raise ValueError(f"not a {spec.dtype} array of shape {spec.shape}: {_said(value)} does not fit")
    return cast


def _to_list(value: Any, spec: InputSpec, length: Length) -> Array:
    """(length, *shape of an item). Raises as `_to_array` does."""
    if not isinstance(value, list):
        raise ValueError(f"{_said(value)} is no list")
    if not length.least <= len(value) <= length.most:
        raise ValueError(f"has {len(value)} items, the model takes {length.least} to {length.most}")
    items = [np.empty((0, *spec.sizes), spec.dtype)]
    for place, item in enumerate(value):
        try:
            items.append(_to_array(item, spec.item)[np.newaxis])
        except (ValueError, TypeError, OverflowError) as error:
            raise ValueError(f"item {place} {error}") from None
    return np.concatenate(items)


def _cast(array: Array, dtype: np.dtype[Any]) -> Array:
    with np.errstate(all="ignore"):
        return array.astype(dtype)


def _holds(cast: Array, array: Array, spec: InputSpec) -> bool:
    """Whether a cast kept the values: whole numbers exactly, others but for their rounding."""
    if cast.dtype.kind in "iub":
        return bool(np.array_equal(cast, array))
    return bool(_kept(cast, array, spec).all())


def _kept(cast: Array, array: Array, spec: InputSpec) -> NDArray[np.bool_]:
    """Which values a cast to floats kept: those that are finite, and those that may be missing and are."""
    kept: NDArray[np.bool_] = np.isfinite(cast)
    return kept | np.isnan(array) if spec.nullable else kept


def _whole_texts(values: Sequence[Any], spec: InputSpec) -> Texts | None:
    if spec.shape or not all(isinstance(value, str) for value in values):
        return None
    try:
        return Texts.of([_text_bytes(value, spec) for value in values])
    except ValueError:
        return None


def _text_bytes(value: str, spec: InputSpec) -> bytes:
    """Text, or what it stands for in base64. Raises ValueError if that is none."""
    if not spec.media_type:
        return value.encode()
    try:
        return base64.b64decode(value, validate=True)
    except ValueError as error:
        raise ValueError(f"{_said(value)} is not base64: {error}") from None


def _to_text(value: Any, spec: InputSpec) -> list[bytes]:
    """The texts of one example in order."""
    shape: tuple[int, ...] = ()
    flat: list[Any] = [value]
    while len(shape) < len(spec.shape) and flat and all(isinstance(item, list) for item in flat):
        lengths = {len(item) for item in flat}
        if len(lengths) > 1:
            raise ValueError(f"not a string array of shape {spec.shape}: its lists are not of one length")
        shape = (*shape, lengths.pop())
        flat = [inner for item in flat for inner in item]
    if shape != spec.shape:
        raise ValueError(f"has shape {shape}, the model takes {spec.shape}")
    for item in flat:
        if not isinstance(item, str | int | float):
            raise ValueError(f"{_said(item)} is no text")
    return [_text_bytes(str(item), spec) for item in flat]


def _said(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:60]} ... {text[-30:]}"


def _content_ids(inputs: Mapping[str, Column], rows: Sequence[int]) -> list[bytes]:
    """Ids that follow from the inputs: the same inputs twice are one example, whatever their labels."""
    if not rows:
        return []
    if any(isinstance(column, Texts) for column in inputs.values()):
        return [_content_id(inputs, row) for row in rows]
    pieces: list[Array] = []
    for column in inputs.values():
        if not isinstance(column, Texts):
            content = np.ascontiguousarray(column[np.array(rows)]).reshape(len(rows), -1).view(np.uint8)
            pieces += [np.zeros((len(rows), 1), np.uint8), content]
    content = np.concatenate(pieces[1:], axis=1)
    return [hashlib.sha256(row.data).hexdigest()[:32].encode() for row in content]


def _content_id(inputs: Mapping[str, Column], row: int) -> bytes:
    """The id of one example; see `_content_ids`."""
    pieces: list[bytes] = []
    for column in inputs.values():
        if not isinstance(column, Texts):
            pieces.append(column[row].tobytes())
        elif column.ends.ndim == 1:
            pieces.append(column.take(np.array([row])).data.tobytes())
        else:
            texts: Sequence[bytes] = column.array(np.array([row])).reshape(-1).tolist()
            pieces.append(b"".join(len(text).to_bytes(8) + text for text in texts))
    return hashlib.sha256(b"\0".join(pieces)).hexdigest()[:32].encode()
