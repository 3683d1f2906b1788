"""Sources: every file is data, hidden, passed over as told, or refused."""

from pathlib import Path
from threading import Barrier

import pytest

from mlplatform.contract.errors import BadDataError
from mlplatform.data import sources
from mlplatform.data.sources import list_source, opening
from mlplatform.store.storage import LocalStorage


def source(directory: Path, *names: str) -> str:
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return str(directory)


def test_files_in_folders_and_of_every_case_are_data(tmp_path: Path) -> None:
    listed = list_source(
        source(tmp_path, "a.csv", "b/MORE.CSV", "b/c.ndjson", "d.jsonl.gz", "e.tsv", "f.csv.zst", "g.PARQUET")
    )
    assert [(file.key, file.format) for file in listed.files] == [
        ("a.csv", "csv"),
        ("b/MORE.CSV", "csv"),
        ("b/c.ndjson", "jsonl"),
        ("d.jsonl.gz", "jsonl.gz"),
        ("e.tsv", "tsv"),
        ("f.csv.zst", "csv.zst"),
        ("g.PARQUET", "parquet"),
    ]


def test_hidden_files_and_folders_are_no_data(tmp_path: Path) -> None:
    listed = list_source(source(tmp_path, "a.csv", "._a.csv", ".DS_Store", ".ipynb_checkpoints/a-checkpoint.csv"))
    assert [file.key for file in listed.files] == ["a.csv"]
    assert listed.hidden == 3


def test_files_that_are_not_read_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match=r"holds files that are not read: README.md, b/x.npy; .*pass_over, as '"):
        list_source(source(tmp_path, "a.csv", "README.md", "b/x.npy"))


def test_files_are_passed_over_as_told(tmp_path: Path) -> None:
    url = source(tmp_path, "a.csv", "README.md", "old/b.csv", "b/x.npy")
    listed = list_source(url, ["*.md", "old/*", "x.npy"])
    assert [file.key for file in listed.files] == ["a.csv"]
    assert listed.passed_over == ("README.md", "b/x.npy", "old/b.csv")


def test_a_source_without_records_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match=r"holds no file of records; they end in \.jsonl, \.jsonl\.gz, "):
        list_source(source(tmp_path, ".hidden.csv"))


def test_a_file_that_is_read_in_another_way_is_another_source(tmp_path: Path) -> None:
    source(tmp_path, "x.csv")
    before = list_source(str(tmp_path)).snapshot()
    (tmp_path / "x.csv").rename(tmp_path / "y.csv")
    assert list_source(str(tmp_path)).snapshot() == before
    (tmp_path / "y.csv").rename(tmp_path / "x.jsonl")
    assert list_source(str(tmp_path)).snapshot() != before


class Elsewhere(LocalStorage):
    """A directory whose files have to be downloaded: the first alone, the others two at a time."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.two = Barrier(2, timeout=60)
        self.downloaded: list[str] = []

    def local_path(self, key: str) -> None:
        return None

    def download(self, key: str, path: Path) -> None:
        self.downloaded.append(key)
        if len(self.downloaded) > 1:
            self.two.wait()
        super().download(key, path)


def test_small_files_from_elsewhere_are_downloaded_several_at_once(tmp_path: Path) -> None:
    url, work = source(tmp_path / "source", *(f"{i}.csv" for i in range(9))), tmp_path / "work"
    work.mkdir()
    files = list_source(url).files
    with opening(Elsewhere(Path(url)), files, work) as opened:
        for file in files:
            with opened(file) as path:
                assert path.read_text() == file.key
            assert not path.exists()
    assert list(work.iterdir()) == []


def test_no_file_is_downloaded_beside_a_large_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "SMALL_BYTES", 3)
    url, work = source(tmp_path / "source", "a.csv", "b.csv"), tmp_path / "work"
    work.mkdir()
    elsewhere, files = Elsewhere(Path(url)), list_source(url).files
    with opening(elsewhere, files, work) as opened, opened(files[0]):
        assert elsewhere.downloaded == ["a.csv"]
    assert list(work.iterdir()) == []
