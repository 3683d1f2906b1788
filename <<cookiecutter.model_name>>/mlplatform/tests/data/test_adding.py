"""`data add files`, `images` and `sql`: what is elsewhere becomes a checked source of the store."""

import base64
import gzip
import hashlib
import json
import sqlite3
from contextlib import closing
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlplatform.data import images
from mlplatform.tests.conftest import Bucket
from mlplatform.tests.data.conftest import Run


def grid(rows: int, columns: int, cell: dict[str, Any]) -> dict[str, Any]:
    """The schema of an array of a fixed number of rows and columns."""
    row = {"type": "array", "minItems": columns, "maxItems": columns, "items": cell}
    return {"type": "array", "minItems": rows, "maxItems": rows, "items": row}


@pytest.fixture(autouse=True)
def record(model: ModuleType) -> dict[str, Any]:
    """The properties of the team's record."""
    properties = {
        "id": {"type": "string"},
        "size": {"type": "number", "minimum": 0},
        "known": {"type": "boolean"},
        "row": {"type": "array", "items": {"type": "number"}},
        "label": {"enum": [1, 2]},
    }
    model.__dict__["LABELS"] = (1, 2)
    model.__dict__["RECORD"] = {
        "type": "object",
        "properties": properties,
        "required": ["label"],
        "additionalProperties": False,
    }
    return properties


def added(folder: str) -> list[dict[str, Any]]:
    paths = sorted(Path("store/sources", folder).iterdir())
    contents = [gzip.decompress(p.read_bytes()) if p.suffix == ".gz" else p.read_bytes() for p in paths]
    return [json.loads(line) for content in contents for line in content.splitlines()]


