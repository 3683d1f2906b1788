"""JSON values to arrays and back. Every fault is told by its place, such as `instances[3].image[2]`."""

import base64
import binascii
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import orjson

from mlplatform.contract.lengths import Length
from mlplatform.contract.missing import filled_in
from mlplatform.serving.errors import RequestError, bad_request
from mlplatform.serving.model.signature import Array, Tensor

Path = Callable[[tuple[int, ...]], str]
"""The place of a value in the request, from its index in the array (row first)."""

_SHOWN = 60
_DEPTH = 32
# The largest finite value by type, and its square.
_FINITE = {name: float(np.finfo(name).max) for name in ("float16", "float32", "float64")}
_SQUARES = {name: largest * largest for name, largest in _FINITE.items()}


def only_numbers(body: bytes, keys: int) -> bool:
    """Whether all values in a JSON text are numbers, given how many object keys it has.

    A few scans of the bytes that save looking at every value in Python, and keep strings and
    booleans away from NumPy, which would take them for numbers or make an array as wide as the longest.
    """
    return body.count(b'"') == 2 * keys and b"true" not in body and b"false" not in body and b"null" not in body


def to_array(value: object, tensor: Tensor, path: Path, trusted: bool) -> Array:
    """An array of shape (rows, *tensor.shape) and the tensor's dtype, C-contiguous.

    trusted: all scalars in `value` are known to be numbers, or None where they may be missing. Rows of several lengths
    are filled up, see Length. Raises RequestError naming the first faulty place.
    """
    array = _floats(value, tensor) if trusted else None
    if array is not None:
        return array
    if tensor.length and None in tensor.shape:
        return _list_array(value, tensor, tensor.length, path, trusted)
    if tensor.dtype == "string":
        _check(value, tensor, (None, *tensor.shape), path, ())
        given = value if tensor.missing is None else filled_in(value, (0, *tensor.shape), tensor.missing)
        return _string_array(given, 1 + len(tensor.shape))
    if not trusted:
        _check(value, tensor, (None, *tensor.shape), path, ())
    try:
        given = np.array(value)
    except ValueError:
        given = np.array(None)
    if tensor.may_be_null and given.dtype.kind == "O":
        given = _filled_in(value, tensor)
    array = _cast(given, tensor)
    if array is None or not _fits(array.shape, tensor.shape):
        _check(value, tensor, (None, *tensor.shape), path, ())
        raise bad_request(f"{path(())}: the rows differ in shape; expected {tensor.describe()}")
    return array


def _floats(value: object, tensor: Tensor) -> Array | None:
    """Numbers as floats of the tensor's type, if its rows have one shape and all are right; else None: look closer.

    Where the sum of the squares is less than that of the largest value, no value is too large for the type: half of
    the time that looking for one takes (benchmarks/serving/decoding.py).
    """
    square = _SQUARES.get(tensor.dtype)
    if square is None:
        return None
    try:
        given = np.array(value, np.float64)
    except (ValueError, TypeError, OverflowError):
        return None
    # Of NaN, which stands for None, nothing is true. One number is no list of rows.
    if not given.ndim or given.shape[1:] != tensor.shape or not np.vdot(given, given) < square:
        return None
    return given.astype(tensor.numpy_dtype, copy=False)


def _list_array(value: object, tensor: Tensor, length: Length, path: Path, trusted: bool) -> Array:
    """See `to_array`. The items of all rows are read as if they were rows, which NumPy does at once."""
    rows = value if isinstance(value, list) else []
    fit = all(isinstance(row, list) and length.least <= len(row) <= length.most for row in rows)
    if not (trusted and fit and rows):
        _check(value, tensor, (None, *tensor.shape), path, ())
    items = [item for row in rows for item in row]
    array = np.empty((0, *tensor.item_shape), tensor.numpy_dtype)
    if items:
        try:
            array = to_array(items, replace(tensor, shape=tensor.item_shape, length=None), path, trusted=True)
        except RequestError:
            # By its place among the rows.
            _check(value, tensor, (None, *tensor.shape), path, ())
            raise
    ends = np.cumsum(list(map(len, rows)))
    return length.joined([row[np.newaxis] for row in np.split(array, ends[:-1])])


