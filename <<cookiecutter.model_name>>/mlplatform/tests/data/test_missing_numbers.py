"""Numbers of inputs that may be missing: from null, an absent name or an empty cell to NaN in a dataset version."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlplatform.contract.targets import Classes
from mlplatform.data import catalog, report
from mlplatform.data.catalog import Dataset
from mlplatform.data.dataset import InputSpec, Schema
from mlplatform.data.findings import Finding, all_findings
from mlplatform.store.manifest import Manifest
from mlplatform.tests.data.test_dataset import prepared_source

NUMBER = {"type": ["number", "null"], "minimum": 0}
SCHEMA = Schema(
    record={
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "age": NUMBER,
            "weight": {"type": "number"},
            "label": {"enum": ["no", "yes"]},
        },
        "required": ["age", "label"],
        "additionalProperties": False,
    },
    inputs=(InputSpec("age", (), "float32", nullable=True), InputSpec("weight", (), "float32", nullable=True)),
    target=Classes("label", ("no", "yes")),
)


def record(i: int, **changes: Any) -> dict[str, Any]:
    """A fifth has no age, and a fourth no weight, which is not null either."""
    known = {"id": f"e{i}", "age": None if i % 5 == 0 else 20 + i % 7, "label": ["no", "yes"][i % 2]}
    return known | ({} if i % 4 == 0 else {"weight": 50.5 + i}) | changes


def prepared(directory: Path, records: list[dict[str, Any]], schema: Schema = SCHEMA) -> tuple[Dataset, Manifest]:
    """The dataset version of records as JSON lines."""
    (directory / "source").mkdir(parents=True)
    (directory / "source" / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in records))
    return fetched(directory, schema)


def fetched(directory: Path, schema: Schema) -> tuple[Dataset, Manifest]:
    (directory / "work").mkdir()
    version, storage = prepared_source(directory / "source", directory / "store", directory / "work", schema)
    return catalog.fetch(storage, version, directory / "work"), version


def by_id(dataset: Dataset, name: str) -> dict[str, Any]:
    return dict(zip((key.decode() for key in dataset.column("id")), dataset.column(name), strict=True))


def messages(found: list[Finding], kind: str) -> list[str]:
    return [finding.message for finding in found if finding.kind == kind]


def test_null_and_an_absent_name_are_nan_in_the_dataset_version(tmp_path: Path) -> None:
    dataset, _ = prepared(tmp_path, [record(i) for i in range(100)])
    ages, weights = by_id(dataset, "age"), by_id(dataset, "weight")
    assert np.isnan([ages[f"e{i}"] for i in range(0, 100, 5)]).all()
    assert np.isnan([weights[f"e{i}"] for i in range(0, 100, 4)]).all()
    assert (ages["e1"], weights["e1"]) == (21, 51.5)
    assert np.count_nonzero(np.isnan(list(weights.values()))) == 25


def test_an_empty_cell_of_a_table_is_the_same_and_gives_the_same_version(tmp_path: Path) -> None:
    records = [record(i) for i in range(100)]
    _, version = prepared(tmp_path / "json", records)
    (tmp_path / "csv" / "source").mkdir(parents=True)
    with (tmp_path / "csv" / "source" / "records.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "age", "weight", "label"])
        writer.writeheader()
        writer.writerows(records)
    assert fetched(tmp_path / "csv", SCHEMA)[1].id == version.id


def test_a_whole_column_may_be_missing_in_a_table(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    lines = ["id,age,label", *(f"e{i},{i},{['no', 'yes'][i % 2]}" for i in range(50))]
    (tmp_path / "source" / "records.csv").write_text("\n".join(lines) + "\n")
    dataset, _ = fetched(tmp_path, SCHEMA)
    assert np.isnan(dataset.column("weight")).all()
    assert messages(all_findings(dataset), "constant") == ["'weight' is missing in every example"]


def test_values_in_an_array_and_the_array_may_be_missing(tmp_path: Path) -> None:
    row = {"type": ["array", "null"], "items": NUMBER, "minItems": 2, "maxItems": 2}
    properties = {"id": {}, "row": row, "label": {"enum": ["no", "yes"]}}
    inputs = (InputSpec("row", (2,), "float64", nullable=True),)
    schema = Schema({"type": "object", "properties": properties}, inputs, Classes("label", ("no", "yes")))
    given: list[Any] = [[1, None], None, [None, None], [2, 3]]
    records = [{"id": f"e{i}", "row": given[i % 4], "label": ["no", "yes"][i % 2]} for i in range(40)]
    rows = by_id(prepared(tmp_path, records, schema)[0], "row")
    np.testing.assert_array_equal([rows[f"e{i}"] for i in range(4)], [[1, np.nan], *[[np.nan] * 2] * 2, [2, 3]])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"weight": None}, 'weight: null is not of type "number"'),
        ({"age": -1}, "age: -1 is less than the minimum of 0"),
        ({"age": "NaN"}, "age: "),
        ({"age": 1e300}, "age: not a float32 array of shape (): 1e+300 does not fit"),
    ],
)
def test_what_the_schema_does_not_allow_is_refused(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    prepared(tmp_path, [*(record(i) for i in range(100)), record(7, id="bad", **changes)])
    (path,) = (tmp_path / "store" / "parts").rglob("problems.jsonl")
    (problem,) = [json.loads(line) for line in path.read_text().splitlines()]
    assert problem["row"] == 101
    assert problem["reason"].startswith(reason)


def test_two_examples_with_the_same_gaps_have_the_same_inputs(tmp_path: Path) -> None:
    records = [record(i, age=i, weight=i) for i in range(100)]
    twins = [record(i, id=f"twin {i}", age=None, weight=7.5) for i in range(2)]
    _, version = prepared(tmp_path, [*records, *twins])
    assert version.properties["duplicates"]["same_inputs"] == 1


def test_what_is_missing_spoils_no_figure_and_is_counted(tmp_path: Path) -> None:
    dataset, version = prepared(tmp_path, [record(i) for i in range(100)])
    figures = version.properties["splits"]["train"]["inputs"]["age"]
    ages = dataset.column("age")[dataset.splits() == 0]
    assert figures["mean"] == pytest.approx(np.nanmean(ages))
    assert figures["missing"] == np.count_nonzero(np.isnan(ages))
    found = all_findings(dataset)
    assert messages(found, "null") == [
        "'weight' is null in 25 of 100 examples",
        "'age' is null in 20 of 100 examples",
    ]
    (age, weight) = report.features(dataset)
    assert (age["minimum"], age["maximum"], age["distinct"], age["missing"]) == ("20", "26", "7", "20 (20 %)")
    assert weight["missing"] == "25 (25 %)"
    page = report.render(dataset, found, [age, weight], "under-test")
    assert "20 (20 %)" in page
    assert ">nan" not in page


def test_more_gaps_than_before_are_drift_and_the_same_values_are_none(tmp_path: Path) -> None:
    records = [record(i) for i in range(400)]
    before, _ = prepared(tmp_path / "before", records)
    now, _ = prepared(tmp_path / "now", [line | ({"age": None} if i % 2 else {}) for i, line in enumerate(records)])
    (message,) = messages(all_findings(now, before), "drift")
    assert message == f"'age' is missing in 60 % of the examples, in {before.version.id} in 20 %"


def test_gaps_that_tell_the_label_are_a_leak(tmp_path: Path) -> None:
    records = [record(i, age=None if i % 2 else 30 + i % 3) for i in range(200)]
    (message,) = messages(all_findings(prepared(tmp_path, records)[0]), "leak")
    assert message.startswith("'age' alone tells the label")


def test_an_input_that_is_never_missing_is_described_as_before_there_were_others() -> None:
    assert InputSpec("x", (2,), "float32").to_json() == {"name": "x", "shape": [2], "dtype": "float32"}
    gaps = InputSpec("x", (2,), "float32", nullable=True)
    assert InputSpec.of_json(gaps.to_json()) == gaps
