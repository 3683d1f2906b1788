"""Artifacts: complete when the manifest is there, immutable, verified by who reads them."""

import json
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mlplatform.store import manifest
from mlplatform.store.manifest import ArtifactError, Manifest
from mlplatform.store.storage import LocalStorage, Storage, open_storage
from mlplatform.tests.conftest import Bucket


def directory(path: Path, content: str = "hello") -> Path:
    (path / "sub").mkdir(parents=True)
    (path / "sub" / "file.txt").write_text(content)
    return path


def publish(storage: Storage, source: Path, version: str = "v1", **properties: Any) -> Manifest:
    return manifest.publish(storage, f"models/{version}", source, "model", version, properties)


def test_what_is_published_is_read_with_its_properties(storage: Storage, tmp_path: Path) -> None:
    publish(storage, directory(tmp_path / "source"), accuracy=0.5)
    fetched, content = manifest.fetch(storage, "models/v1", tmp_path / "cache")
    assert (fetched.kind, fetched.id, fetched.properties) == ("model", "v1", {"accuracy": 0.5})
    assert (content / "sub" / "file.txt").read_text() == "hello"


def test_a_second_publisher_of_a_version_gets_the_first_and_changes_nothing(storage: Storage, tmp_path: Path) -> None:
    first = publish(storage, directory(tmp_path / "one", "one"))
    assert publish(storage, directory(tmp_path / "two", "two")) == first
    assert [key.split("/")[-1] for key in storage.keys("models/")] == ["file.txt", "manifest.json"]


def test_of_publishers_at_once_one_wins_whole_and_the_others_leave_nothing(storage: Storage, tmp_path: Path) -> None:
    sources = [directory(tmp_path / str(i), str(i)) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        manifests = list(pool.map(lambda source: publish(storage, source), sources))
    winner, content = manifest.fetch(storage, "models/v1", tmp_path / "cache")
    assert all(read == winner for read in manifests)
    assert sorted(storage.keys("models/")) == [f"models/v1/{content.name}/sub/file.txt", "models/v1/manifest.json"]


def test_nothing_is_visible_before_the_manifest(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: Any) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(storage, "create", killed)
    with pytest.raises(KeyboardInterrupt):
        publish(storage, directory(tmp_path / "source"))
    assert manifest.find(storage, "models/v1") is None
    assert manifest.list_artifacts(storage, "models") == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"HELLO", r"sub/file\.txt: its SHA-256 is not the one in the manifest"),
        (b"hell", r"sub/file\.txt: has 4 bytes, the manifest says 5"),
        (None, r"sub/file\.txt: (missing|not there), though the manifest names it"),
    ],
)
def test_a_damaged_file_is_named(storage: Storage, tmp_path: Path, content: bytes | None, message: str) -> None:
    key = f"models/v1/{publish(storage, directory(tmp_path / 'source')).content}/sub/file.txt"
    if content is None:
        storage.delete(key)
    else:
        storage.write(key, content)
    with pytest.raises(ArtifactError, match=message):
        manifest.fetch(storage, "models/v1", tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("file.txt"))


def test_an_artifact_of_many_files_comes_back_whole(storage: Storage, tmp_path: Path) -> None:
    source = tmp_path / "source"
    files = {f"{i % 3}/{i % 5}/{i}.txt": str(i) for i in range(40)}
    for name, content in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(content)
    publish(storage, source)
    _, content_directory = manifest.fetch(storage, "models/v1", tmp_path / "cache")
    assert {name: (content_directory / name).read_text() for name in files} == files


def test_artifacts_are_listed_oldest_first_without_those_that_are_not_complete(
    storage: Storage, tmp_path: Path
) -> None:
    source = directory(tmp_path / "source")
    published = [publish(storage, source, version) for version in ("v3", "v1", "v2")]
    storage.write("models/v4/0123456789ab/sub/file.txt", b"hello")
    # Of the same second, by name.
    oldest_first = sorted(published, key=lambda model: (model.created_at, model.id))
    assert manifest.list_artifacts(storage, "models") == oldest_first


