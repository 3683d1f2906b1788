"""Records: source files read one record at a time and checked against `model.RECORD`."""

import csv
import gzip
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import jsonschema_rs

SUFFIXES = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz")


@dataclass(frozen=True)
class Row:
    """One record of a file: row is its line, from 1; either `record`, or the reason why there is none."""

    row: int
    record: Mapping[str, Any] | None
    reason: str = ""


def read_rows(path: Path, schema: Mapping[str, Any]) -> Iterator[Row]:
    """Yield every row of a file that ends in one of SUFFIXES, checked against the schema.

    A row that cannot be read or does not fit becomes a Row with a reason; a file that breaks off (a damaged gzip, bytes
    that are not UTF-8) ends with one.
    """
    validator = jsonschema_rs.validator_for(dict(schema))
    rows = _csv_rows if ".csv" in path.suffixes else _json_rows
    number = 0
    try:
        with _open(path) as file:
            for row in rows(file, schema):
                number = row.row
                yield _check(row, validator)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        yield Row(number + 1, None, f"the file cannot be read any further: {error}")


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _json_rows(file: IO[str], schema: Mapping[str, Any]) -> Iterator[Row]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line, parse_constant=_refuse_constant)
        except ValueError as error:
            yield Row(number, None, f"not valid JSON: {error}")
        except RecursionError:
            yield Row(number, None, "not valid JSON: nested too deeply")
        else:
            if isinstance(record, dict):
                yield Row(number, record)
            else:
                yield Row(number, None, f"must be a JSON object, is {_shortened(json.dumps(record))}")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _csv_rows(file: IO[str], schema: Mapping[str, Any]) -> Iterator[Row]:
    """Rows of a CSV file with a header; an empty cell is an absent value, others take the type their column has."""
    types = {name: column.get("type") for name, column in schema.get("properties", {}).items()}
    reader = csv.reader(file, strict=True)
    header = next(reader, [])
    for cells in reader:
        if not cells:
            continue
        if len(cells) != len(header):
            yield Row(reader.line_num, None, f"has {len(cells)} cells, the header has {len(header)}")
        else:
            named = zip(header, cells, strict=True)
            record = {name: _convert(cell, types.get(name)) for name, cell in named if cell != ""}
            yield Row(reader.line_num, record)


def _convert(cell: str, kind: Any) -> Any:
    """The cell as the schema's type if it is one, else as the text it is, for the schema to refuse."""
    try:
        if kind == "integer":
            return int(cell)
        if kind == "number":
            number = float(cell)
            return number if math.isfinite(number) else cell
    except ValueError:
        return cell
    return {"true": True, "false": False}.get(cell.lower(), cell) if kind == "boolean" else cell


def _check(row: Row, validator: Any) -> Row:
    if row.record is None:
        return row
    faults = list(validator.iter_errors(row.record))
    if not faults:
        return row
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in faults[0].instance_path)
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    place = f"{path.lstrip('.')}: " if path else ""
    return Row(row.row, None, f"{place}{_shortened(faults[0].message)}{more}")


def _shortened(message: str) -> str:
    return message if len(message) <= 200 else f"{message[:120]} ... {message[-70:]}"
