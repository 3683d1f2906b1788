"""Storage in a directory: keys are absent or whole, and of two creators one wins."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from artifacts.storage import LocalStorage, MissingKeyError, StorageError, open_storage


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "store")


def test_what_was_written_is_read(storage: LocalStorage) -> None:
    storage.write("a/b.json", b"1")
    storage.write("a/b.json", b"2")
    assert storage.read("a/b.json") == b"2"


def test_a_missing_key_is_named(storage: LocalStorage) -> None:
    with pytest.raises(MissingKeyError, match=r"store/a/b\.json: not there"):
        storage.read("a/b.json")


def test_of_many_creators_at_once_exactly_one_wins(storage: LocalStorage) -> None:
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(lambda i: storage.create("lock", str(i).encode()), range(64)))
    assert won.count(True) == 1
    assert storage.read("lock") == str(won.index(True)).encode()


def test_keys_are_listed_in_order_below_a_prefix(storage: LocalStorage) -> None:
    for key in ("b/2", "b/1", "a/1", "bb/1"):
        storage.write(key, b"")
    assert list(storage.keys("b/")) == ["b/1", "b/2"]
    assert list(storage.keys("c/")) == []


def test_a_write_that_fails_leaves_the_old_content_and_no_rest(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write("key", b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"store/key: no space left on device; free some space or set STORAGE_URL"):
        storage.write("key", b"new")
    assert storage.read("key") == b"old"
    assert [path.name for path in storage.root.iterdir()] == ["key"]


def test_a_published_file_is_readable_by_others(storage: LocalStorage) -> None:
    storage.write("key", b"")
    assert (storage.root / "key").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("form", ["{}", "file://{}", "file://localhost{}"])
def test_a_directory_is_a_storage_url(tmp_path: Path, form: str) -> None:
    open_storage(form.format(tmp_path)).write("key", b"1")
    assert (tmp_path / "key").read_bytes() == b"1"


@pytest.mark.parametrize("url", ["gs://bucket/prefix", "file://elsewhere/store", "file:store"])
def test_another_url_is_refused_with_the_allowed_forms(url: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"must be a directory, file:///directory or s3://bucket/prefix"):
        open_storage(url)