def test_a_second_fetch_takes_the_copy_that_is_there_unless_it_was_damaged(bucket: Bucket, tmp_path: Path) -> None:
    storage = open_storage(bucket.url)
    publish(storage, directory(tmp_path / "source"))
    _, content = manifest.fetch(storage, "models/v1", tmp_path / "cache")
    manifest.fetch(storage, "models/v1", tmp_path / "cache")
    assert sum("file.txt" in request for request in bucket.faults.requests if request.startswith("GET")) == 1
    (content / "sub" / "file.txt").write_bytes(b"")
    _, content = manifest.fetch(storage, "models/v1", tmp_path / "cache")
    assert (content / "sub" / "file.txt").read_text() == "hello"


def test_what_an_artifact_needs_is_fetched_with_it(storage: Storage, tmp_path: Path) -> None:
    needed = publish(storage, directory(tmp_path / "one", "shared"), "needed")
    needs = {"models/needed": {"content": needed.content, "bytes": needed.size}}
    made = publish(storage, directory(tmp_path / "two"), needs=needs)
    _, content = manifest.fetch(storage, "models/v1", tmp_path / "cache")
    assert made.size == len("shared") + len("hello")
    shared = content.parents[2] / "models" / "needed" / needed.content / "sub" / "file.txt"
    assert shared.read_text() == "shared"
    storage.write(f"models/needed/{needed.content}/sub/file.txt", b"SHARED")
    with pytest.raises(ArtifactError, match=rf"/{needed.content}/sub/file\.txt: its SHA-256 is not"):
        manifest.fetch(storage, "models/v1", tmp_path / "another cache")
    manifest.remove(storage, "models/needed")
    with pytest.raises(ArtifactError, match=r"models/needed/manifest\.json: not there"):
        manifest.fetch(storage, "models/v1", tmp_path / "cache")
    publish(storage, directory(tmp_path / "three", "other"), "needed")
    with pytest.raises(ArtifactError, match="models/needed: was replaced after models/v1 was published"):
        manifest.fetch(storage, "models/v1", tmp_path / "cache")


def test_several_may_fetch_an_artifact_to_one_place_at_once(bucket: Bucket, tmp_path: Path) -> None:
    storage = open_storage(bucket.url)
    publish(storage, directory(tmp_path / "source"))
    with ThreadPoolExecutor(4) as pool:
        fetched = list(pool.map(lambda _: manifest.fetch(storage, "models/v1", tmp_path / "cache"), range(4)))
    assert all((content / "sub" / "file.txt").read_text() == "hello" for _, content in fetched)
    assert [path.name for path in (tmp_path / "cache" / "models").glob("[!.]*")] == ["v1"]
    assert not list((tmp_path / "cache").rglob(".partial-*"))
    # The others wait for the first one instead of fetching the same once more.
    assert sum("file.txt" in request for request in bucket.faults.requests if request.startswith("GET")) == 1


def test_a_directory_without_manifest_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"manifest\.json: not there, so this is no complete artifact"):
        manifest.read_directory(tmp_path)


PROPERTIES: dict[str, Any] = {
    "labels": ["no", "yes", "größer"],
    "metrics": {"accuracy": 0.9375, "examples": 10, "difference": 1.5e-07},
    "runtimes": {"litert": {"path": "sub/file.txt", "valid": True, "reason": None}},
    "signature": {"inputs": [{"name": "x", "shape": [None, 8], "dtype": "float32"}]},
}


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """The directory of a model."""
    storage = LocalStorage(tmp_path / "store")
    publish(storage, directory(tmp_path / "source"), **PROPERTIES)
    return storage.root / "models" / "v1"