class TestFiles:
    """`data add files`."""

    def test_are_copied_by_their_content_each_once(self, run: Run) -> None:
        Path("data/deep").mkdir(parents=True)
        for name in ("data/a.jsonl", "data/deep/a.jsonl"):
            Path(name).write_text('{"id": "e1", "size": 1, "label": 1}\n')
        Path("data/b.csv").write_text("id,size,label\ne2,2,2\n")
        Path("data/README.md").write_text("about")
        code, out, _ = run("add", "files", "data")
        assert code == 0
        assert "a.jsonl: 1 records\n" in out
        assert "3 files in " in out
        assert "train --source " in out
        names = sorted(path.name.partition("-")[2] for path in Path("store/sources/files").iterdir())
        assert names == ["a.jsonl", "b.csv"]
        assert run("add", "files", "data")[0] == 0
        assert len(list(Path("store/sources/files").iterdir())) == 2

    def test_of_which_one_does_not_fit_it_is_not_added_and_its_rows_are_named(self, run: Run) -> None:
        Path("data").mkdir()
        Path("data/good.jsonl").write_text('{"id": "e1", "size": 1, "label": 1}\n')
        Path("data/bad.jsonl").write_text(
            '{"size": 1, "label": 1}\n{"size": -1, "label": 1}\n{"size": 1, "label": 3}\n'
        )
        Path("data/broken.csv").write_text("id,weight\n1,2\n")
        code, out, err = run("add", "files", "data")
        assert code == 3
        assert (
            "bad.jsonl: not added: 2 of 3 records do not fit: row 2: size: -1 is less than the minimum of 0; row 3"
            in out
        )
        assert "broken.csv: not added: its header in row 1" in out
        assert "2 of 3 files do not fit model.RECORD and are not added" in err
        assert [record["id"] for record in added("files")] == ["e1"]

    def test_of_parquet_are_copied_as_they_are_and_their_rows_are_named(self, run: Run) -> None:
        Path("data").mkdir()
        good = {"id": ["e1", "e2"], "size": [1.5, 2.0], "known": [True, None], "row": [[1.0], []], "label": [1, 2]}
        pq.write_table(pa.table(good), "data/good.parquet")
        pq.write_table(pa.table(good | {"size": [1.5, float("nan")]}), "data/nan.parquet")
        pq.write_table(pa.table({"label": [1], "size": [Decimal("1.5")]}), "data/money.parquet")
        code, out, _ = run("add", "files", "data")
        assert code == 3
        assert "good.parquet: 2 records\n" in out
        assert "nan.parquet: not added: 1 of 2 records do not fit: row 2: size: holds NaN or infinity" in out
        assert "money.parquet: not added: has 'size' as decimal128(2, 1), which JSON has no value for: cast it" in out
        (copy,) = Path("store/sources/files").iterdir()
        assert copy.read_bytes() == Path("data/good.parquet").read_bytes()

    def test_with_a_share_of_unfit_records_that_is_allowed_are_copied(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TRAINING_MAXIMUM_BAD_RECORDS", "0.5")
        Path("data").mkdir()
        Path("data/a.jsonl").write_text('{"size": 1, "label": 1}\n{"size": -1, "label": 1}\n')
        code, out, _ = run("add", "files", "data")
        assert code == 0
        assert "a.jsonl: 1 records, 1 left out: row 2: size: -1 is less than the minimum of 0\n" in out

    def test_of_records_that_name_files_hold_the_bytes_of_these(self, run: Run, record: dict[str, Any]) -> None:
        record["photo"] = {"type": "string", "contentEncoding": "base64", "format": "uri-reference"}
        Path("data/photos").mkdir(parents=True)
        for name in ("1.jpg", "two words.jpg"):
            Path("data/photos", name).write_bytes(name.encode())
        Path("data/a.csv").write_text("id,photo,label\ne1,photos/1.jpg,1\ne2,photos/two%20words.jpg,2\ne3,/wD/,1\n")
        code, out, err = run("add", "files", "data")
        assert code == 0, err
        assert "a.csv: 3 records\n" in out
        photos = {line["id"]: base64.b64decode(line["photo"]) for line in added("files")}
        assert photos == {"e1": b"1.jpg", "e2": b"two words.jpg", "e3": b"\xff\x00\xff"}

    def test_that_no_record_names_or_that_are_not_there_are_told(self, run: Run, record: dict[str, Any]) -> None:
        record["photo"] = {"type": "string", "contentEncoding": "base64", "format": "uri-reference"}
        Path("data").mkdir()
        Path("secret.txt").write_text("not of the source")
        Path("data/1.jpg").write_bytes(b"1")
        Path("data/a.jsonl").write_text('{"photo": "1.jpg", "label": 1}\n')
        Path("data/b.jsonl").write_text('{"photo": "../secret.txt", "label": 1}\n')
        code, out, _ = run("add", "files", "data")
        assert code == 3
        assert "b.jsonl: not added: 1 of 1 records do not fit: row 1: photo: '../secret.txt' is no file beside" in out
        Path("data/b.jsonl").unlink()
        Path("data/2.jpg").write_bytes(b"2")
        code, _, err = run("add", "files", "data")
        assert code == 3
        assert "holds files that no record names: 2.jpg; remove them, or name them in pass_over" in err

    def test_may_lie_in_a_bucket(self, run: Run, bucket: Bucket) -> None:
        body = gzip.compress(b'{"id": "e1", "size": 1, "label": 1}\n')
        bucket.client.put_object(Bucket=bucket.name, Key="data/a.jsonl.gz", Body=body)
        assert run("add", "files", f"s3://{bucket.name}/data")[0] == 0
        assert [record["id"] for record in added("files")] == ["e1"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("add images absent --labels absent.csv", "absent: is no directory; name the one that holds the images"),
        ("add images . --labels absent.csv", "absent.csv: cannot be read as a table: "),
        ("add sql x --from absent.sqlite", "absent.sqlite: No such file or directory"),
        ("labels absent.json", "absent.json: No such file or directory"),
    ],
)
def test_what_is_not_there_is_named(run: Run, record: dict[str, Any], arguments: str, said: str) -> None:
    record["image"] = grid(4, 6, {"type": "number"})
    code, _, err = run(*arguments.split())
    assert code == 2
    assert said in err


