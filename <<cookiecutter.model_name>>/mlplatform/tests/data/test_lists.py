"""Inputs that are lists of any length: from records of several lengths to a dataset version, and what reads it."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlplatform.contract.lengths import Length
from mlplatform.contract.targets import Classes
from mlplatform.data import catalog, report
from mlplatform.data.catalog import Dataset
from mlplatform.data.checking import lengths
from mlplatform.data.dataset import InputSpec, Schema, Split
from mlplatform.data.findings import all_findings
from mlplatform.tests.data.test_layers import Pipeline
from mlplatform.tests.data.test_missing_numbers import fetched, messages, prepared

STROKE = {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "number", "minimum": 0}}
SCHEMA = Schema(
    record={
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "strokes": {"type": "array", "maxItems": 5, "items": STROKE, "padding": -1},
            "words": {"type": "array", "minItems": 1, "maxItems": 4, "items": {"type": "integer"}},
            "label": {"enum": ["no", "yes"]},
        },
        "required": ["strokes", "words", "label"],
        "additionalProperties": False,
    },
    inputs=(
        InputSpec("strokes", (None, 2), "float32", length=Length(0, 5, -1)),
        InputSpec("words", (None,), "int32", length=Length(1, 4)),
    ),
    target=Classes("label", ("no", "yes")),
)


def record(i: int, **changes: Any) -> dict[str, Any]:
    """As many strokes as i divided by 6 leaves, and one to four words."""
    strokes, words = [[i, n + 0.5] for n in range(i % 6)], [i * n for n in range(1, 2 + i % 4)]
    return {"id": f"e{i}", "strokes": strokes, "words": words, "label": ["no", "yes"][i // 6 % 2]} | changes


def lists_by_id(dataset: Dataset) -> dict[str, tuple[Any, Any]]:
    strokes, words = (map(np.ndarray.tolist, dataset.lists(spec)) for spec in dataset.inputs)
    ids = (key.decode() for key in dataset.column("id"))
    return dict(zip(ids, zip(strokes, words, strict=True), strict=True))


def prepared_lists(directory: Path, records: list[dict[str, Any]]) -> Dataset:
    return prepared(directory, records, SCHEMA)[0]


def the_problem(directory: Path) -> str:
    """Why the only record that does not fit does not."""
    (path,) = (directory / "store" / "parts").rglob("problems.jsonl")
    (problem,) = [json.loads(line) for line in path.read_text().splitlines()]
    return str(problem["reason"])


def test_lists_come_back_as_long_as_they_went_in(tmp_path: Path) -> None:
    dataset = prepared_lists(tmp_path, [record(i) for i in range(100)])
    assert lists_by_id(dataset) == {
        line["id"]: (line["strokes"], line["words"]) for line in (record(i) for i in range(100))
    }


def test_examples_that_are_taken_together_are_filled_up_to_the_longest_of_them(tmp_path: Path) -> None:
    dataset = prepared_lists(tmp_path, [record(i) for i in range(100)])
    split = Split.of(dataset.content, "train", SCHEMA.inputs)
    counts = [len(row) for row in split.rows("strokes", np.arange(len(split)))]
    short, long = counts.index(1), counts.index(3)
    inputs, _ = split.take(np.array([short, long]))
    assert inputs["strokes"].dtype == np.float32
    assert inputs["strokes"].shape == (2, 3, 2)
    assert inputs["strokes"][0, 1:].tolist() == [[-1, -1]] * 2
    assert split.column("strokes", np.array([short])).shape == (1, 1, 2)
    assert split.column("strokes", np.array([counts.index(0)])).tolist() == [[[-1, -1]]]
    words = [len(row) for row in split.rows("words", np.arange(len(split)))]
    assert split.item_counts().tolist() == [sum(both) for both in zip(counts, words, strict=True)]


def test_a_version_that_grew_is_the_one_of_all_records_at_once(tmp_path: Path) -> None:
    growing, at_once = (Pipeline(tmp_path / name, schema=SCHEMA) for name in ("grown", "once"))
    records = [record(i) for i in range(200)]
    growing(records[:180])
    grown, whole = growing(records[180:]), at_once(records)
    assert (len(grown.needs), len(whole.needs)) == (2, 1)
    assert grown.id == whole.id
    one = catalog.fetch(growing.storage, grown, growing.work)
    assert lists_by_id(one) == lists_by_id(catalog.fetch(at_once.storage, whole, at_once.work))


def test_a_table_holds_them_as_json(tmp_path: Path) -> None:
    records = [record(i) for i in range(100)]
    (tmp_path / "csv" / "source").mkdir(parents=True)
    with (tmp_path / "csv" / "source" / "records.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        writer.writerows(r | {"strokes": json.dumps(r["strokes"]), "words": json.dumps(r["words"])} for r in records)
    assert fetched(tmp_path / "csv", SCHEMA)[0].version.id == prepared_lists(tmp_path, records).version.id


def test_numbers_in_a_list_may_be_missing(tmp_path: Path) -> None:
    numbers = {"type": "array", "maxItems": 3, "items": {"type": ["number", "null"]}}
    properties = {"id": {}, "x": numbers, "label": {"enum": ["no", "yes"]}}
    inputs = (InputSpec("x", (None,), "float32", nullable=True, length=Length(0, 3)),)
    schema = Schema({"type": "object", "properties": properties, "required": ["x"]}, inputs, SCHEMA.target)
    records = [{"id": f"e{i}", "x": [i, None, 1][: i % 4], "label": ["no", "yes"][i % 2]} for i in range(60)]
    dataset, version = prepared(tmp_path, records, schema)
    assert messages(all_findings(dataset), "null") == ["'x' is null in 30 of 60 examples"]
    assert version.properties["splits"]["train"]["inputs"]["x"]["missing"] > 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"strokes": [[1, 2]] * 6}, "strokes: [[1,2],[1,2],[1,2],[1,2],[1,2],[1,2]] has more than 5 items"),
        ({"words": []}, "words: [] has less than 1 item"),
        ({"strokes": [[1, 2], [3]]}, "strokes[1]: [3] has less than 2 items"),
        ({"strokes": [[1, -2]]}, "strokes[0][1]: -2 is less than the minimum of 0"),
        ({"words": [7, 2**40]}, "words: item 1 not a int32 array of shape (): 1099511627776 does not fit"),
        ({"words": 7}, 'words: 7 is not of type "array"'),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    prepared_lists(tmp_path, [*(record(i) for i in range(60)), record(7, id="bad", **changes)])
    assert the_problem(tmp_path) == reason


def test_the_same_items_in_another_division_are_other_inputs(tmp_path: Path) -> None:
    twins = [record(2, id="twin"), record(2, id="shorter", strokes=record(2)["strokes"][:1])]
    dataset = prepared_lists(tmp_path, [*(record(i) for i in range(60)), *twins])
    assert dataset.version.properties["duplicates"]["same_inputs"] == 1


def test_figures_are_of_the_items_and_features_of_the_lengths(tmp_path: Path) -> None:
    dataset = prepared_lists(tmp_path, [record(i) for i in range(120)])
    figures = dataset.version.properties["splits"]["train"]["inputs"]["strokes"]
    assert figures["minimum"] >= 0
    described = report.features(dataset)
    assert [(one["name"], one["minimum"], one["maximum"]) for one in described] == [
        ("length of strokes", "0", "5"),
        ("length of words", "1", "4"),
    ]
    page = report.render(dataset, all_findings(dataset), described, "under-test")
    assert "length of strokes" in page
    assert "0.5, " in page


def test_other_lengths_than_before_are_drift(tmp_path: Path) -> None:
    before = prepared_lists(tmp_path / "before", [record(i) for i in range(240)])
    now = prepared_lists(tmp_path / "now", [record(i, words=[i]) for i in range(240)])
    assert any(
        said.startswith("'length of words' is spread otherwise")
        for said in messages(all_findings(now, before), "drift")
    )


def test_a_length_that_tells_the_label_is_a_leak(tmp_path: Path) -> None:
    records = [record(i, words=[i] * (1 + i // 6 % 2)) for i in range(120)]
    (message,) = messages(all_findings(prepared_lists(tmp_path, records)), "leak")
    assert message.startswith("'length of words' alone tells the label")


def test_the_schema_says_how_long_lists_may_be() -> None:
    assert lengths(SCHEMA.record) == {"strokes": Length(0, 5, -1), "words": Length(1, 4)}
    fixed = {"type": "array", "minItems": 2, "maxItems": 2}
    properties = {"fixed": fixed, "endless": {"type": "array"}, "given": {"$ref": "#/$defs/list"}, "any": True}
    record = {"properties": properties, "$defs": {"list": {"type": "array", "maxItems": 3}}}
    assert lengths(record) == {"given": Length(0, 3)}


def test_an_input_of_any_length_comes_back_from_a_manifest() -> None:
    for spec in SCHEMA.inputs:
        assert InputSpec.of_json(json.loads(json.dumps(spec.to_json()))) == spec
