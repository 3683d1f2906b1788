"""Examples: checked records as columns with the dtypes and shapes of the model's inputs."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from mlplatform.contract.labels import label_text
from mlplatform.data.columns import Array, Column, Texts, take
from mlplatform.data.dataset import InputSpec, Schema


class ExampleBuffer:
    """Records in memory on their way to columns. `bytes`: about how much they will take there.

    Examples whose id has one of the SHA-256 in `forgotten` are dropped; the attribute counts them by file.
    """

    def __init__(self, schema: Schema, forgotten: frozenset[str] = frozenset()) -> None:
        self.schema = schema
        self.forgotten: Counter[int] = Counter()
        self._forgotten = {bytes.fromhex(digest) for digest in forgotten}
        self._known = {"id", "label", *(spec.name for spec in schema.inputs)}
        self._has_others = bool(set(schema.record.get("properties", {})) - self._known) or (
            schema.record.get("additionalProperties") is not False
        )
        self._sizes = [
            0 if spec.dtype == "string" else int(np.prod(spec.shape, dtype=np.int64)) * np.dtype(spec.dtype).itemsize
            for spec in schema.inputs
        ]
        names = [spec.name for spec in schema.inputs]
        self._values: Callable[[Mapping[str, Any]], tuple[Any, ...]] = (
            itemgetter(*names) if len(names) > 1 else lambda record: (record[names[0]],)
        )
        self._fixed_bytes = 64 + sum(self._sizes)
        self._texts = [i for i, size in enumerate(self._sizes) if not size]
        self._clear()

    def _clear(self) -> None:
        self.bytes = 0
        self._rows: list[tuple[Any, ...]] = []
        self._labels: list[bytes] = []
        self._ids: list[bytes | None] = []
        self._others: list[bytes] = []
        self._places: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._places)

    def add(self, record: Mapping[str, Any], file: int, row: int) -> str:
        """Add a record that fits the JSON Schema; return why it lacks what an example has, or an empty text."""
        try:
            values, label = self._values(record), record["label"]
        except KeyError as error:
            name = error.args[0]
            return "label: missing" if name == "label" else f"{name}: missing, and the model has this input"
        example_id = record.get("id")
        self._ids.append(None if example_id is None else str(example_id).encode())
        self._labels.append(label_text(label).encode())
        self._rows.append(values)
        for i in self._texts:
            self.bytes += len(values[i]) if isinstance(values[i], str) else 64
        if self._has_others:
            others = {name: value for name, value in record.items() if name not in self._known}
            self._others.append(json.dumps(others, sort_keys=True, ensure_ascii=False).encode() if others else b"")
            self.bytes += len(self._others[-1])
        self._places.append((file, row))
        self.bytes += self._fixed_bytes
        return ""

    def take(self) -> tuple[dict[str, Column], list[tuple[int, int, str]]]:
        """All examples as columns, and file, row and reason of records that are none; the buffer is empty afterwards.

        Columns of n rows: `high`, `low` (uint64): the first 16 bytes of the id's hash; `id`, `label` (Texts); `of`,
        `row` (int64): where the record stands; `others` (Texts): properties that are no input, as JSON, if the schema
        has any; `input_<name>` for each input.
        """
        count = len(self._places)
        reasons: dict[int, str] = {}
        inputs: dict[str, Column] = {}
        for spec, values in zip(self.schema.inputs, zip(*self._rows, strict=True), strict=True):
            inputs[f"input_{spec.name}"], wrong = _column(values, spec)
            for i, reason in wrong.items():
                reasons.setdefault(i, reason)
        ids = [
            example_id if example_id is not None or i in reasons else _content_id(inputs, i)
            for i, example_id in enumerate(self._ids)
        ]
        digests = [hashlib.sha256(example_id or b"").digest() for example_id in ids]
        halves = np.frombuffer(b"".join(d[:16] for d in digests), ">u8").astype("<u8").reshape(count, 2)
        places = np.array(self._places, np.int64).reshape(count, 2)
        columns: dict[str, Column] = {
            "high": halves[:, 0].copy(),
            "low": halves[:, 1].copy(),
            "id": Texts.of([example_id or b"" for example_id in ids]),
            "label": Texts.of(self._labels),
            "of": places[:, 0].copy(),
            "row": places[:, 1].copy(),
        }
        if self._has_others:
            columns["others"] = Texts.of(self._others)
        columns |= inputs
        problems = [(*self._places[i], reasons[i]) for i in sorted(reasons)]
        dropped = (
            {i for i, d in enumerate(digests) if d in self._forgotten} - reasons.keys() if self._forgotten else set()
        )
        self.forgotten.update(self._places[i][0] for i in dropped)
        if reasons or dropped:
            columns = take(columns, ~np.isin(np.arange(count), [*reasons, *dropped]))
        self._clear()
        return columns, problems


def _column(values: Sequence[Any], spec: InputSpec) -> tuple[Column, dict[int, str]]:
    """The column of an input, and reasons by row for the values that do not fit; there it holds anything."""
    whole = _whole_texts(values, spec) if spec.dtype == "string" else _whole_array(values, spec)
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
        blank = [b""] * int(np.prod(spec.shape, dtype=np.int64))
        return Texts.of([text for texts in arrays for text in (blank if texts is None else texts)], spec.shape), reasons
    blank_array = np.zeros(spec.shape, spec.dtype)
    return np.stack([blank_array if array is None else array for array in arrays]), reasons


def _whole_array(values: Sequence[Any], spec: InputSpec) -> Array | None:
    """All values at once, or None if one of them does not fit."""
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, OverflowError):
        return None
    wanted = np.dtype(spec.dtype)
    # Whole numbers among others would pass through floats and lose digits.
    kinds = "biuf" if wanted.kind == "f" else "biu" if wanted.kind in "iu" else "b"
    if array.shape != (len(values), *spec.shape) or array.dtype.kind not in kinds:
        return None
    cast = _cast(array, wanted)
    return cast if _holds(cast, array) else None


def _to_array(value: Any, spec: InputSpec) -> Array:
    """Raises ValueError, TypeError or OverflowError with a clause that says why it does not fit."""
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
    if not _holds(cast, array):
        raise ValueError(f"not a {spec.dtype} array of shape {spec.shape}: {_said(value)} does not fit")
    return cast


def _cast(array: Array, dtype: np.dtype[Any]) -> Array:
    with np.errstate(all="ignore"):
        return array.astype(dtype)


def _holds(cast: Array, array: Array) -> bool:
    """Whether a cast kept the values: whole numbers exactly, others but for their rounding."""
    if cast.dtype.kind in "iub":
        return bool(np.array_equal(cast, array))
    return bool(np.isfinite(cast).all())


def _whole_texts(values: Sequence[Any], spec: InputSpec) -> Texts | None:
    if spec.shape or not all(isinstance(value, str) for value in values):
        return None
    return Texts.of([value.encode() for value in values])


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
    return [str(item).encode() for item in flat]


def _said(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:60]} ... {text[-30:]}"


def _content_id(inputs: Mapping[str, Column], row: int) -> bytes:
    """An id that follows from the inputs: the same inputs twice are one example, whatever their labels."""
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
