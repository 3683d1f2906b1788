"""Examples made many at a time are those that each record alone gives, with the same problems."""

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlplatform.contract.targets import Classes
from mlplatform.data import records
from mlplatform.data.columns import Columns, Texts, concatenate
from mlplatform.data.dataset import InputSpec, Schema
from mlplatform.data.examples import ExampleMaker
from mlplatform.data.records import RecordFile, format_of

NUMBER = {"type": "number", "minimum": -10, "exclusiveMaximum": 1e6}
PROPERTIES: dict[str, Any] = {
    "id": {"type": "string"},
    "x": NUMBER,
    "n": {"type": "integer", "maximum": 300},
    "big": {"type": "integer"},
    "text": {"type": "string", "maxLength": 12},
    "kind": {"enum": ["a", "b", 1]},
    "note": {"type": ["number", "null"]},
    "label": {"enum": ["no", "yes"]},
}
INPUTS = (
    InputSpec("x", (), "float32"),
    InputSpec("n", (), "uint8"),
    InputSpec("big", (), "int64"),
    InputSpec("text", (), "string"),
    InputSpec("kind", (), "string"),
    InputSpec("note", (), "float32", nullable=True),
)
TARGET = Classes("label", ("no", "yes"))
CLOSED = {"type": "object", "properties": PROPERTIES, "required": ["x", "n"], "additionalProperties": False}
OPEN = {"type": "object", "properties": PROPERTIES, "required": ["x", "n", "note"]}

CELLS = {
    "id": ["a", "b\0", "", "7"],
    "x": ["1", "-3.5", "1e3", "1e6", "-10", " 2", "nan", "+1", "01", "", "1e400", "1_0", "true", "9007199254740993"],
    "n": ["1", "255", "256", "-1", "4.0", "4.5", "1e2", ""],
    "big": ["9007199254740993", "5", "9223372036854775807", "9223372036854775808", "1e18", "-1"],
    "text": ["näme", "", "x" * 13, "4", "a\0"],
    "kind": ["a", "b", "1", "c", ""],
    "note": ["", "1", "1.50", "x"],
    "label": ["no", "yes", "", "maybe"],
}
VALUES: dict[str, list[str]] = {
    "id": ['"a"', "7", "null", '"\\u0000"', "10000000000000000000000001", "1.5", '"\\ud800"', '"a:b"'],
    "x": ["1", "-3.5", "1e6", "-10", "true", '"1"', "null", "NaN", "1e400", "01", "9007199254740993", "[1]"],
    "n": ["1", "255", "256", "-1", "4.0", "4.5", "false", "300.0"],
    "big": ["9007199254740993", "5", "9223372036854775807", "9223372036854775808", "1e18", "5.0", "-1"],
    "text": ['"n\\u00e4me"', '""', '"\\":\\""', "4", '"xxxxxxxxxxxxx"', "null"],
    "kind": ['"a"', '"b"', "1", "1.0", "true", '"c"'],
    "note": ["null", "1", "1.5", '"x"'],
    "label": ['"no"', '"yes"', "null", "1", "[]", '"maybe"'],
}


def lines(chance: random.Random, count: int) -> Iterable[str]:
    """Lines of JSON: most of them fit, others have faults of every kind, in any order of their members."""
    for _ in range(count):
        names = list(PROPERTIES)
        if chance.random() < 0.1:
            chance.shuffle(names)
        drawn = {
            name: VALUES[name][0 if chance.random() < 0.93 else chance.randrange(len(VALUES[name]))] for name in names
        }
        if chance.random() < 0.05:
            del drawn[chance.choice(names)]
        if chance.random() < 0.03:
            drawn["other"] = '{"b": 1, "a": [true]}'
        line = "{" + ", ".join(f'"{name}": {value}' for name, value in drawn.items()) + "}"
        yield chance.choice(["", " ", "[1]", "{", line * 2, line[:-1]]) if chance.random() < 0.02 else line


