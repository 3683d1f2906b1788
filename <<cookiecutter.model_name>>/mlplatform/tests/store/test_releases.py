"""Which model is in production, and the table of what there is."""

from pathlib import Path
from typing import Any

import pytest

from mlplatform.store import manifest, models, releases
from mlplatform.store.manifest import ArtifactError
from mlplatform.store.storage import Storage


def publish(storage: Storage, source: Path, version: str, **properties: Any) -> None:
    source.mkdir(exist_ok=True)
    manifest.publish(storage, f"models/{version}", source, "model", version, properties)


def test_at_first_nothing_is_in_production(storage: Storage) -> None:
    assert releases.production(storage) is None


def test_the_version_said_last_is_in_production(storage: Storage, tmp_path: Path) -> None:
    for version in ("v1", "v2"):
        publish(storage, tmp_path / "source", version)
        releases.set_production(storage, version)
    assert releases.production(storage) == "v2"


def test_what_is_no_model_cannot_be_in_production(storage: Storage, tmp_path: Path) -> None:
    publish(storage, tmp_path / "source", "v1")
    releases.set_production(storage, "v1")
    for version in ("v9", "../v1", "v1/manifest.json", ""):
        with pytest.raises(
            ArtifactError,
            match=rf"model version '{version}': not in .*store/models; the list: .*python -m mlplatform",
        ):
            releases.set_production(storage, version)
    assert releases.production(storage) == "v1"


def test_a_pointer_that_was_edited_wrongly_is_said(storage: Storage) -> None:
    for content in (b"", b"[]", b"{}", b"\xff"):
        storage.write("releases/production.json", content)
        with pytest.raises(ArtifactError, match=r'store/releases/production\.json: must be \{"version": '):
            releases.production(storage)


def test_the_table_tells_what_changed_and_what_is_in_production(storage: Storage, tmp_path: Path) -> None:
    same = {"metrics": {"accuracy": 0.98765}, "dataset": "d1", "code": "c1", "git_commit": "0123456789abcdef"}
    publish(storage, tmp_path / "source", "v1", **same, parameters={"epochs": 5, "seed": 1})
    publish(storage, tmp_path / "source", "v2", **same, parameters={"epochs": 9, "seed": 1, "decay": 0.1})
    publish(storage, tmp_path / "source", "v3")
    releases.set_production(storage, "v2")
    header, *rows = models.table(models.list_models(storage), "v2").splitlines()
    assert header.split() == [
        *("version", "created", "accuracy", "dataset", "code", "commit", "release"),
        *("parameters", "changed"),
    ]
    cells = [row.split(maxsplit=7) for row in rows]
    assert [cell[0] for cell in cells] == ["v1", "v2", "v3"]
    assert [cell[2:] for cell in cells] == [
        ["0.9877", "d1", "c1", "0123456789", "-", "-"],
        ["0.9877", "d1", "c1", "0123456789", "production", "decay=0.1, epochs=9"],
        ["-", "-", "-", "-", "-", "no decay, no epochs, no seed"],
    ]
