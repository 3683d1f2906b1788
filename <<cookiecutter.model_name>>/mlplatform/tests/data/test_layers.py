"""Dataset versions that grow: what they share, and that nobody sees how they came to be."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlplatform.contract.errors import BadDataError
from mlplatform.contract.targets import Classes
from mlplatform.data import catalog, forgetting, layers, merging, writing
from mlplatform.data.columns import Texts
from mlplatform.data.dataset import HASH, OTHERS, SPLITS, InputSpec, Schema, Split, open_column, shard_names
from mlplatform.data.layers import fetch_columns
from mlplatform.data.parts import check_files, known_files, parts_of
from mlplatform.data.sources import list_source, local_file
from mlplatform.data.splitting import SplitRule
from mlplatform.data.versions import prepare
from mlplatform.store import manifest
from mlplatform.store.manifest import Manifest
from mlplatform.store.storage import LocalStorage, Storage, open_storage
from mlplatform.tests.conftest import Bucket

SCHEMA = Schema(
    record={"type": "object"},
    inputs=(InputSpec("row", (64,), "float32"), InputSpec("size", (), "float64"), InputSpec("text", (2,), "string")),
    target=Classes("label", ("no", "yes")),
)
COLUMNS = ("id", "label", "row", "size", "text", OTHERS)
RULE = SplitRule(validation_fraction=0.2, test_fraction=0.2)


def record(i: int, **changes: Any) -> dict[str, Any]:
    row = (np.arange(64) * i % 97 / 10).tolist()
    example = {"id": f"e{i}", "row": row, "size": i / 3, "text": [f"näme {i}", ""], "label": ["no", "yes"][i % 2]}
    return example | {"camera": i % 5} | changes


def records(*numbers: int) -> list[dict[str, Any]]:
    return [record(i) for i in range(*numbers)]


class Pipeline:
    """A source and a store; every call adds a file of records and makes a version of all files."""

    def __init__(self, directory: Path, storage: Storage | None = None, schema: Schema = SCHEMA) -> None:
        self.source, self.work = directory / "source", directory / "work"
        for path in (self.source, self.work):
            path.mkdir(parents=True)
        self.storage = storage or LocalStorage(directory / "store")
        self.schema = schema

    def __call__(
        self, *files: Sequence[dict[str, Any]], rule: SplitRule = RULE, conflicts_allowed: int = 0
    ) -> Manifest:
        for rows in files:
            path = self.source / f"{len(list(self.source.iterdir())):02}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        sources, listed = LocalStorage(self.source), list_source(str(self.source)).files
        known = known_files(self.storage, self.schema)
        new = [file for file in listed if file.name not in known]
        opened = lambda file: local_file(sources, file.key, self.work)  # noqa: E731
        list(check_files(self.storage, new, opened, self.schema, self.work))
        parts = parts_of(known_files(self.storage, self.schema), [file.name for file in listed])
        return prepare(self.storage, parts, self.schema, rule, self.work, conflicts_allowed)

    def read(self, version: Manifest, name: str = "train", order: Callable[[int], Any] = np.arange) -> dict[str, Any]:
        """All columns of a split, as lists."""
        _, content = manifest.fetch(self.storage, f"datasets/{version.id}", self.work)
        split = Split(content, name, [spec.name for spec in self.schema.inputs])
        indices = order(len(split))
        inputs, truth = split.take(indices)
        others = {column: split.column(column, indices) for column in ("id", OTHERS)}
        return {column: array.tolist() for column, array in {**inputs, **others, "label": truth}.items()}


def keys(storage: Storage, prefix: str) -> set[str]:
    return set(storage.keys(prefix))


def shuffled(count: int) -> Any:
    return np.random.default_rng(1).permutation(count)


def assert_alike(one: Pipeline, version: Manifest, other: Pipeline, whole: Manifest) -> None:
    """Nothing but the layers tells how a version was made."""
    assert version.id == whole.id
    history = {manifest.NEEDS, "sources", "parts"}
    described, expected = (
        {name: value for name, value in read.properties.items() if name not in history}
        for read in (manifest.read(each.storage, f"datasets/{version.id}") for each in (one, other))
    )
    assert described == expected
    for name in SPLITS:
        for order in (np.arange, shuffled):
            assert one.read(version, name, order) == other.read(whole, name, order)


def test_a_version_that_grew_is_the_one_made_at_once(tmp_path: Path) -> None:
    growing, at_once = Pipeline(tmp_path / "a"), Pipeline(tmp_path / "b")
    files = [records(900), records(900, 930), records(920, 940), records(940, 1000)]
    grown = [growing(rows) for rows in files][-1]
    whole = at_once(*files)
    assert (len(grown.needs), len(whole.needs)) == (4, 1)
    assert_alike(growing, grown, at_once, whole)


@pytest.mark.parametrize("limits", [(merging, "BUCKET_BYTES", 5000), (writing, "SHARD_BYTES", 5000)])
def test_neither_buckets_nor_shards_change_what_grew(
    limits: tuple[Any, str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [records(300), records(300, 320), records(320, 340)]
    at_once = Pipeline(tmp_path / "b")
    whole = at_once(*files)
    monkeypatch.setattr(*limits)
    growing = Pipeline(tmp_path / "a")
    assert_alike(growing, [growing(rows) for rows in files][-1], at_once, whole)


def test_what_does_not_fit_into_memory_is_read_from_its_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    growing, at_once = Pipeline(tmp_path / "a"), Pipeline(tmp_path / "b")
    files = [records(300), records(300, 320), records(320, 340)]
    grown, whole = [growing(rows) for rows in files][-1], at_once(*files)
    monkeypatch.setattr("mlplatform.data.dataset.JOINED_BYTES", 0)
    assert_alike(growing, grown, at_once, whole)


def test_growth_writes_what_is_new(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path)
    first = pipeline(records(4000))
    before = keys(pipeline.storage, "")
    pipeline(records(4000, 4040))
    written = sum((tmp_path / "store" / key).stat().st_size for key in keys(pipeline.storage, "") - before)
    assert written < 0.03 * sum((tmp_path / "store" / key).stat().st_size for key in before)
    assert keys(pipeline.storage, f"datasets/{first.id}/") <= before


def test_a_version_has_few_layers_and_most_of_it_in_the_first(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path)
    counts = [len(pipeline(records(at, at + size)).needs) for at, size in growth(1000, 20, 20)]
    assert counts == [1, 2, 3, 4, 5, 6, 7, 8, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6, 7]
    at_once = Pipeline(tmp_path / "b")
    assert_alike(pipeline, pipeline(), at_once, at_once(records(1380)))


def growth(first: int, step: int, count: int) -> list[tuple[int, int]]:
    """Numbers of the first record and of the records, of files that come one after the other."""
    return [(0, first), *((first + i * step, step) for i in range(count - 1))]


def test_splits_by_a_property_grow_as_well(tmp_path: Path) -> None:
    rule = SplitRule(0.2, 0.2, group="camera")
    growing, at_once = Pipeline(tmp_path / "a"), Pipeline(tmp_path / "b")
    files = [[record(i, camera=f"c{i % 40}") for i in range(*numbers)] for numbers in ((0, 400), (400, 440))]
    grown, whole = [growing(rows, rule=rule) for rows in files][-1], at_once(*files, rule=rule)
    assert len(grown.needs) == 2
    assert_alike(growing, grown, at_once, whole)


@pytest.mark.parametrize("rule", [SplitRule(0.2, 0.2, stratified=True), SplitRule(0.2, 0.2, together=True)])
def test_where_others_decide_an_examples_split_a_version_is_made_at_once(rule: SplitRule, tmp_path: Path) -> None:
    pipeline, at_once = Pipeline(tmp_path / "a"), Pipeline(tmp_path / "b")
    pipeline(records(300), rule=rule)
    grown = pipeline(records(300, 310), rule=rule)
    assert_alike(pipeline, grown, at_once, at_once(records(300), records(300, 310), rule=rule))


def test_a_new_record_that_contradicts_an_old_one_is_named(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path)
    pipeline(records(300))
    with pytest.raises(BadDataError, match=r"^1 records have the id of another record .* Ids: e7$"):
        pipeline([record(7, label="no"), record(400)])


def test_of_contradicting_records_the_same_one_counts_whichever_came_first(tmp_path: Path) -> None:
    growing, at_once = Pipeline(tmp_path / "a"), Pipeline(tmp_path / "b")
    files = [records(300), [record(7, size=0.5), record(8, size=9000.5)], [record(7, size=0.5), record(300)]]
    grown = [growing(rows, conflicts_allowed=9) for rows in files][-1]
    whole = at_once(*files[::-1], conflicts_allowed=9)
    assert_alike(growing, grown, at_once, whole)
    assert whole.properties["duplicates"]["conflicting"] >= 2


def test_files_that_left_the_source_leave_the_version(tmp_path: Path) -> None:
    pipeline, at_once = Pipeline(tmp_path / "a"), Pipeline(tmp_path / "b")
    pipeline(records(300), records(300, 310))
    (pipeline.source / "01.jsonl").unlink()
    assert_alike(pipeline, pipeline(), at_once, at_once(records(300)))


def test_removing_a_version_keeps_what_another_one_needs(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path)
    first, second, third = (pipeline(rows) for rows in (records(300), records(300, 310), records(310, 320)))
    expected = pipeline.read(third)
    freed = [catalog.remove(pipeline.storage, version) for version in (first, second)]
    assert max(freed) < 0.1 * third.size
    assert pipeline.read(third) == expected
    catalog.remove(pipeline.storage, third)
    assert keys(pipeline.storage, "layers/") | keys(pipeline.storage, "datasets/") == set()


def test_what_is_forgotten_is_in_no_later_version_and_in_no_layer_once_the_others_are_removed(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path)
    held = [pipeline(rows) for rows in (records(300), records(300, 310))]
    (forgotten,) = forgetting.forget(pipeline.storage, ["e7"], pipeline.work)
    assert sorted(forgotten.versions) == sorted(version.id for version in held)
    later = pipeline(records(310, 320))
    for version in held:
        catalog.remove(pipeline.storage, version)
    assert sum(len(pipeline.read(later, name)["id"]) for name in SPLITS) == 319
    assert ids_in_layers(tmp_path / "store") == {f"e{i}".encode() for i in range(320)} - {b"e7"}


def ids_in_layers(store: Path) -> set[bytes]:
    """Ids of all examples in all layers, whether a version needs them or not."""
    directories = {path.parent for path in (store / "layers").rglob("*.label.npy")}
    shards = [open_column(directory, shard, "id") for directory in directories for shard in shard_names(directory)]
    return {example_id for ids in shards if isinstance(ids, Texts) for example_id in ids.array().tolist()}


class Interrupted(LocalStorage):
    """A directory in which something happens just before a key is created, or just after one is deleted, once."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.created: dict[str, Callable[[], object]] = {}
        self.deleted: dict[str, Callable[[], object]] = {}

    def create(self, key: str, content: bytes) -> bool:
        for prefix in [prefix for prefix in self.created if key.startswith(prefix)]:
            self.created.pop(prefix)()
        return super().create(key, content)

    def delete(self, key: str) -> None:
        super().delete(key)
        for prefix in [prefix for prefix in self.deleted if key.startswith(prefix)]:
            self.deleted.pop(prefix)()


