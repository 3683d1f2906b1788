"""Sources: every file is data, hidden, passed over as told, or refused."""

from pathlib import Path

import pytest

from mlplatform.contract.errors import BadDataError
from mlplatform.data.sources import list_source


def source(directory: Path, *names: str) -> str:
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return str(directory)


def test_files_in_folders_and_of_every_case_are_data(tmp_path: Path) -> None:
    listed = list_source(source(tmp_path, "a.csv", "b/MORE.CSV", "b/c.ndjson", "d.jsonl.gz", "e.tsv"))
    assert [(file.key, file.format) for file in listed.files] == [
        ("a.csv", "csv"),
        ("b/MORE.CSV", "csv"),
        ("b/c.ndjson", "jsonl"),
        ("d.jsonl.gz", "jsonl.gz"),
        ("e.tsv", "tsv"),
    ]


def test_hidden_files_and_folders_are_no_data(tmp_path: Path) -> None:
    listed = list_source(source(tmp_path, "a.csv", "._a.csv", ".DS_Store", ".ipynb_checkpoints/a-checkpoint.csv"))
    assert [file.key for file in listed.files] == ["a.csv"]
    assert listed.hidden == 3


def test_files_that_are_not_read_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match=r"holds files that are not read: README.md, b/x.parquet; .*pass_over, as '"):
        list_source(source(tmp_path, "a.csv", "README.md", "b/x.parquet"))


def test_files_are_passed_over_as_told(tmp_path: Path) -> None:
    url = source(tmp_path, "a.csv", "README.md", "old/b.csv", "b/x.parquet")
    listed = list_source(url, ["*.md", "old/*", "x.parquet"])
    assert [file.key for file in listed.files] == ["a.csv"]
    assert listed.passed_over == ("README.md", "b/x.parquet", "old/b.csv")


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
