"""Parts: what becomes of each file and record, and what is not read again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlplatform.contract.targets import Classes
from mlplatform.data import parts
from mlplatform.data.columns import load
from mlplatform.data.dataset import InputSpec, Schema
from mlplatform.data.parts import CheckedFile, check_files, known_files, read_all_problems
from mlplatform.data.sources import SourceFile, list_source, local_file
from mlplatform.store.storage import LocalStorage, open_storage

SCHEMA = Schema(
    record={
        "type": "object",
        "properties": {"label": {"enum": ["no", "yes"]}, "name": {"type": "string", "title": "Name"}},
    },
    inputs=(InputSpec("grid", (2, 2), "float32"), InputSpec("count", (), "int32"), InputSpec("name", (), "string")),
    target=Classes("label", ("no", "yes")),
)

Check = Callable[..., dict[str, CheckedFile]]


def record(i: int, **changes: Any) -> dict[str, Any]:
    example = {"id": f"e{i}", "grid": [[i, 1], [2, 3]], "count": i, "name": f"näme {i}", "label": ["no", "yes"][i % 2]}
    return example | changes


class Pipeline:
    """A source and a store in a directory; `read`: keys of the source that were opened."""

    def __init__(self, directory: Path) -> None:
        self.source, self.work = directory / "source", directory / "work"
        self.source.mkdir()
        self.work.mkdir()
        self.store = LocalStorage(directory / "store")
        self.read: list[str] = []

    def write(self, name: str, *records: dict[str, Any]) -> None:
        (self.source / name).write_text("".join(json.dumps(r) + "\n" for r in records))

    def check(self, schema: Schema = SCHEMA) -> dict[str, CheckedFile]:
        """What became of each file by key, once those not known yet are checked."""
        files = list_source(str(self.source)).files
        new = [file for file in files if file.name not in known_files(self.store, schema)]
        list(check_files(self.store, new, self._opened, schema, self.work))
        known = known_files(self.store, schema)
        return {file.key: known[file.name][2] for file in files}

    def problems(self, schema: Schema = SCHEMA) -> list[tuple[int, str]]:
        known = known_files(self.store, schema)
        return [(row, reason) for _, row, reason in read_all_problems(self.store, known, schema, self.work)]

    def _opened(self, file: SourceFile) -> Any:
        self.read.append(file.key)
        return local_file(open_storage(str(self.source)), file.key, self.work)


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    return Pipeline(tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"grid": [[1, 2]]}, "grid: has shape (1, 2), the model takes (2, 2)"),
        ({"grid": [[1, 2], [3]]}, "grid: not a float32 array of shape (2, 2)"),
        ({"grid": [[1, 2], [3, 1e300]]}, "grid: not a float32 array of shape (2, 2): [[1, 2], [3, 1e+300]] does not"),
        ({"count": 1.5}, "count: not a int32 array of shape (): 1.5 does not fit"),
        ({"count": 2**40}, "count: not a int32 array of shape (): 1099511627776 does not fit"),
        ({"count": -(2**80)}, "count: not a int32 array of shape (): "),
        ({"count": "1"}, "count: not a int32 array of shape (): holds str"),
        ({"count": None}, "count: null, and the model takes a int32"),
        ({"label": "no", "count": []}, "count: has shape (0,), the model takes ()"),
        ({"label": "maybe"}, "label: 'maybe' is none of model.LABELS"),
        ({"label": ["no"]}, 'label: ["no"] is no label'),
        ({"label": None}, "label: null is no label"),
        ({"name": 5}, 'name: 5 is not of type "string"'),
        ({"id": "\ud800"}, "holds half of a surrogate pair"),
        ({"name": "\udfff"}, "holds half of a surrogate pair"),
    ],
)
def test_a_record_that_is_no_example_is_kept_as_a_problem(
    pipeline: Pipeline, change: dict[str, Any], reason: str
) -> None:
    pipeline.write("x.jsonl", record(1), record(2, **change), record(3))
    pipeline.check()
    ((row, said),) = pipeline.problems()
    assert row == 2
    assert reason in said


def test_files_checked_before_are_not_read_again(pipeline: Pipeline) -> None:
    pipeline.write("x.jsonl", record(1))
    before = pipeline.check()
    pipeline.write("y.jsonl", record(2))
    assert pipeline.check()["x.jsonl"] == before["x.jsonl"]
    assert pipeline.read == ["x.jsonl", "y.jsonl"]


def test_an_added_label_and_a_changed_description_read_nothing_again(pipeline: Pipeline) -> None:
    pipeline.write("x.jsonl", record(1), record(2, label="maybe"))
    pipeline.check()
    assert pipeline.problems() == [(2, "label: 'maybe' is none of model.LABELS")]
    properties = {"label": {"enum": ["no", "yes", "maybe"]}, "name": {"type": "string", "title": "Another"}}
    schema = Schema(
        {"type": "object", "properties": properties}, SCHEMA.inputs, Classes("label", ("no", "yes", "maybe"))
    )
    pipeline.check(schema)
    assert pipeline.problems(schema) == []
    assert pipeline.read == ["x.jsonl"]


def test_a_changed_type_reads_again(pipeline: Pipeline) -> None:
    pipeline.write("x.jsonl", record(1))
    pipeline.check()
    properties = SCHEMA.record["properties"] | {"count": {"type": "integer", "maximum": 0}}
    schema = Schema({"type": "object", "properties": properties}, SCHEMA.inputs, SCHEMA.target)
    pipeline.check(schema)
    assert pipeline.problems(schema) == [(1, "count: 1 is greater than the maximum of 0")]


def test_a_file_renamed_to_another_format_is_read_as_that(pipeline: Pipeline) -> None:
    pipeline.write("x.csv", record(1))
    assert pipeline.check()["x.csv"].fault.startswith("its header in row 1, ")
    (pipeline.source / "x.csv").rename(pipeline.source / "x.jsonl")
    assert pipeline.check()["x.jsonl"].rows == 1


def test_many_small_files_share_a_part(pipeline: Pipeline) -> None:
    for i in range(300):
        pipeline.write(f"{i:03}.jsonl", record(i))
    checked = pipeline.check()
    assert len(checked) == 300
    assert all(file.rows == 1 for file in checked.values())
    assert len([path for path in pipeline.store.root.rglob("*") if path.is_file()]) == 3


def test_records_of_small_files_keep_their_file_and_row(pipeline: Pipeline) -> None:
    for i in range(5):
        pipeline.write(f"{i}.jsonl", record(3 * i), record(3 * i + 1, count="x"), record(3 * i + 2))
    checked = pipeline.check()
    assert [(file.rows, file.problems, file.labels) for file in checked.values()] == [
        (2, 1, {"no": 2}) if i % 2 == 0 else (2, 1, {"yes": 2}) for i in range(5)
    ]
    assert [row for row, _ in pipeline.problems()] == [2] * 5


def test_a_part_is_closed_in_time(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_FILES", 4)
    for i in range(10):
        pipeline.write(f"{i}.jsonl", record(i))
    assert len(pipeline.check()) == 10
    assert len(list(pipeline.store.root.rglob("manifest.json"))) == 3


def test_a_broken_file_is_a_fault_of_its_own_and_known_from_then_on(pipeline: Pipeline) -> None:
    pipeline.write("a.jsonl", record(1))
    (pipeline.source / "b.jsonl").write_bytes(json.dumps(record(2)).encode() + b"\ncaf\xe9\n")
    checked = pipeline.check()
    assert (checked["a.jsonl"].rows, checked["a.jsonl"].fault) == (1, "")
    assert checked["b.jsonl"].fault == "is not UTF-8 in row 2: byte 0xe9; convert it to UTF-8"
    assert checked["b.jsonl"].problems == 0
    assert pipeline.check() == checked
    assert pipeline.read == ["a.jsonl", "b.jsonl"]


def test_one_long_text_takes_its_own_length_only(pipeline: Pipeline) -> None:
    pipeline.write("x.jsonl", *(record(i, name="win " * 50_000 if i == 7 else "win") for i in range(2000)))
    pipeline.check()
    size = sum(path.stat().st_size for path in pipeline.store.root.rglob("*.npz"))
    assert size < 2 * (pipeline.source / "x.jsonl").stat().st_size


def test_zeros_at_the_end_of_texts_and_ids_stay(pipeline: Pipeline) -> None:
    pipeline.write("x.jsonl", record(1, id="a\0", name="b\0\0"))
    pipeline.check()
    (path,) = pipeline.store.root.rglob("*.npz")
    columns = load(path, ("id", "input_name"))
    assert [column[0] for column in _arrays(columns)] == [b"a\0", b"b\0\0"]


def test_more_labels_than_are_listed_are_still_told_by_row(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "LISTED_LABELS", 2)
    pipeline.write("x.jsonl", *(record(i, label=label) for i, label in enumerate(["no", "a", "b", "yes", "c"])))
    assert pipeline.check()["x.jsonl"].labels is None
    assert [row for row, _ in pipeline.problems()] == [2, 3, 5]


def test_long_whole_numbers_keep_their_digits(pipeline: Pipeline) -> None:
    schema = Schema({"type": "object"}, (InputSpec("n", (), "int64"),), Classes("label", ("a",)))
    values = [2**62 + 1, 3, 2**53 + 1]
    pipeline.write("x.jsonl", *({"id": 10**25 + i, "n": value, "label": "a"} for i, value in enumerate(values)))
    pipeline.check(schema)
    (path,) = pipeline.store.root.rglob("*.npz")
    columns = load(path, ("id", "input_n"))
    ids, numbers = _arrays(columns)
    assert numbers.tolist() == values
    assert ids.tolist() == [str(10**25 + i).encode() for i in range(3)]


def _arrays(columns: dict[str, Any]) -> list[Any]:
    return [column if isinstance(column, np.ndarray) else column.array() for column in columns.values()]