def test_a_growth_that_was_killed_resumes_with_what_it_wrote(tmp_path: Path) -> None:
    storage = Interrupted(tmp_path / "store")
    pipeline, at_once = Pipeline(tmp_path, storage), Pipeline(tmp_path / "b")
    first = pipeline(records(300))

    def killed() -> None:
        raise KeyboardInterrupt

    storage.created["datasets/"] = killed
    with pytest.raises(KeyboardInterrupt):
        pipeline(records(300, 310))
    assert [version.id for version in catalog.versions(storage)] == [first.id]
    written = keys(storage, "layers/")
    grown = pipeline()
    assert keys(storage, "layers/") == written
    assert_alike(pipeline, grown, at_once, at_once(records(300), records(300, 310)))


def test_a_version_whose_layers_are_removed_while_it_is_published_is_made_anew(tmp_path: Path) -> None:
    storage = Interrupted(tmp_path / "store")
    pipeline, at_once = Pipeline(tmp_path, storage), Pipeline(tmp_path / "b")
    first = pipeline(records(300))
    storage.created["datasets/"] = lambda: catalog.remove(storage, first)
    grown = pipeline(records(300, 310))
    assert first.needs.keys().isdisjoint(grown.needs)
    assert_alike(pipeline, grown, at_once, at_once(records(300), records(300, 310)))


