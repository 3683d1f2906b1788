"""Datasets: the same examples give the same version, and an example stays in its split."""

import json
import random
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlplatform.contract.errors import BadDataError
from mlplatform.contract.targets import Classes
from mlplatform.data import merging, parts, records, writing
from mlplatform.data.dataset import OTHERS, SPLITS, InputSpec, Schema, Split
from mlplatform.data.parts import check_files, known_files, parts_of
from mlplatform.data.sources import list_source, local_file
from mlplatform.data.splitting import SplitRule
from mlplatform.data.versions import prepare
from mlplatform.store.manifest import Manifest
from mlplatform.store.storage import LocalStorage

SCHEMA = Schema(
    record={"properties": {"label": {"enum": ["no", "yes"]}}},
    inputs=(InputSpec("grid", (2, 2), "float32"), InputSpec("count", (), "int32"), InputSpec("name", (), "string")),
    target=Classes("label", ("no", "yes")),
)
FRACTIONS = SplitRule(validation_fraction=0.2, test_fraction=0.2)


def record(i: int, **changes: Any) -> dict[str, Any]:
    example = {"id": f"e{i}", "grid": [[i, 1], [2, 3]], "count": i, "name": f"näme {i}", "label": ["no", "yes"][i % 2]}
    return example | changes


def prepared_from(
    tmp_path: Path, *files: list[dict[str, Any]], conflicts_allowed: int = 0, schema: Schema = SCHEMA
) -> tuple[Manifest, LocalStorage]:
    """The dataset version of these files, in `source`, and its store."""
    source, work = tmp_path / "source", tmp_path / "work"
    for directory in (source, work):
        directory.mkdir(parents=True, exist_ok=True)
    for i, rows in enumerate(files):
        (source / f"{i}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return prepared_source(source, tmp_path / "store", work, schema, conflicts_allowed)


def prepared_source(
    source: Path, store: Path, work: Path, schema: Schema, conflicts_allowed: int = 0, rule: SplitRule = FRACTIONS
) -> tuple[Manifest, LocalStorage]:
    storage, sources = LocalStorage(store), LocalStorage(source)
    listed = list_source(str(source)).files
    list(check_files(storage, listed, lambda file: local_file(sources, file.key, work), schema, work))
    parts = parts_of(known_files(storage, schema), [file.name for file in listed])
    return prepare(storage, parts, schema, rule, work, conflicts_allowed=conflicts_allowed), storage


def split_ids(prepared: Manifest, storage: LocalStorage) -> dict[str, set[bytes]]:
    content = storage.root / "datasets" / prepared.id / prepared.content
    splits = {name: Split(content, name, []) for name in SPLITS}
    return {name: set(split.column("id", np.arange(len(split)))) for name, split in splits.items()}


def test_the_version_follows_from_the_examples_alone(tmp_path: Path) -> None:
    records = [record(i) for i in range(100)]
    shuffled = random.Random(0).sample(records, 100)
    one, _ = prepared_from(tmp_path / "a", records)
    other, _ = prepared_from(tmp_path / "b", shuffled[:30], shuffled[30:], shuffled[:50])
    changed, _ = prepared_from(tmp_path / "c", [*records[1:], record(0, count=7)])
    assert one.id == other.id
    assert one.id != changed.id


def test_examples_never_change_their_split_as_data_grows(tmp_path: Path) -> None:
    records = [record(i) for i in range(200)]
    before = split_ids(*prepared_from(tmp_path / "a", records[:100]))
    after = split_ids(*prepared_from(tmp_path / "b", records))
    assert all(before[name] <= after[name] for name in SPLITS)
    assert sum(len(ids) for ids in after.values()) == 200


def test_values_come_back_as_they_went_in(tmp_path: Path) -> None:
    prepared, storage = prepared_from(tmp_path, [record(i) for i in range(100)])
    split = Split(storage.root / "datasets" / prepared.id / prepared.content, "train", ["grid", "count", "name"])
    inputs, labels = split.take(np.array([3, 0]))
    number = int(inputs["count"][0])
    assert inputs["grid"].dtype == np.float32
    assert inputs["grid"][0].tolist() == [[number, 1], [2, 3]]
    assert inputs["name"][0].decode() == f"näme {number}"
    assert labels[0] == number % 2


def test_an_input_may_be_called_others_beside_properties_that_are_none(tmp_path: Path) -> None:
    schema = Schema({"type": "object"}, (InputSpec("others", (), "int32"),), Classes("label", ("a",)))
    records = [{"id": f"e{i}", "others": i, "label": "a", "camera": "left"} for i in range(50)]
    prepared, storage = prepared_from(tmp_path, records, schema=schema)
    split = Split(storage.root / "datasets" / prepared.id / prepared.content, "train", ["others", OTHERS])
    inputs, _ = split.take(np.arange(len(split)))
    assert sorted(inputs["others"].tolist()) == sorted(
        int(key[1:]) for key in split.column("id", np.arange(len(split)))
    )
    assert set(inputs[OTHERS]) == {b'{"camera": "left"}'}


def test_repeated_examples_count_once_and_contradictions_are_counted(tmp_path: Path) -> None:
    records = [record(i) for i in range(50)]
    conflicting = [record(0, label="yes"), record(1, label="no")]
    prepared, _ = prepared_from(tmp_path, records, records[10:20], conflicting, conflicts_allowed=2)
    duplicates = prepared.properties["duplicates"]
    assert (duplicates["repeated"], duplicates["conflicting"]) == (10, 2)
    assert sum(split["examples"] for split in prepared.properties["splits"].values()) == 50


def test_more_contradictions_than_allowed_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match=r"^1 records have the id of another record and other content; .* Ids: e3$"):
        prepared_from(tmp_path, [*(record(i) for i in range(50)), record(3, count=9)])


