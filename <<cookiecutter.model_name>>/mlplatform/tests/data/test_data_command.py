"""`python -m mlplatform data`: what a person sees of dataset versions before a training."""

import gzip
import html
import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mlplatform.data.packing import pack, unpack
from mlplatform.data.sources import list_source
from mlplatform.data.splitting import SplitRule
from mlplatform.store import manifest
from mlplatform.store.storage import LocalStorage
from mlplatform.tests.conftest import ROOT
from mlplatform.tests.data.conftest import Prepare, Run, clean, in_production, made_before


def test_versions_are_listed_the_newest_first(prepare: Prepare, run: Run) -> None:
    old, new = prepare(clean(300)), prepare(clean(400))
    made_before(old, "2020-01-02T03:04:05Z")
    code, out, _ = run("list")
    head, first, second = out.splitlines()
    assert code == 0
    assert head.split()[:3] == ["version", "made", "examples"]
    assert first.startswith(new.id)
    assert re.match(rf"{old.id}  2020-01-02 03:04 UTC  300 ", second)
    assert second.endswith("no")


def test_examples_of_a_class_are_shown(prepare: Prepare, run: Run) -> None:
    version = prepare(clean())
    code, out, _ = run("show", version.id[:6], "--class", "yes", "--split", "test", "--rows", "2")
    assert code == 0
    assert f"dataset {version.id}, made " in out
    assert "inputs: size float32, row float32[8], text string" in out
    shown = re.findall(r"^e\d+  (\w+)  (\w+)$", out, re.MULTILINE)
    assert shown == [("yes", "test")] * 2


def test_an_example_is_shown_by_its_id(prepare: Prepare, run: Run) -> None:
    records = clean()
    records[7] |= {"text": "a text to be found", "camera": "left"}
    prepare(records)
    _, out, _ = run("show", "latest", "--id", "e7")
    assert "  text: a text to be found\n" in out
    assert '  beside them: {"camera": "left"}' in out


@pytest.mark.parametrize(("name", "said"), [("0", "names no dataset version"), ("", "names more than one")])
def test_a_name_that_is_none_is_refused_with_those_there_are(prepare: Prepare, run: Run, name: str, said: str) -> None:
    ids = {prepare(clean(300)).id, prepare(clean(400)).id}
    name = next(letter for letter in "0123456789abcdef" if not any(i.startswith(letter) for i in ids)) if name else ""
    code, _, err = run("show", name)
    assert code == 2
    assert said in err
    assert all(version in err for version in ids)


def test_what_came_went_and_changed_is_said(prepare: Prepare, run: Run) -> None:
    records = clean()
    before = prepare(records)
    label = {"no": "yes", "yes": "no"}[records[5]["label"]]
    after = prepare([records[3] | {"size": 1.25}, records[5] | {"label": label}, *records[6:], *clean(402)[400:]])
    code, out, _ = run("diff", before.id, after.id)
    assert code == 0
    assert f"from {before.id} (400) to {after.id} (398)" in out
    assert "       2 came: e400, e401\n" in out
    assert "       4 went: e0, e1, e2, e4\n" in out
    assert "       1 have other inputs: e3\n" in out
    assert "       1 have another label: e5\n" in out
    assert "       0 are in another split\n" in out
    assert json.loads(run("diff", before.id, after.id, "--json")[1])["relabelled"] == ["e5"]


def test_a_clean_dataset_has_no_findings_and_a_page_that_needs_nothing_else(prepare: Prepare, run: Run) -> None:
    version = prepare(clean())
    code, out, _ = run("report", "latest")
    assert code == 0
    assert "nothing to look at was found" in out
    page = Path(f"dataset-{version.id}.html").read_text()
    assert "Nothing to look at was found" in page
    assert not re.search(r"""(src|href)=["'](?!data:)|@import|url\(""", page)


def near(record: dict[str, Any]) -> dict[str, Any]:
    return record | {"text": record["text"].upper() + "!"}