def test_layers_stay_if_a_version_that_needs_them_is_published_while_they_are_removed(tmp_path: Path) -> None:
    storage = Interrupted(tmp_path / "store")
    pipeline = Pipeline(tmp_path, storage)
    first, grown = pipeline(records(300)), pipeline(records(300, 310))
    expected = pipeline.read(grown)
    key = f"datasets/{grown.id}/{manifest.MANIFEST}"
    content = storage.read(key)
    storage.delete(key)
    storage.deleted["layers/"] = lambda: storage.create(key, content)
    catalog.remove(storage, first)
    assert pipeline.read(grown) == expected


def test_what_a_killed_build_left_is_removed_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline(tmp_path)
    kept, left = pipeline(records(300)), pipeline(records(300, 310))
    pipeline.storage.delete(f"datasets/{left.id}/{manifest.MANIFEST}")
    assert layers.orphans(pipeline.storage) == []
    monkeypatch.setattr(layers, "ORPHAN_HOURS", -1)
    assert layers.orphans(pipeline.storage) == [*left.needs][-1:]
    layers.release(pipeline.storage, layers.orphans(pipeline.storage))
    assert {key.split("/")[1] for key in keys(pipeline.storage, "layers/")} == {kept.id}


def test_nothing_grows_from_a_damaged_layer(tmp_path: Path) -> None:
    pipeline, at_once = Pipeline(tmp_path / "a"), Pipeline(tmp_path / "b")
    pipeline(records(300))
    next((tmp_path / "a" / "store" / "layers").rglob("*.row.npy")).write_bytes(b"0")
    assert_alike(pipeline, pipeline(records(300, 310)), at_once, at_once(records(310)))


