"""Checking the values of one property in many records at once.

What is accepted here fits the record's JSON Schema; what is not may still do so, and RecordChecker judges it alone.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, TypeGuard

import jsonschema_rs
import numpy as np
from numpy.typing import NDArray

from mlplatform.data.batches import EXACT, MISSING
from mlplatform.data.checking import PADDING
from mlplatform.data.columns import Array
from mlplatform.data.dataset import ANNOTATIONS

Mask = NDArray[np.bool_]

NUMBERS = frozenset((int, float))
# What a schema of records may say for its properties to be checked one by one.
BY_PROPERTY = {"$schema", "type", "properties", "required", "additionalProperties", "$defs", "definitions"}
DEFINITIONS = ("$defs", "definitions", "properties")
# What names a schema other than by its place in the document.
NAMED = ("$id", "id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor")
PLACES = ("#/$defs/", "#/definitions/", "#/properties/")

BOUNDS: Mapping[str, Callable[[Array, float], Mask]] = {
    "minimum": np.greater_equal,
    "maximum": np.less_equal,
    "exclusiveMinimum": np.greater,
    "exclusiveMaximum": np.less,
}


class PlainChecks:
    """A record's JSON Schema as checks of one property each. `possible`: whether it is no more than that."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.possible = (
            set(schema) - BY_PROPERTY <= set(ANNOTATIONS)
            and schema.get("type", "object") == "object"
            and isinstance(schema.get("additionalProperties", True), bool)
            and isinstance(schema.get("properties", {}), Mapping)
            and not any(_names_schemas(part) for name in DEFINITIONS for part in _below(schema, name))
        )
        self.names = frozenset(schema.get("properties", {}))
        self.required = frozenset(schema.get("required", ()))
        self.closed = schema.get("additionalProperties") is False
        self._schema = schema
        properties = schema.get("properties", {}) if self.possible else {}
        self._columns = {name: _plain(column) for name, column in properties.items()}
        self._validators: dict[str, Any] = {}

    def number(self, name: str) -> Mapping[str, Any] | None:
        """The bounds of a property that is a number, or null, if its schema says no more; see `within`."""
        column = self._columns.get(name)
        return column if is_number(column) else None

    def levels(self, name: str) -> list[Mapping[str, Any]] | None:
        """The levels of nested lists of numbers, the numbers, or null, last, if a property's schema says no more."""
        levels = []
        column = self._columns.get(name)
        while isinstance(column, Mapping) and column.get("type") == "array":
            if not set(column) <= {"type", "items", "minItems", "maxItems", PADDING}:
                return None
            levels.append(column)
            column = _plain(column.get("items"))
        return [*levels, column] if is_number(column) else None

    def fits(self, name: str, values: Sequence[Any]) -> Mask | None:
        """Which values of a property fit, (n,); None if all do. One that is MISSING does if it may be."""
        column = self._columns.get(name)
        kinds = set(map(type, values))
        if type(MISSING) in kinds:
            there = np.array([value is not MISSING for value in values], bool)
            inner = self.fits(name, [value for value in values if value is not MISSING])
            fits = np.full(len(values), name not in self.required)
            fits[there] = True if inner is None else inner
            return fits
        if not column or (column == {"type": "string"} and kinds == {str}):
            return None if column is not False else np.zeros(len(values), bool)
        if name not in self._validators:
            shared = {key: self._schema[key] for key in ("$schema", *DEFINITIONS) if key in self._schema}
            self._validators[name] = jsonschema_rs.validator_for({**shared, "items": column})
        is_valid = self._validators[name].is_valid
        return None if is_valid(list(values)) else np.array([is_valid([value]) for value in values], bool)


def is_number(column: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether a schema says that it is a number, an integer or null, between bounds that float64 holds, and no more."""
    if not isinstance(column, Mapping):
        return False
    bounds = {key: value for key, value in column.items() if key != "type"}
    return (
        _types(column) - {"null"} in ({"number"}, {"integer"})
        and set(bounds) <= set(BOUNDS)
        and all(type(bound) in NUMBERS and abs(bound) < EXACT for bound in bounds.values())
    )


def _types(column: Mapping[str, Any]) -> set[Any]:
    types = column.get("type")
    return set(types) if isinstance(types, list) else {types}


def number_array(values: Sequence[Any]) -> tuple[Array, Mask]:
    """Values as float64 (n,), null as NaN, and which of them are null or numbers that it holds exactly."""
    kinds = set(map(type, values))
    plain = None
    if not kinds <= NUMBERS | {type(None)}:
        plain = np.array([value is None or type(value) in NUMBERS for value in values], bool)
        values = [value if is_plain else 0.0 for value, is_plain in zip(values, plain.tolist(), strict=True)]
    try:
        array = np.asarray(values, np.float64)
    except OverflowError:
        return np.zeros(len(values)), np.zeros(len(values), bool)
    exact = np.abs(array) < EXACT if int in kinds else np.isfinite(array)
    if type(None) in kinds:
        exact |= np.isnan(array)
    return array, exact if plain is None else exact & plain


def within(array: Array, column: Mapping[str, Any]) -> Mask:
    """Which numbers, NaN for null, fit the schema of a number, see `is_number`; of the shape of the array."""
    fits = np.ones(array.shape, bool)
    for key, holds in BOUNDS.items():
        if key in column:
            fits &= holds(array, column[key])
    types = _types(column)
    if "integer" in types:
        fits &= (array == np.floor(array)) & (np.abs(array) < EXACT)
    gone = np.isnan(array)
    return fits | gone if "null" in types else fits & ~gone


def nested_array(values: Sequence[Any], levels: Sequence[Mapping[str, Any]], shape: tuple[int, ...]) -> Array | None:
    """Nested lists as float64 (n, *shape), null as NaN; None if one does not fit the schemas of PlainChecks.levels."""
    if len(levels) != len(shape) + 1:
        return None
    for level, length in zip(levels, shape, strict=False):
        if not level.get("minItems", 0) <= length <= level.get("maxItems", length):
            return None
    flat: Iterable[Any] = values
    for length in shape:
        rows = list(flat)
        if set(map(type, rows)) != {list} or set(map(len, rows)) != {length}:
            return None
        flat = chain.from_iterable(rows)
    array, exact = number_array(list(flat))
    if not exact.all() or not within(array, levels[-1]).all():
        return None
    return array.reshape(len(values), *shape)


def _plain(column: Any) -> Any:
    """A schema without what only describes."""
    if not isinstance(column, Mapping):
        return column
    return {key: value for key, value in column.items() if key not in ANNOTATIONS}


def _below(schema: Mapping[str, Any], name: str) -> Iterable[Any]:
    inner = schema.get(name, {})
    return inner.values() if isinstance(inner, Mapping) else [inner]


def _names_schemas(schema: Any) -> bool:
    """Whether a schema is named, or refers to another by anything but its place."""
    if isinstance(schema, Mapping):
        reference = schema.get("$ref", PLACES[0])
        if any(name in schema for name in NAMED) or not (isinstance(reference, str) and reference.startswith(PLACES)):
            return True
        return any(map(_names_schemas, schema.values()))
    return isinstance(schema, list) and any(map(_names_schemas, schema))