def table(chance: random.Random, count: int, quote: str) -> Iterable[str]:
    yield ",".join(PROPERTIES)
    for _ in range(count):
        drawn = [
            CELLS[name][0 if chance.random() < 0.93 else chance.randrange(len(CELLS[name]))] for name in PROPERTIES
        ]
        line = ",".join(f"{quote}{cell}{quote}" for cell in drawn)
        yield chance.choice(["", line + ",1", "1"]) if chance.random() < 0.02 else line


@pytest.mark.parametrize("record", [CLOSED, OPEN], ids=["closed", "open"])
@pytest.mark.parametrize(("name", "quote"), [("x.jsonl", ""), ("x.csv", ""), ("x.csv", '"')])
def test_many_at_a_time_give_what_each_alone_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: dict[str, Any], name: str, quote: str
) -> None:
    chance = random.Random(0)
    path = tmp_path / name
    rows = lines(chance, 1000) if name == "x.jsonl" else table(chance, 1000, quote)
    path.write_text("\n".join(rows) + "\n")
    schema = Schema(record, INPUTS, TARGET)
    # What a schema says of several properties at once is not checked many at a time.
    alone = made(path, Schema({**record, "minProperties": 0}, INPUTS, TARGET))
    assert made(path, schema) == alone
    for size in (100, 5000):
        monkeypatch.setattr(records, "BLOCK_BYTES", size)
        assert made(path, schema) == alone
    examples, problems = alone
    assert len(examples) > 300
    assert len(problems) > 100


@pytest.mark.parametrize(
    "leaf", [NUMBER, {"type": "integer", "minimum": 0, "maximum": 255}, {"type": ["number", "null"], "minimum": 0}]
)
def test_nested_numbers_many_at_a_time_are_those_of_each_alone(tmp_path: Path, leaf: dict[str, Any]) -> None:
    column = {"type": "array", "minItems": 2, "items": {"type": "array", "items": leaf, "maxItems": 2}}
    record = {"type": "object", "properties": {"grid": column, "label": {}}, "additionalProperties": False}
    faults: list[Any] = [
        [[1, 2], [3, True]],
        [[1, 2], [3, "4"]],
        [[1, 2]],
        [[1, 2], [3]],
        [[1, 2, 3], [1, 2, 3]],
        [1, 2],
        [[1, 2], None],
        [[-11, 2], [3, 4]],
        None,
    ]
    nullable = leaf["type"] == ["number", "null"]
    if not nullable:
        faults.append([[1, 2], [3, None]])
    grids = [[[i % 9, None if nullable else 1], [2.0, i % 100]] for i in range(500)]
    rest = (InputSpec("grid", (2, 2), "float32", nullable),), Classes("label", ("a", "b"))
    for i, fault in enumerate(faults):
        path = tmp_path / f"{i}.jsonl"
        path.write_text("".join(json.dumps({"grid": grid, "label": "a"}) + "\n" for grid in [*grids, fault]))
        examples, problems = made(path, Schema(record, *rest))
        assert (examples, problems) == made(path, Schema({**record, "minProperties": 0}, *rest))
        assert (len(examples), [row for row, _ in problems]) == (500, [501])


def made(path: Path, schema: Schema) -> tuple[list[tuple[Any, ...]], list[tuple[int, str]]]:
    """The examples of a file by their rows, and the rows that are none with the reasons."""
    maker = ExampleMaker(schema)
    tables: list[Columns] = []
    problems: list[tuple[int, str]] = []
    for batch in RecordFile(path, format_of(path.name), maker.checker).batches():
        more, wrong = maker.make(batch, 0)
        tables += more
        problems += [(problem.row, problem.reason) for problem in wrong]
    columns = concatenate(tables)
    names = ["row", *sorted(set(columns) - {"row"})]
    content = [_values(columns[name]) for name in names]
    return sorted(zip(*content, strict=True)), problems


def _values(column: np.ndarray[Any, Any] | Texts) -> list[Any]:
    if isinstance(column, Texts):
        return list(column.array())
    # NaN is not equal to itself.
    values = np.where(np.isnan(column), "NaN", column.astype(str)) if column.dtype.kind == "f" else column
    return list(values.tolist())