def test_a_version_of_an_older_format_is_read_and_not_grown_from(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path)
    made = pipeline(records(300))
    expected = pipeline.read(made)
    _, content = manifest.fetch(pipeline.storage, f"datasets/{made.id}", pipeline.work)
    (layer,) = layers.layers_of(made, content)
    for path in layer.directory.rglob(f"*.{HASH}.npy"):
        path.unlink()
    (tmp_path / "old").mkdir()
    layer.directory.rename(tmp_path / "old" / "files")
    catalog.remove(pipeline.storage, made)
    properties = {k: v for k, v in made.properties.items() if k not in (manifest.NEEDS, "sources")}
    old = manifest.publish(
        pipeline.storage, f"datasets/{made.id}", tmp_path / "old" / "files", "dataset", made.id, properties
    )
    assert pipeline.read(old) == expected
    assert len(pipeline(records(300, 310)).needs) == 1


def test_only_new_layers_are_downloaded_and_only_columns_that_are_asked_for(bucket: Bucket, tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, open_storage(bucket.url))
    first = pipeline(records(300))
    pipeline.read(first)
    before = len(bucket.faults.requests)
    grown = pipeline(records(300, 310))
    expected = pipeline.read(grown, "test")
    arrays = [request for request in bucket.faults.requests[before:] if "GET" in request and ".npy" in request]
    assert arrays != []
    assert [request for request in arrays if f"layers/{first.id}/" in request] == []
    before = len(bucket.faults.requests)
    columns = fetch_columns(pipeline.storage, grown.id, "test", ("id", "label"), tmp_path / "elsewhere")
    assert {name: array.tolist() for name, array in columns.items()} == {n: expected[n] for n in ("id", "label")}
    assert [r for r in bucket.faults.requests[before:] if ".row." in r or "/train/" in r or "/validation/" in r] == []