def rewrite(artifact: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = artifact / "manifest.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.pop("files"), "not a manifest"),
        (lambda raw: raw.update(extra=1), "not a manifest"),
        (lambda raw: raw.update(digest=None), "was changed after it was written; publish it again"),
        (lambda raw: raw["files"].update({"../x": {"sha256": "0" * 64, "bytes": 0}}), "names a file outside"),
        (lambda raw: raw.update(content="../../x"), "names a file outside"),
        (lambda raw: raw["files"].update({"x": {"sha256": "0" * 64, "bytes": 0}}), "was changed after it was written"),
        (lambda raw: raw["properties"]["labels"].reverse(), "was changed after it was written; publish it again"),
    ],
)
def test_a_manifest_that_was_tampered_with_is_refused(artifact: Path, change: Any, message: str) -> None:
    rewrite(artifact, change)
    with pytest.raises(ArtifactError, match=message):
        manifest.read_directory(artifact)


def test_a_flipped_bit_of_a_manifest_is_noticed_unless_it_changes_nothing(artifact: Path) -> None:
    content = (artifact / "manifest.json").read_bytes()
    original = Manifest.from_json(content, "m")
    assert dict(original.properties) == PROPERTIES
    accepted = 0
    for place in random.Random(1).sample(range(8 * len(content)), 1500):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        try:
            parsed = Manifest.from_json(bytes(damaged), "m")
        except ArtifactError:
            continue
        accepted += 1
        assert parsed == original
    # The exponent of a number may be written with an E, and white space be other white space.
    assert accepted < 15


def test_a_manifest_of_a_version_that_wrote_no_digest_is_read_and_its_files_are_verified(artifact: Path) -> None:
    rewrite(artifact, lambda raw: raw.pop("digest"))
    read, content = manifest.read_directory(artifact)
    assert read.properties == PROPERTIES
    (content / "sub" / "file.txt").write_text("other")
    with pytest.raises(ArtifactError, match="SHA-256"):
        manifest.read_directory(artifact)


def test_a_model_under_the_name_of_another_is_refused(artifact: Path) -> None:
    artifact.rename(artifact.with_name("v2"))
    storage = LocalStorage(artifact.parents[1])
    for look in (manifest.read, lambda storage, prefix: manifest.fetch(storage, prefix, artifact.parents[2])):
        with pytest.raises(ArtifactError, match="is the manifest of model 'v1', which belongs elsewhere"):
            look(storage, "models/v2")


def test_a_file_that_the_manifest_does_not_name_is_refused(artifact: Path) -> None:
    (content,) = (path for path in artifact.iterdir() if path.is_dir())
    (content / "sub" / "more.txt").write_text("")
    with pytest.raises(ArtifactError, match=r"more\.txt: the manifest does not name it; remove it"):
        manifest.read_directory(artifact)


@pytest.mark.parametrize("linked", ["sub/file.txt", "sub", "."])
def test_a_symbolic_link_in_place_of_a_file_or_directory_is_refused(
    artifact: Path, tmp_path: Path, linked: str
) -> None:
    (content,) = (path for path in artifact.iterdir() if path.is_dir())
    (content / linked).rename(tmp_path / "elsewhere")
    (content / linked).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match="is a symbolic link, and an artifact holds only files"):
        manifest.read_directory(artifact)


def test_a_damaged_manifest_does_not_hide_its_neighbours(artifact: Path, tmp_path: Path) -> None:
    storage = LocalStorage(artifact.parents[1])
    newer = publish(storage, tmp_path / "source", "v2")
    (artifact / "manifest.json").write_bytes(b"{")
    damaged: list[ArtifactError] = []
    assert manifest.list_artifacts(storage, "models", damaged.append) == [newer]
    assert [f"{artifact}/manifest.json: not a manifest" in str(error) for error in damaged] == [True]
    with pytest.raises(ArtifactError, match="not a manifest"):
        manifest.list_artifacts(storage, "models")