class TestSql:
    """`data add sql`."""

    @pytest.fixture(autouse=True)
    def database(self) -> None:
        with closing(sqlite3.connect("x.sqlite")) as database, database:
            database.execute("create table leaf (id text, size real, known integer, row text, label integer, day text)")
            database.executemany(
                "insert into leaf values (?, ?, ?, ?, ?, ?)",
                [("e1", 1.5, 1, "[1, 2]", 1, "2026-01-01"), ("e2", None, 0, "[]", 2, "2026-03-01")],
            )

    def test_makes_a_record_of_each_row(self, run: Run) -> None:
        code, out, _ = run("add", "sql", "select id, size, known, row, label from leaf", "--from", "x.sqlite")
        assert code == 0
        assert "2 records\n" in out
        assert added("sql") == [
            {"id": "e1", "size": 1.5, "known": True, "row": [1, 2], "label": 1},
            {"id": "e2", "known": False, "row": [], "label": 2},
        ]

    def test_takes_what_is_new_since_a_moment_and_replaces_what_changed(self, run: Run) -> None:
        query = "select id, size, label from leaf where day >= :since"
        assert run("add", "sql", query, "--from", "x.sqlite", "--since", "2025-01-01")[0] == 0
        with closing(sqlite3.connect("x.sqlite")) as database, database:
            database.execute("update leaf set label = 1 where id = 'e2'")
        assert run("add", "sql", query, "--from", "x.sqlite", "--since", "2026-02-01")[0] == 0
        assert sorted((record["id"], record["label"]) for record in added("sql")) == [("e1", 1), ("e2", 1)]

    @pytest.mark.parametrize(
        ("query", "code", "said"),
        [
            ("select id, size, day, label from leaf", 3, "row 1: Additional properties are not allowed"),
            ("select id, label, label from leaf", 2, "the query has a column twice: id, label, label"),
            ("select weight from leaf", 2, "x.sqlite: no such column: weight"),
            ("delete from leaf", 2, "x.sqlite: attempt to write a readonly database"),
            ("select id, x'00' as size, label from leaf", 3, "row 1: size: holds bytes, which a record cannot"),
        ],
    )
    def test_of_what_makes_no_records_is_refused(self, run: Run, query: str, code: int, said: str) -> None:
        ended, _, err = run("add", "sql", query, "--from", "x.sqlite")
        assert ended == code
        assert said in err
        assert not Path("store/sources").exists()

    def test_reads_no_other_files(self, run: Run) -> None:
        Path("x.parquet").write_bytes(b"PAR1")
        code, _, err = run("add", "sql", "select 1", "--from", "x.parquet")
        assert code == 2
        assert "x.parquet: is no SQLite database, the only one that is read" in err