def planted(records: list[dict[str, Any]], fault: str) -> list[dict[str, Any]]:
    """The records with a fault."""
    if fault == "contradiction":
        other = {"no": "yes", "yes": "no"}
        return records + [r | {"id": f"c{r['id']}", "label": other[r["label"]]} for r in records[:3]]
    if fault == "repetition":
        return records + [r | {"id": f"c{r['id']}"} for r in records[:3]]
    if fault == "across splits":
        return records + [near(r) | {"id": f"c{r['id']}"} for r in records[:40]]
    if fault == "group across splits":
        return [r | {"patient": f"p{i // 4}"} for i, r in enumerate(records)]
    if fault == "leak":
        return [r | {"row": [float(r["label"] == "yes"), *r["row"][1:]]} for r in records]
    if fault == "changed unit":
        return [r | {"size": r["size"] * (1000 if i % 2 else 1)} for i, r in enumerate(records)]
    if fault == "constant":
        return [r | {"size": 1.5} for r in records]
    if fault == "outlier":
        return [*records[1:], records[0] | {"size": 12345}]
    if fault == "null":
        return [r | {"weight": None if i < 100 else 1.5} for i, r in enumerate(records)]
    return [r | {"label": "no"} for r in records]


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("contradiction", "6 examples have the same inputs as one with another label"),
        ("repetition", "6 examples have inputs and label of another id"),
        ("across splits", r"\d+ examples outside the train split have nearly the same inputs as one inside"),
        ("group across splits", r"\d+ of 100 values of 'patient' that examples share stand in several splits"),
        ("leak", r"'row\[0\]' alone tells the label with a recall of 1.000"),
        ("changed unit", "200 values of 'size' are about 1000 times the other 200, as in another unit"),
        ("constant", "'size' has the same value in every example"),
        ("outlier", "1 values of 'size' are far from all others, such as 12345 beside a median of 1.48"),
        ("null", "'weight' is null in 100 of 400 examples"),
        ("missing class", "the test split has no example of yes"),
    ],
)
def test_a_planted_fault_is_found_and_refused_if_asked_for(
    prepare: Prepare, run: Run, fault: str, sentence: str
) -> None:
    version = prepare(planted(clean(), fault))
    code, out, err = run("report", "latest", "--refuse", fault)
    assert code == 3
    assert re.search(rf"^  {fault}: {sentence}", out, re.MULTILINE)
    assert re.search(rf"^data: dataset {version.id}: (.*; )?{sentence}", err)
    page = html.unescape(Path(f"dataset-{version.id}.html").read_text())
    assert re.search(rf"<li>{sentence}", page, re.IGNORECASE)


def test_what_is_kept_together_is_found_in_no_two_splits(prepare: Prepare, run: Run) -> None:
    prepare(planted(clean(), "across splits"), SplitRule(0.2, 0.2, together=True))
    assert "across splits" not in run("report", "latest")[1]


def test_contradictory_and_repeated_examples_are_named(prepare: Prepare, run: Run) -> None:
    prepare(planted(clean(), "contradiction"))
    _, out, _ = run("report", "latest")
    (named,) = re.findall(r"contradiction: .*\n    ids: (.*)", out)
    assert set(named.split(", ")) == {"e0", "e1", "e2", "ce0", "ce1", "ce2"}


def test_a_thousand_nulls_are_counted(prepare: Prepare, run: Run) -> None:
    prepare([r | {"weight": None if i < 1000 else 1.5} for i, r in enumerate(clean(1500))])
    assert "  null: 'weight' is null in 1000 of 1500 examples\n" in run("report", "latest")[1]


def test_drift_against_the_version_before_is_found(prepare: Prepare, run: Run) -> None:
    old = prepare(clean(300))
    made_before(old, "2020-01-02T03:04:05Z")
    prepare([r | {"size": r["size"] + 0.5, "label": "yes" if i % 5 else "no"} for i, r in enumerate(clean())])
    _, out, _ = run("report", "latest")
    assert re.search(rf"drift: 'size' is spread otherwise than in {old.id}: median 1.9\d*, before 1.5\d* \(PSI", out)
    assert re.search(rf"drift: label 'yes' makes 80 % of the examples, in {old.id} \d\d %", out)


def test_the_report_says_how_far_each_input_is_from_the_version_before_and_from_production(
    prepare: Prepare, run: Run, tmp_path: Path
) -> None:
    old = prepare(clean(600))
    made_before(old, "2020-01-02T03:04:05Z")
    in_production(LocalStorage(tmp_path / "store"), old)
    version = prepare([r | {"size": r["size"] + 0.5} for r in clean(700)])
    _, out, _ = run("report", "latest")
    assert re.search(rf"^PSI against +version {old.id} +v1, in production$", out, re.MULTILINE)
    assert re.search(r"^size +\d\.\d+ a shift +\d\.\d+ a shift$", out, re.MULTILINE)
    assert re.search(r"^row +0\.0\d+ stable +0\.0\d+ stable$", out, re.MULTILINE)
    assert "drift: 'size' is spread otherwise than in what v1, in production, learned from (PSI " in out
    assert "drift: 'row'" not in out
    page = html.unescape(Path(f"dataset-{version.id}.html").read_text())
    assert "against v1, in production" in page


def test_few_examples_that_differ_by_chance_are_no_drift(prepare: Prepare, run: Run) -> None:
    records = clean()
    made_before(prepare(records[:60]), "2020-01-02T03:04:05Z")
    prepare(records[60:130])
    assert not re.search(r"drift: 'row|drift: 'size", run("report", "latest")[1])


