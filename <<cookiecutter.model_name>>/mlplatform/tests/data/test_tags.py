"""Data of a model of tags: lists of labels in records and in tables, and what is said of a version of them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlplatform.contract.errors import BadDataError
from mlplatform.contract.targets import Tags
from mlplatform.data.dataset import InputSpec, Schema, Split
from mlplatform.data.parts import known_files, read_all_problems
from mlplatform.store.manifest import Manifest
from mlplatform.store.storage import LocalStorage
from mlplatform.tests.data.conftest import Run
from mlplatform.tests.data.test_dataset import prepared_source

RECORD = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "size": {"type": "number"},
        "topics": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["size", "topics"],
}


def schema(labels: Sequence[str] = ("art", "sport", "news")) -> Schema:
    return Schema(RECORD, (InputSpec("size", (), "float32"),), Tags("topics", labels))


def prepared(root: Path, name: str, content: str, of: Schema) -> tuple[Manifest, Path]:
    """A dataset version of one file, and where its splits lie."""
    (root / "source").mkdir(exist_ok=True)
    (root / ".work").mkdir(exist_ok=True)
    (root / "source" / name).write_text(content)
    version, storage = prepared_source(root / "source", root / "store", root / ".work", of)
    return version, storage.root / "datasets" / version.id / version.content


def problems(root: Path, of: Schema) -> list[str]:
    """Why records of the files that were read are no examples."""
    storage = LocalStorage(root / "store")
    found = read_all_problems(storage, known_files(storage, of), of, root / ".work")
    return [reason for _, _, reason in found]


def records(count: int = 200) -> list[dict[str, Any]]:
    """Every third is of no topic."""
    topics = [["sport", "art"], ["news"], []]
    return [{"id": f"e{i}", "size": i / 7, "topics": topics[i % 3]} for i in range(count)]


def lines(given: Sequence[dict[str, Any]]) -> str:
    return "".join(json.dumps(record) + "\n" for record in given)


def test_tags_become_rows_of_0_and_1(tmp_path: Path) -> None:
    version, content = prepared(tmp_path, "a.jsonl", lines(records()), schema())
    split = Split(content, "train", ["size"])
    inputs, truth = split.take(np.arange(len(split)))
    assert truth.shape == (len(split), 3)
    assert truth.dtype == np.float32
    expected = [[[1, 1, 0], [0, 0, 1], [0, 0, 0]][round(size * 7) % 3] for size in inputs["size"].tolist()]
    assert truth.tolist() == expected
    described = version.properties["splits"]["train"]
    assert described["classes"]["news"] + described["classes"]["art"] + described["without"] == len(split)
    assert version.properties["targets"] == [schema().target.to_json()]


def test_a_cell_of_a_table_holds_them_as_a_json_array(tmp_path: Path) -> None:
    def cell(topics: list[str]) -> str:
        return '"' + json.dumps(topics).replace('"', '""') + '"'

    table = "".join(f"{r['id']},{r['size']!r},{cell(r['topics'])}\n" for r in records())
    (tmp_path / "lines").mkdir()
    from_table, _ = prepared(tmp_path, "a.csv", f"id,size,topics\n{table}", schema())
    from_lines, _ = prepared(tmp_path / "lines", "a.jsonl", lines(records()), schema())
    assert from_table.id == from_lines.id


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jsonl", '{"size": 1, "topics": ["music"]}\n', "names 'music', which is none of the labels of 'topics'"),
        ("a.jsonl", '{"size": 1, "topics": ["art", "art"]}\n', "names 'art' twice"),
        ("a.jsonl", '{"size": 1}\n', '"topics" is a required property'),
        ("a.csv", "size,topics\n1,art|news\n", '"art|news" is not of type "array"'),
        ("a.csv", "size,topics\n1,[art]\n", '"[art]" is not of type "array"'),
    ],
)
def test_other_tags_are_bad_records(tmp_path: Path, name: str, content: str, reason: str) -> None:
    with pytest.raises(BadDataError, match="holds no record that fits"):
        prepared(tmp_path, name, content, schema())
    (found,) = problems(tmp_path, schema())
    assert reason in found


def test_files_are_read_again_when_there_are_other_tags(tmp_path: Path) -> None:
    one, _ = prepared(tmp_path, "a.jsonl", lines(records()), schema())
    more, _ = prepared(tmp_path, "a.jsonl", lines(records()), schema(("art", "sport", "news", "music")))
    assert more.properties["splits"]["train"]["classes"]["music"] == 0
    assert more.id != one.id
    fewer, _ = prepared(tmp_path, "a.jsonl", lines(records()), schema(("art", "sport")))
    assert sum(split["examples"] for split in fewer.properties["splits"].values()) == 200 - 67
    assert len(problems(tmp_path, schema(("art", "sport")))) == 67


def test_a_version_is_shown_compared_and_reported(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "service.toml").write_text('[service]\nname = "under-test"\n')
    monkeypatch.chdir(tmp_path)
    given = records()
    one, _ = prepared(tmp_path, "a.jsonl", lines(given), schema())
    given[0]["topics"] = ["news"]
    # Two of the same inputs: one says the same, the other something else.
    given += [{**given[4], "id": "same"}, {**given[5], "id": "other", "topics": ["art"]}]
    other, _ = prepared(tmp_path, "a.jsonl", lines(given), schema())
    assert "e0  art, sport  " in run("show", one.id, "--id", "e0")[1]
    assert "e2  no tag  " in run("show", one.id, "--id", "e2")[1]
    told = json.loads(run("diff", one.id, other.id, "--json")[1])
    assert (told["relabelled"], told["came"], told["labels"]) == (["e0"], ["other", "same"], {})
    code, out, err = run("report", other.id)
    assert code == 0, err
    assert "repetition: 2 examples have inputs and label of another id" in out
    assert "contradiction: 2 examples have the same inputs as one with another label" in out