def test_the_same_inputs_under_other_ids_are_counted(tmp_path: Path) -> None:
    records = [record(i) for i in range(100)]
    copies = [record(i, id=f"copy {i}") for i in range(20)]
    prepared, storage = prepared_from(tmp_path, records, copies)
    ids = split_ids(prepared, storage)
    outside = {example_id for name in ("validation", "test") for example_id in ids[name]}
    pairs = [(f"e{i}".encode(), f"copy {i}".encode()) for i in range(20)]
    assert prepared.properties["duplicates"]["same_inputs"] == 20
    assert prepared.properties["duplicates"]["across_splits"] == sum(
        (one in outside) != (other in outside) for one, other in pairs
    )


def test_memory_holds_a_share_of_the_data_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((writing, "SHARD_BYTES"), (parts, "BUFFER_BYTES"), (merging, "BUCKET_BYTES")):
        monkeypatch.setattr(module, name, 1 << 19)
    monkeypatch.setattr(records, "BLOCK_BYTES", 1 << 19)
    schema = Schema(record={}, inputs=(InputSpec("x", (), "string"),), target=Classes("label", ("a",)))
    source = tmp_path / "source"
    source.mkdir()
    (tmp_path / "work").mkdir()
    with (source / "big.jsonl").open("w") as file:
        file.writelines(json.dumps({"x": f"{i} {'long ' * 1600}", "label": "a"}) + "\n" for i in range(2000))
    tracemalloc.start()
    prepared, _ = prepared_source(source, tmp_path / "store", tmp_path / "work", schema)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert prepared.size > 16_000_000
    assert peak < prepared.size / 3


def test_the_manifest_has_class_balance_and_statistics(tmp_path: Path) -> None:
    prepared, _ = prepared_from(tmp_path, [record(i) for i in range(100)])
    splits = prepared.properties["splits"]
    assert sum(split["classes"]["yes"] for split in splits.values()) == 50
    assert splits["train"]["inputs"]["grid"]["minimum"] >= 0
    assert splits["train"]["inputs"]["count"]["maximum"] <= 99


def test_too_few_examples_are_said(tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match="1 examples are too few to divide"):
        prepared_from(tmp_path, [record(1)])


def test_shards_and_buckets_do_not_change_the_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [record(i) for i in range(300)]
    one, _ = prepared_from(tmp_path / "a", records)
    monkeypatch.setattr(writing, "SHARD_BYTES", 2000)
    monkeypatch.setattr(parts, "BUFFER_BYTES", 1000)
    monkeypatch.setattr(merging, "BUCKET_BYTES", 1000)
    other, storage = prepared_from(tmp_path / "b", records)
    assert one.id == other.id
    split = Split(storage.root / "datasets" / other.id / other.content, "train", ["count"])
    whole = split.column("count", np.arange(len(split)))
    assert len(list((storage.root / "layers").rglob("train/*.label.npy"))) > 1
    assert split.column("count", np.array([len(split) - 1, 0, 5])).tolist() == [whole[-1], whole[0], whole[5]]
