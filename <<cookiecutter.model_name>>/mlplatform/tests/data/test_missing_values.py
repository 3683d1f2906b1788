"""Values of inputs that have no NaN: what the schema names stands for those that are missing, in a dataset version."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlplatform.contract.targets import Classes
from mlplatform.data.catalog import Dataset
from mlplatform.data.dataset import InputSpec, Schema
from mlplatform.data.findings import all_findings
from mlplatform.store.manifest import Manifest
from mlplatform.tests.data.test_missing_numbers import by_id, fetched, messages
from mlplatform.tests.data.test_missing_numbers import prepared as prepared_as

COUNT, CLOSED, TOWN, SIZE = "count", "closed", "town", "size"
SCHEMA = Schema(
    record={
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            COUNT: {"type": ["integer", "null"], "minimum": 0, "missing": -1},
            CLOSED: {"type": ["boolean", "null"], "missing": False},
            TOWN: {"type": "string", "minLength": 2, "missing": "?"},
            SIZE: {"type": ["number", "null"], "missing": -5.5},
            "label": {"enum": ["no", "yes"]},
        },
        "required": [COUNT, CLOSED, "label"],
        "additionalProperties": False,
    },
    inputs=(
        InputSpec(COUNT, (), "int64", missing=-1),
        InputSpec(CLOSED, (), "bool", missing=False),
        InputSpec(TOWN, (), "string", missing="?"),
        InputSpec(SIZE, (), "float32", missing=-5.5),
    ),
    target=Classes("label", ("no", "yes")),
)


def record(i: int, **changes: Any) -> dict[str, Any]:
    """A fourth lacks everything, as far as it may."""
    known = {"id": f"e{i}", "label": ["no", "yes"][i % 2], COUNT: None, CLOSED: None}
    given = {COUNT: 2**53 + 1 + i, CLOSED: i % 3 == 0, TOWN: f"town {i}", SIZE: i + 0.25}
    return known | (given if i % 4 else {SIZE: None} if i % 8 else {}) | changes


def prepared(directory: Path, records: list[dict[str, Any]], schema: Schema = SCHEMA) -> tuple[Dataset, Manifest]:
    return prepared_as(directory, records, schema)


def test_null_and_an_absent_name_are_what_the_schema_names(tmp_path: Path) -> None:
    dataset, _ = prepared(tmp_path, [record(i) for i in range(100)])
    columns = {spec.name: by_id(dataset, spec.name) for spec in SCHEMA.inputs}
    assert all(columns[COUNT][f"e{i}"] == (2**53 + 1 + i if i % 4 else -1) for i in range(100))
    assert all(columns[CLOSED][f"e{i}"] == bool(i % 4 and i % 3 == 0) for i in range(100))
    assert all(columns[TOWN][f"e{i}"] == (f"town {i}" if i % 4 else "?").encode() for i in range(100))
    assert all(columns[SIZE][f"e{i}"] == (i + 0.25 if i % 4 else -5.5) for i in range(100))


def test_tables_and_parquet_give_the_same_version(tmp_path: Path) -> None:
    records = [record(i) for i in range(100)]
    names = ["id", COUNT, CLOSED, TOWN, SIZE, "label"]
    _, version = prepared(tmp_path / "json", records)
    for kind in ("csv", "parquet"):
        (tmp_path / kind / "source").mkdir(parents=True)
    with (tmp_path / "csv" / "source" / "records.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(names)
        cells = [[line.get(name) for name in names] for line in records]
        table.writerows([["" if cell is None else str(cell) for cell in row] for row in cells])
    columns = {name: [line.get(name) for line in records] for name in names}
    pq.write_table(pa.table(columns), tmp_path / "parquet" / "source" / "records.parquet")
    assert fetched(tmp_path / "csv", SCHEMA)[1].id == version.id
    assert fetched(tmp_path / "parquet", SCHEMA)[1].id == version.id


def test_a_value_in_an_array_and_the_array_may_be_missing(tmp_path: Path) -> None:
    row = {"type": ["array", "null"], "items": {"type": ["string", "null"]}, "missing": ""}
    properties = {"id": {}, "row": row, "label": {"enum": ["no", "yes"]}}
    inputs = (InputSpec("row", (2,), "string", missing=""),)
    schema = Schema({"type": "object", "properties": properties}, inputs, Classes("label", ("no", "yes")))
    given: list[Any] = [["a", None], None, ["b", "c"]]
    records = [{"id": f"e{i}", "row": given[i % 3], "label": ["no", "yes"][i % 2]} for i in range(60)]
    rows = by_id(prepared(tmp_path, records, schema)[0], "row")
    assert [list(rows[f"e{i}"]) for i in range(3)] == [[b"a", b""], [b"", b""], [b"b", b"c"]]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({TOWN: None}, 'town: null is not of type "string"'),
        ({COUNT: -1}, "count: -1 is less than the minimum of 0"),
        ({COUNT: 2**70}, "count: "),
        ({CLOSED: "?"}, 'closed: "?" is not of types '),
    ],
)
def test_what_the_schema_does_not_allow_is_refused(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    prepared(tmp_path, [*(record(i) for i in range(100)), record(7, id="bad", **changes)])
    (path,) = (tmp_path / "store" / "parts").rglob("problems.jsonl")
    (problem,) = [json.loads(line) for line in path.read_text().splitlines()]
    assert problem["row"] == 101
    assert problem["reason"].startswith(reason)


def test_what_is_missing_is_counted(tmp_path: Path) -> None:
    found = all_findings(prepared(tmp_path, [record(i) for i in range(100)])[0])
    assert "'count' is null in 25 of 100 examples" in messages(found, "null")
    assert "'town' is null in 25 of 100 examples" in messages(found, "null")


def test_another_value_for_what_is_missing_is_another_version(tmp_path: Path) -> None:
    records = [{"id": f"e{i}", "x": i, "label": ["no", "yes"][i % 2]} for i in range(60)]
    versions = set()
    for missing in (-1, -2):
        properties = {"x": {"type": ["integer", "null"], "missing": missing}}
        inputs = (InputSpec("x", (), "int32", missing=missing),)
        schema = Schema({"properties": properties}, inputs, Classes("label", ("no", "yes")))
        versions.add(prepared(tmp_path / str(missing), records, schema)[1].id)
    assert len(versions) == 2
