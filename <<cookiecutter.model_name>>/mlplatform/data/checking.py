"""Checking one record against `model.RECORD`."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema_rs
import orjson

from mlplatform.contract.lengths import Length
from mlplatform.contract.missing import MISSING as GAP
from mlplatform.contract.targets.base import Target

# What JSON calls a number: ASCII digits, no underscores, no plus, no leading zeros.
NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
# A keyword of ours for lists of several lengths: what fills up the shorter ones of a batch.
PADDING = "padding"


class RecordChecker:
    """A record's JSON Schema, compiled. `needed`: names that every record has to have, those of the inputs included.

    before_steps: of records that steps are to change. Any JSON object will do, and the schema only says what the cells
    of the columns that it names stand for.
    """

    def __init__(self, schema: Mapping[str, Any], inputs: tuple[str, ...] = (), before_steps: bool = False) -> None:
        self._schema = schema
        self._validator: Any = jsonschema_rs.validator_for({} if before_steps else dict(schema))
        properties: Mapping[str, Any] = schema.get("properties", {})
        self.names = frozenset(properties)
        self.closed = schema.get("additionalProperties") is False and not before_steps
        self.needed = () if before_steps else tuple(dict.fromkeys([*schema.get("required", ()), *inputs]))
        self._holds_any_bytes = before_steps
        self._types = {name: frozenset(_types(column, schema)) for name, column in properties.items()}

    def reason(self, record: Any) -> str:
        """Why a record does not fit the schema, with the first fault and the number of others; empty if it fits."""
        if not isinstance(record, dict):
            return f"must be a JSON object, is {shortened(json.dumps(record))}"
        if self._validator.is_valid(record):
            return ""
        faults = list(self._validator.iter_errors(record))
        try:
            json.dumps(record, allow_nan=False)
        except ValueError:
            return "holds a number that no float64 can hold"
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in faults[0].instance_path)
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        place = f"{path.lstrip('.')}: " if path else ""
        return f"{place}{shortened(faults[0].message)}{more}"

    def missing(self, names: frozenset[str]) -> list[str]:
        """Names that every record needs and a table with these columns lacks."""
        return [name for name in self.needed if name not in names]

    def cell_value(self, name: str, cell: str) -> Any:
        """A cell of a table as the type that its column has if it is one, else as text, for the schema to refuse.

        An empty cell is null where the column may be null; elsewhere it is absent, and not asked for here.
        """
        types = self._types.get(name, frozenset())
        if not types or types == {"string"}:
            return cell
        if cell == "":
            return None
        if types & {"number", "integer"} and (number := NUMBER.fullmatch(cell.strip(" \t"))):
            cell = number[0]
            value = float(cell) if number[1] or number[2] else int(cell) if len(cell) < 400 else float("inf")
            if abs(value) == float("inf"):
                return cell
            # 3.0 is an integer to JSON Schema, and what pandas writes for 3 in a column with gaps.
            return int(value) if "number" not in types and value == int(value) else value
        if "boolean" in types and cell.lower() in ("true", "false"):
            return cell.lower() == "true"
        if "array" in types and cell.lstrip(" \t").startswith("["):
            return _list_of(cell)
        return cell

    def holds_numbers(self, name: str) -> bool:
        """Whether a column's type is a number, or null."""
        types = self._types.get(name, frozenset())
        return bool(types & {"number", "integer"}) and types <= {"number", "integer", "null"}

    def holds_text(self, name: str) -> bool:
        """Whether every cell of a column stands for its text."""
        return self._types.get(name, frozenset()) <= {"string"}

    def may_be_null(self, name: str) -> bool:
        """Whether a column's type includes null."""
        return "null" in self._types.get(name, ())

    def holds_bytes(self, name: str, depth: int) -> bool:
        """Whether a column, or its lists of a depth, hold bytes, which a record has in base64."""
        column = self._schema.get("properties", {}).get(name)
        return self._holds_any_bytes or bool(media_type(column, self._schema, depth))


def says_null(column: Any, schema: Mapping[str, Any], depth: int) -> bool:
    """Whether a property of a record's schema says that it, or a value in its lists of a depth, may be null."""
    for _ in range(1 + depth):
        column = _referred(column, schema)
        if "null" in set(_types(column, schema)):
            return True
        column = column.get("items") if isinstance(column, Mapping) else None
    return False


def media_type(column: Any, schema: Mapping[str, Any], depth: int = 0) -> str:
    """What the bytes are that a property, or its lists of a depth, hold in base64; empty if they hold none."""
    for _ in range(depth):
        column = _referred(column, schema)
        column = column.get("items") if isinstance(column, Mapping) else None
    column = _referred(column, schema)
    if not isinstance(column, Mapping) or column.get("contentEncoding") != "base64":
        return ""
    return str(column.get("contentMediaType", "application/octet-stream"))


def sentinel(column: Any, schema: Mapping[str, Any]) -> Any:
    """What a property says stands for a value of it that is missing, which may be of any type; None if nothing does."""
    column = _referred(column, schema)
    return column.get(GAP) if isinstance(column, Mapping) else None


def lengths(schema: Mapping[str, Any]) -> dict[str, Length]:
    """How many items those properties of a record's schema have that are lists of several lengths, up to a longest."""
    found = {}
    for name, column in schema.get("properties", {}).items():
        column = _referred(column, schema)
        if isinstance(column, Mapping) and column.get("minItems", 0) < column.get("maxItems", 0):
            found[name] = Length(int(column.get("minItems", 0)), int(column["maxItems"]), column.get(PADDING, 0))
    return found


def _types(column: Any, schema: Mapping[str, Any]) -> Iterator[str]:
    """The types that a property's schema allows, as far as it says: by type, $ref, alternatives, or listed values."""
    if not isinstance(column, Mapping):
        return
    target = _referred(column, schema)
    if target is not column:
        yield from _types(target, {})
    kind = column.get("type", ())
    yield from [kind] if isinstance(kind, str) else kind
    for alternatives in ("anyOf", "oneOf", "allOf"):
        for alternative in column.get(alternatives, ()):
            yield from _types(alternative, schema)
    if not kind:
        values = column.get("enum", [column["const"]] if "const" in column else ())
        yield from (_type_of(value) for value in values)


def _referred(column: Any, schema: Mapping[str, Any]) -> Any:
    """What a schema's $ref stands for, or the schema itself without one."""
    reference = column.get("$ref", "") if isinstance(column, Mapping) else ""
    if not (isinstance(reference, str) and reference.startswith("#/")):
        return column
    target: Any = schema
    for part in reference[2:].split("/"):
        target = target.get(part, {}) if isinstance(target, Mapping) else {}
    return target


def _type_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else "string"


def _list_of(cell: str) -> Any:
    """The list that a cell holds as JSON, else the cell."""
    try:
        return orjson.loads(cell)
    except orjson.JSONDecodeError:
        return cell


def truth_fault(record: Mapping[str, Any], target: Target) -> str:
    """Why a record that fits the schema holds no truth that the target can read; empty if it does."""
    for part in target.parts:
        if part.name not in record:
            return f"{part.name}: missing"
        try:
            part.text(record[part.name])
        except ValueError as error:
            return f"{part.name}: {json.dumps(record[part.name])} {error}"
    if len(target.parts) > 1:
        try:
            target.text(record)
        except ValueError as error:
            return str(error)
    return ""


def shortened(message: str) -> str:
    """A message whose middle is left out if it is long."""
    return message if len(message) <= 200 else f"{message[:120]} ... {message[-70:]}"
