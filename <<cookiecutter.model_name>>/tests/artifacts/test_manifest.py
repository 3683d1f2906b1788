"""Artifacts: complete when the manifest is there, immutable, verified by who reads them."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from artifacts import manifest
from artifacts.manifest import ArtifactError
from artifacts.storage import LocalStorage


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "store")


def directory(path: Path, content: str = "hello") -> Path:
    (path / "sub").mkdir(parents=True)
    (path / "sub" / "file.txt").write_text(content)
    return path


def publish(storage: LocalStorage, source: Path, version: str = "v1", **properties: Any) -> manifest.Manifest:
    return manifest.publish(storage, f"models/{version}", source, "model", version, properties)


def test_what_is_published_is_read_with_its_properties(storage: LocalStorage, tmp_path: Path) -> None:
    publish(storage, directory(tmp_path / "source"), accuracy=0.5)
    found, content = manifest.fetch(storage, "models/v1", tmp_path / "cache")
    assert (found.kind, found.id, found.properties) == ("model", "v1", {"accuracy": 0.5})
    assert (content / "sub" / "file.txt").read_text() == "hello"


def test_a_second_publisher_of_a_version_gets_the_first_and_changes_nothing(
    storage: LocalStorage, tmp_path: Path
) -> None:
    first = publish(storage, directory(tmp_path / "one", "one"))
    assert publish(storage, directory(tmp_path / "two", "two")) == first
    assert [key.split("/")[-1] for key in storage.keys("models/")] == ["file.txt", "manifest.json"]


def test_of_publishers_at_once_one_wins_whole_and_the_others_leave_nothing(
    storage: LocalStorage, tmp_path: Path
) -> None:
    sources = [directory(tmp_path / str(i), str(i)) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        manifests = list(pool.map(lambda source: publish(storage, source), sources))
    winner, content = manifest.fetch(storage, "models/v1", tmp_path / "cache")
    assert all(found == winner for found in manifests)
    assert sorted(storage.keys("models/")) == [f"models/v1/{content.name}/sub/file.txt", "models/v1/manifest.json"]


def test_nothing_is_visible_before_the_manifest(
    storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: Any) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(storage, "create", killed)
    with pytest.raises(KeyboardInterrupt):
        publish(storage, directory(tmp_path / "source"))
    assert manifest.find(storage, "models/v1") is None
    assert manifest.list_artifacts(storage, "models") == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.write_text("HELLO"), r"sub/file\.txt: its SHA-256 is not the one in the manifest"),
        (lambda file: file.write_text("hell"), r"sub/file\.txt: has 4 bytes, the manifest says 5"),
        (lambda file: file.unlink(), r"sub/file\.txt: missing, though the manifest names it"),
    ],
)
def test_a_damaged_file_is_named(storage: LocalStorage, tmp_path: Path, damage: Any, message: str) -> None:
    published = publish(storage, directory(tmp_path / "source"))
    damage(storage.root / "models" / "v1" / published.content / "sub" / "file.txt")
    with pytest.raises(ArtifactError, match=message):
        manifest.fetch(storage, "models/v1", tmp_path / "cache")


def test_a_directory_without_manifest_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"manifest\.json: not there, so this is no complete artifact"):
        manifest.read_directory(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.pop("files"), "not a manifest"),
        (lambda raw: raw["files"].update({"../x": {"sha256": "0", "bytes": 0}}), "names a file outside"),
        (lambda raw: raw.update(content="../../x"), "names a file outside"),
        (lambda raw: raw["files"].update({"x": {"sha256": "0", "bytes": 0}}), "was changed after it was written"),
    ],
)
def test_a_manifest_that_was_tampered_with_is_refused(
    storage: LocalStorage, tmp_path: Path, change: Any, message: str
) -> None:
    publish(storage, directory(tmp_path / "source"))
    path = storage.root / "models" / "v1" / "manifest.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
    with pytest.raises(ArtifactError, match=message):
        manifest.read_directory(path.parent)
