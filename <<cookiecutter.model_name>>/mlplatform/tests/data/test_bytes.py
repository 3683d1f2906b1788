"""Inputs of bytes: base64 in records, bytes in a dataset version."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np

from mlplatform.contract.targets import Classes
from mlplatform.data import catalog, report
from mlplatform.data.catalog import Dataset
from mlplatform.data.dataset import InputSpec, Schema
from mlplatform.data.findings import all_findings
from mlplatform.data.pictures import png
from mlplatform.tests.data.test_dataset import prepared_source

PHOTO = {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/png"}
SCHEMA = Schema(
    record={
        "type": "object",
        "properties": {"id": {"type": "string"}, "photo": PHOTO, "label": {"enum": ["no", "yes"]}},
        "required": ["photo", "label"],
        "additionalProperties": False,
    },
    inputs=(InputSpec("photo", (), "string", media_type="image/png"),),
    target=Classes("label", ("no", "yes")),
)


def picture(i: int) -> str:
    """A PNG of eight by eight pixels, in base64."""
    values = np.random.default_rng(i).uniform(0, 1, (8, 8))
    return png(values, 0, 1).removeprefix("data:image/png;base64,")


def prepared(directory: Path, records: list[dict[str, Any]]) -> Dataset:
    for name in ("source", "work"):
        (directory / name).mkdir(parents=True)
    (directory / "source" / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in records))
    version, storage = prepared_source(directory / "source", directory / "store", directory / "work", SCHEMA)
    return catalog.fetch(storage, version, directory / "work")


def record(i: int, **changes: Any) -> dict[str, Any]:
    return {"id": f"e{i}", "photo": picture(i), "label": ["no", "yes"][i % 2]} | changes


def test_base64_in_a_record_is_bytes_in_the_dataset_version(tmp_path: Path) -> None:
    dataset = prepared(tmp_path, [record(i) for i in range(50)])
    photos = dict(zip(dataset.column("id").tolist(), dataset.column("photo").tolist(), strict=True))
    assert photos == {f"e{i}".encode(): base64.b64decode(picture(i)) for i in range(50)}
    assert dataset.inputs == SCHEMA.inputs


def test_what_is_no_base64_is_no_example_and_is_told(tmp_path: Path) -> None:
    prepared(tmp_path, [*(record(i) for i in range(50)), record(7, id="bad", photo="photos/7.png")])
    (path,) = (tmp_path / "store" / "parts").rglob("problems.jsonl")
    (problem,) = [json.loads(line) for line in path.read_text().splitlines()]
    assert problem["row"] == 51
    assert problem["reason"].startswith("photo: 'photos/7.png' is not base64: ")


def test_the_report_shows_the_pictures_and_findings_compare_the_bytes(tmp_path: Path) -> None:
    dataset = prepared(tmp_path, [*(record(i) for i in range(50)), record(3, id="twin")])
    found = all_findings(dataset)
    assert [set(finding.ids) for finding in found if finding.kind == "repetition"] == [{"e3", "twin"}]
    page = report.render(dataset, found, report.features(dataset), "under-test")
    assert f'src="data:image/png;base64,{base64.b64encode(dataset.column("photo")[0]).decode()}' in page.replace(
        "&#43;", "+"
    )
