"""Data of a model of several targets: every record has the truth of each."""

from pathlib import Path

import numpy as np
import pytest

from mlplatform.contract.targets import Classes, Number, Tags
from mlplatform.contract.targets.several import Several
from mlplatform.data.dataset import InputSpec, Schema, Split
from mlplatform.tests.data.test_tags import lines, prepared, problems

TARGET = Several([Classes("kind", ("cat", "dog")), Number("weight"), Tags("traits", ("old", "loud"))])
RECORD = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "size": {"type": "number"},
        "kind": {"type": "string"},
        "weight": {"type": "number"},
        "traits": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["size"],
}
SCHEMA = Schema(RECORD, (InputSpec("size", (), "float32"),), TARGET)
RECORDS = [
    {"id": f"e{i}", "size": i / 7, "kind": ("cat", "dog")[i % 2], "weight": i / 2, "traits": ["old"][: i % 3]}
    for i in range(200)
]


def test_truths_are_given_by_the_names_of_the_targets(tmp_path: Path) -> None:
    version, content = prepared(tmp_path, "a.jsonl", lines(RECORDS), SCHEMA)
    split = Split(content, "train", ["size"], TARGET)
    inputs, truth = split.take(np.arange(len(split)))
    numbers = np.round(inputs["size"] * 7).astype(int)
    assert truth["kind"].tolist() == (numbers % 2).tolist()
    assert truth["weight"].tolist() == (numbers / 2)[:, None].tolist()
    assert truth["traits"].tolist() == [[float(number % 3 > 0), 0.0] for number in numbers]
    assert [target["name"] for target in version.properties["targets"]] == ["kind", "weight", "traits"]
    described = version.properties["splits"]["train"]
    assert set(described["classes"]) == {"kind.cat", "kind.dog", "traits.old", "traits.loud"}
    assert described["classes"]["kind.cat"] + described["classes"]["kind.dog"] == len(split)
    assert described["targets"]["weight"]["values"]["maximum"] <= 100


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"kind": "owl"}, "kind: 'owl' is none of its labels in model.TARGETS"),
        ({"traits": ["new"]}, "traits: [\"new\"] names 'new', which is none of the labels of 'traits'"),
        ({"weight": 1e39}, "weight: 1e+39 is no number that a float32 can hold"),
    ],
)
def test_a_record_with_one_truth_that_is_none_is_a_bad_record(
    tmp_path: Path, wrong: dict[str, object], reason: str
) -> None:
    prepared(tmp_path, "a.jsonl", lines([*RECORDS, {**RECORDS[0], "id": "wrong", **wrong}]), SCHEMA)
    (found,) = problems(tmp_path, SCHEMA)
    assert found.startswith(reason)


def test_a_record_without_the_truth_of_one_of_them_is_a_bad_record(tmp_path: Path) -> None:
    lacking = {name: value for name, value in RECORDS[0].items() if name != "weight"}
    prepared(tmp_path, "a.jsonl", lines([*RECORDS, {**lacking, "id": "lacking"}]), SCHEMA)
    assert problems(tmp_path, SCHEMA) == ["weight: missing"]