def count_strings(content: object, passed_over: str = "") -> int:
    """Strings in JSON, keys included, but for those within values of the key `passed_over`.

    Raises RequestError (400) for what is nested deeper than any request has to be.
    """
    count, level = 0, [content]
    for _ in range(_DEPTH):
        below: list[object] = []
        for value in level:
            if isinstance(value, dict):
                count += len(value)
                below += [inner for key, inner in value.items() if key != passed_over]
            elif isinstance(value, list):
                below += value
            elif isinstance(value, str):
                count += 1
        if not below:
            return count
        level = below
    raise bad_request(f"the body is nested more than {_DEPTH} levels deep")


def check_range(array: Array, tensor: Tensor, path: Path) -> None:
    """Raises RequestError if a float array holds Infinity, or NaN where nothing may be missing, naming the first."""
    if array.dtype.kind != "f":
        return
    with np.errstate(invalid="ignore"):
        if math.isfinite(float(np.add.reduce(array, axis=None, dtype=np.float64))):
            return
    faults = np.argwhere(np.isinf(array) if tensor.nullable else ~np.isfinite(array))
    if len(faults):
        index = tuple(int(i) for i in faults[0])
        raise bad_request(f"{path(index)} is {array[index]!s}; expected a finite {tensor.dtype}")


def _cast(given: Array, tensor: Tensor) -> Array | None:
    """The array in the tensor's type if that loses nothing, else None."""
    wanted = tensor.numpy_dtype
    kind = given.dtype.kind
    if given.size == 0 and kind == "f":
        return given.astype(wanted)
    if wanted.kind == "f" and kind in "iuf":
        with np.errstate(over="ignore", invalid="ignore"):
            array = given.astype(wanted)
            # Faster than isfinite().all() on a small array, and it only ever errs towards looking closer.
            total = float(np.add.reduce(array, axis=None))
        if math.isfinite(total) or np.isfinite(array).all():
            return array
        return array if tensor.nullable and not np.isinf(array).any() else None
    if wanted.kind in "iu" and kind in "iu":
        limits = np.iinfo(wanted)
        if given.size == 0 or (int(given.min()) >= limits.min and int(given.max()) <= limits.max):
            return given.astype(wanted)
        return None
    return given if kind == wanted.kind == "b" else None


def _filled_in(value: object, tensor: Tensor) -> Array:
    """Nested lists of numbers and None as an array, with what stands for None: NaN in float64, or the team's value; of
    nothing else, or of several shapes, an object.
    """
    try:
        return np.array(filled_in(value, (0, *tensor.shape), tensor.gap), np.float64 if tensor.nullable else None)
    except (ValueError, TypeError, OverflowError):
        return np.array(None)


def _fits(shape: tuple[int, ...], row: tuple[int | None, ...]) -> bool:
    return len(shape) == 1 + len(row) and all(
        wanted is None or size == wanted for size, wanted in zip(shape[1:], row, strict=True)
    )


def _check(value: object, tensor: Tensor, shape: Sequence[int | None], path: Path, index: tuple[int, ...]) -> None:
    """Look at every value of a nested list; raises RequestError at the first that is wrong."""
    if not shape:
        fault = _scalar_fault(value, tensor)
        if fault is not None:
            raise bad_request(f"{path(index)} is {show(value)}; expected {fault}")
        return
    if value is None and index and tensor.may_be_null and None not in shape:
        return
    if not isinstance(value, list):
        raise bad_request(f"{path(index)} is {show(value)}; expected {_list_of(tensor, shape, bool(index))}")
    if shape[0] is not None and len(value) != shape[0]:
        raise bad_request(
            f"{path(index)} has {len(value)} elements; expected {shape[0]} (a row is {tensor.describe()})"
        )
    length = tensor.length
    if shape[0] is None and length and len(index) == 1 and not length.least <= len(value) <= length.most:
        raise bad_request(
            f"{path(index)} has {len(value)} elements; expected {length.least} to {length.most} (a row is "
            f"{tensor.describe()})"
        )
    if len(shape) > 1 and shape[1] is None and index == () and value and not length:
        _check_same_length(value, path)
    for position, element in enumerate(value):
        _check(element, tensor, shape[1:], path, (*index, position))