def test_what_comes_from_data_is_text_in_the_page(prepare: Prepare, run: Run) -> None:
    version = prepare([r | {"text": "<script>alert(1)</script>"} for r in clean()])
    run("report", "latest")
    assert "<script" not in Path(f"dataset-{version.id}.html").read_text()


def test_unused_versions_are_removed_and_used_and_new_ones_kept(prepare: Prepare, run: Run, tmp_path: Path) -> None:
    unused, used, recent, newest = (prepare(clean(count)) for count in (200, 250, 300, 350))
    for version in (unused, used):
        made_before(version, "2020-01-02T03:04:05Z")
    made_before(recent, datetime.now(UTC).strftime("%Y-%m-%dT00:00:00Z"))
    storage = LocalStorage(tmp_path / "store")
    (tmp_path / "empty").mkdir()
    manifest.publish(storage, "models/v1", tmp_path / "empty", "model", "v1", {"dataset": used.id})
    storage.write("gathered/s/dataset-x.json", json.dumps({"version": unused.id}).encode())
    code, out, _ = run("remove", "--unused", "--yes")
    assert code == 0
    assert unused.id in out
    assert "removed 1 dataset versions" in out
    assert {version.id for version in manifest.list_artifacts(storage, "datasets")} == {used.id, recent.id, newest.id}
    assert not list((tmp_path / "store" / "datasets" / unused.id).rglob("*.npy"))
    assert not storage.exists("gathered/s/dataset-x.json")
    assert run("remove", "--unused", "--yes")[1] == "no unused dataset version older than 7 days\n"


def test_a_forgotten_example_leaves_sources_and_later_versions_and_it_is_said_who_held_it(
    prepare: Prepare, run: Run, tmp_path: Path
) -> None:
    version = prepare(clean())
    storage = LocalStorage(tmp_path / "store")
    (tmp_path / "empty").mkdir()
    manifest.publish(storage, "models/v1", tmp_path / "empty", "model", "v1", {"dataset": version.id})
    storage.write("sources/traffic/x.jsonl.gz", gzip.compress(b'{"id": "e7"}\n{"id": "e8"}\n'))
    listed = list_source(str(tmp_path / "source")).files
    storage.write("gathered/s/files.json", json.dumps([{"key": f.key, "identity": f.name} for f in listed]).encode())
    storage.write("gathered/s/dataset-x.json", json.dumps({"version": version.id}).encode())
    code, out, _ = run("forget", "--id", "e7")
    assert code == 0
    assert f"  versions that hold it: {version.id}\n  models made from these: v1\n" in out
    assert f"  taken out of {storage.url}/sources/traffic/x.jsonl.gz\n" in out
    assert "  still in the source, and left out from now on: records.jsonl row 8\n" in out
    assert gzip.decompress(storage.read("sources/traffic/x.jsonl.gz")) == b'{"id": "e8"}\n'
    assert not storage.exists("gathered/s/dataset-x.json")
    (noted,) = (json.loads(path.read_text()) for path in (tmp_path / "store" / "forgotten").iterdir())
    assert (noted["versions"], noted["models"]) == ([version.id], ["v1"])
    later = prepare(clean())
    assert run("diff", version.id, later.id, "--json")[1].count("e7") == 1
    assert "no example of these" in run("show", later.id, "--id", "e7")[1]


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_a_forgotten_example_leaves_packed_sources(prepare: Prepare, run: Run, tmp_path: Path, ending: str) -> None:
    prepare(clean())
    storage, key = LocalStorage(tmp_path / "store"), f"sources/files/x.jsonl{ending}"
    storage.write(key, pack(b'{"id": "e7"}\n{"id": "e8"}\n', ending))
    assert run("forget", "--id", "e7")[0] == 0
    assert unpack(storage.read(key), ending) == b'{"id": "e8"}\n'


def test_forgetting_may_be_repeated_and_removes_versions_if_told(prepare: Prepare, run: Run, tmp_path: Path) -> None:
    version = prepare(clean(300))
    assert run("forget", "--id", "e7", "--id", "unheard of")[0] == 0
    later = prepare(clean(400))
    code, out, _ = run("forget", "--id", "e7", "--versions")
    assert code == 0
    assert f"removed version {version.id}" in out
    assert [v.id for v in manifest.list_artifacts(LocalStorage(tmp_path / "store"), "datasets")] == [later.id]


def test_nothing_of_it_imports_tensorflow(prepare: Prepare) -> None:
    prepare(clean())
    program = (
        "import sys; from mlplatform.cli import main; "
        "codes = [main(['data', *words.split()]) for words in ('list', 'show latest', 'report latest')]; "
        "sys.exit(any(codes) or 'tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": str(ROOT)}, check=True, capture_output=True)