class TestImages:
    """`data add images`."""

    @pytest.fixture(autouse=True)
    def picture(self, record: dict[str, Any]) -> None:
        record["image"] = grid(4, 6, {"type": "number", "minimum": 0, "maximum": 16})

    @pytest.fixture
    def faces(self) -> Path:
        """A grey image of 6 by 4 pixels, and one of 12 by 8 in colours, with their labels."""
        image = import_module("PIL.Image")
        directory = Path("faces")
        (directory / "deep").mkdir(parents=True)
        image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6) * 10).save(directory / "deep" / "grey.png")
        image.fromarray(np.full((8, 12, 3), 255, np.uint8)).save(directory / "white.jpg")
        Path("labels.csv").write_text("file,label,size\ndeep/grey.png,1,2.5\nwhite.jpg,2,\n")
        return directory

    def test_become_arrays_as_the_record_describes_them(self, run: Run, faces: Path) -> None:
        code, out, _ = run("add", "images", "faces", "--labels", "labels.csv", "--resize")
        assert code == 0
        assert "2 records\n" in out
        grey, white = sorted(added("images"), key=lambda record: record["label"])
        assert grey["id"] == hashlib.sha256((faces / "deep" / "grey.png").read_bytes()).hexdigest()[:32]
        assert np.allclose(grey["image"], np.arange(24).reshape(4, 6) * 160 / 255, atol=1e-5)
        assert (grey["size"], white["image"]) == (2.5, np.full((4, 6), 16.0).tolist())

    def test_of_another_size_are_refused_unless_they_may_be_scaled(self, run: Run, faces: Path) -> None:
        code, _, err = run("add", "images", "faces", "--labels", "labels.csv")
        assert code == 3
        assert "white.jpg: has 12 x 8 pixels, the model takes 6 x 4; --resize scales it" in err

    def test_are_kept_as_they_are_where_the_record_holds_files(
        self, run: Run, faces: Path, record: dict[str, Any]
    ) -> None:
        record["image"] = {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/png"}
        Path("labels.csv").write_text("file,label\ndeep/grey.png,1\n")
        (faces / "white.jpg").unlink()
        assert run("add", "images", "faces", "--labels", "labels.csv")[0] == 0
        (line,) = added("images")
        assert base64.b64decode(line["image"]) == (faces / "deep" / "grey.png").read_bytes()

    def test_may_be_of_several_formats_where_the_record_says_so(
        self, run: Run, faces: Path, record: dict[str, Any]
    ) -> None:
        record["image"] = {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/*"}
        Path("labels.csv").write_text("file,label\ndeep/grey.png,1\nwhite.jpg,2\n")
        assert run("add", "images", "faces", "--labels", "labels.csv")[0] == 0
        found = {base64.b64decode(line["image"]) for line in added("images")}
        assert found == {(faces / name).read_bytes() for name in ("deep/grey.png", "white.jpg")}

    def test_of_another_format_than_the_record_says_are_refused(
        self, run: Run, faces: Path, record: dict[str, Any]
    ) -> None:
        record["image"] = {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/png"}
        code, _, err = run("add", "images", "faces", "--labels", "labels.csv")
        assert code == 3
        assert "white.jpg: is image/jpeg, and 'image' of model.RECORD is image/png; convert it" in err

    def test_may_lie_in_a_bucket(self, run: Run, faces: Path, bucket: Bucket) -> None:
        assert run("add", "images", "faces", "--labels", "labels.csv", "--resize")[0] == 0
        expected = added("images")
        Path("store/sources/images", next(Path("store/sources/images").iterdir()).name).unlink()
        for name in ("deep/grey.png", "white.jpg"):
            bucket.client.put_object(Bucket=bucket.name, Key=f"faces/{name}", Body=(faces / name).read_bytes())
        assert run("add", "images", f"s3://{bucket.name}/faces", "--labels", "labels.csv", "--resize")[0] == 0
        assert added("images") == expected
        bucket.client.put_object(Bucket=bucket.name, Key="faces/more.png", Body=b"no image")
        code, _, err = run("add", "images", f"s3://{bucket.name}/faces", "--labels", "labels.csv", "--resize")
        assert (code, "more.png: labels.csv does not name it" in err) == (3, True)

    def test_are_all_accounted_for(self, run: Run, faces: Path) -> None:
        (faces / "more.png").write_bytes(b"no image")
        Path("labels.csv").write_text("file,label\ndeep/grey.png,1\nmore.png,1\nabsent.png,2\n")
        code, _, err = run("add", "images", "faces", "--labels", "labels.csv")
        assert code == 3
        assert "3 of 4 records do not fit model.RECORD; nothing is added\n" in err
        assert "labels.csv row 3, more.png: cannot be decoded: cannot identify image file" in err
        assert "labels.csv row 4: 'absent.png' is no file below faces" in err
        assert "white.jpg: labels.csv does not name it" in err

    def test_with_a_table_of_other_columns_are_refused(self, run: Run, faces: Path) -> None:
        Path("labels.csv").write_text("name,label\na,1\n")
        code, _, err = run("add", "images", "faces", "--labels", "labels.csv")
        assert code == 2
        assert "labels.csv: its header lacks file and has name, which the record has not; it takes file, label" in err

    def test_need_a_property_that_is_a_picture(self, run: Run, record: dict[str, Any]) -> None:
        record.pop("image")
        Path("faces").mkdir()
        Path("labels.csv").write_text("file,label\n")
        code, _, err = run("add", "images", "faces", "--labels", "labels.csv")
        assert code == 2
        assert "model.RECORD has 0 properties that are pictures (none)" in err

    def test_need_a_library_that_decodes_them(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(name: str) -> Any:
            raise ModuleNotFoundError(name)

        monkeypatch.setattr(images, "import_module", missing)
        Path("faces").mkdir()
        Path("labels.csv").write_text("file,label\n")
        code, _, err = run("add", "images", "faces", "--labels", "labels.csv")
        assert code == 2
        assert "Pillow, which decodes images, is not installed here; `nox -s data` has it" in err