def _check_same_length(rows: Sequence[object], path: Path) -> None:
    lengths = [len(row) if isinstance(row, list) else -1 for row in rows]
    for position, length in enumerate(lengths):
        if length != lengths[0] and -1 not in (length, lengths[0]):
            raise bad_request(
                f"{path((position,))} has {length} elements, {path((0,))} has {lengths[0]}; "
                "the rows of one request must have the same shape"
            )


def _list_of(tensor: Tensor, shape: Sequence[int | None], inside: bool) -> str:
    if not inside:
        return f"a list of rows, each {tensor.describe()}"
    many = "" if shape[0] is None else f"{shape[0]} "
    return f"a list of {many}{'values' if len(shape) == 1 else 'lists'} (a row is {tensor.describe()})"


def _scalar_fault(value: object, tensor: Tensor) -> str | None:
    """What was expected instead of this value, or None if it is right."""
    dtype = tensor.numpy_dtype
    if value is None and tensor.may_be_null:
        return None
    or_null = " or null" if tensor.may_be_null else ""
    if tensor.media_type:
        return None if _is_b64(value) else f'{tensor.media_type} as {{"b64": "..."}}'
    if tensor.dtype == "string":
        return None if isinstance(value, str) or _is_b64(value) else f'a string or {{"b64": "..."}}{or_null}'
    if dtype.kind == "b":
        return None if isinstance(value, bool) else f"true or false{or_null}"
    limit = _FINITE.get(tensor.dtype)
    # Nearly every value is right, and what follows takes long.
    if limit is not None and (type(value) is float or type(value) is int) and -limit <= value <= limit:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"a number ({tensor.dtype}){or_null}"
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        right = isinstance(value, int) and limits.min <= value <= limits.max
        return None if right else f"an integer from {limits.min} to {limits.max} ({tensor.dtype})"
    with np.errstate(over="ignore"):
        return None if np.isfinite(np.asarray(value, np.float64).astype(dtype)) else f"a finite {tensor.dtype}"


def _is_b64(value: object) -> bool:
    if not (isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)):
        return False
    try:
        base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _string_array(value: object, rank: int) -> Array:
    """Object array of bytes. `value` has been checked; only the lengths below free dimensions can still differ."""
    shape: list[int] = []
    level = value
    for _ in range(rank):
        assert isinstance(level, list)  # noqa: S101 - _check has seen to it
        shape.append(len(level))
        level = level[0] if level else []
    flat: list[Any] = [value]
    for _ in range(rank):
        flat = [element for part in flat for element in part]
    if len(flat) != math.prod(shape):
        raise bad_request("the rows of one request must have the same shape")
    array = np.empty(len(flat), dtype=object)
    array[:] = [base64.b64decode(item["b64"]) if isinstance(item, dict) else item.encode() for item in flat]
    return array.reshape(shape)


def show(value: object) -> str:
    """A value as JSON, shortened, for a message."""
    try:
        text = orjson.dumps(value).decode()
    except (TypeError, ValueError):
        text = _as_text(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _as_text(value: object) -> str:
    """Of what orjson does not write: a number that is too large, or what is nested too deeply."""
    try:
        return str(value)
    except (RecursionError, ValueError):
        return "a long number" if isinstance(value, int) else "nested too deeply"


def string_values(array: Array, name: str) -> Any:
    """Nested lists of str for an object array of bytes; {"b64": ...} for what is no UTF-8 or is named *_bytes."""

    def one(item: bytes) -> object:
        if not name.endswith("_bytes"):
            try:
                return item.decode()
            except UnicodeDecodeError:
                pass
        return {"b64": base64.b64encode(item).decode()}

    flat = np.empty(array.size, dtype=object)
    flat[:] = [one(item) for item in array.reshape(-1)]
    return flat.reshape(array.shape).tolist()


def not_finite(path: str) -> RequestError:
    """The answer when the model gave NaN or Infinity, which JSON cannot say."""
    from http import HTTPStatus

    return RequestError(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        f"the model gave a value in {path} that is not finite for this request; JSON cannot carry it",
    )
