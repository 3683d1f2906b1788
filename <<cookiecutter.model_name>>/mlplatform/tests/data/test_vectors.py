"""Identities in the data: from records to the truths of a dataset version."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlplatform.contract.errors import BadDataError
from mlplatform.contract.targets import Vector
from mlplatform.data.dataset import SPLITS, InputSpec, Schema, Split
from mlplatform.data.parts import known_files, read_all_problems
from mlplatform.data.splitting import SplitRule
from mlplatform.store.manifest import Manifest
from mlplatform.store.storage import LocalStorage
from mlplatform.tests.data.conftest import Run
from mlplatform.tests.data.test_dataset import FRACTIONS, prepared_source

RECORD = {
    "type": "object",
    "properties": {"id": {"type": "string"}, "size": {"type": "number"}, "person": {"type": ["string", "integer"]}},
    "required": ["size", "person"],
}
SCHEMA = Schema(RECORD, (InputSpec("size", (), "float32"),), Vector("person", 4))


def prepared(root: Path, given: list[dict[str, Any]], rule: SplitRule = FRACTIONS) -> tuple[Manifest, Path]:
    """A dataset version of these records, and where its splits lie."""
    (root / "source").mkdir(exist_ok=True)
    (root / ".work").mkdir(exist_ok=True)
    (root / "source" / "a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in given))
    version, storage = prepared_source(root / "source", root / "store", root / ".work", SCHEMA, rule=rule)
    return version, storage.root / "datasets" / version.id / version.content


def truths(content: Path) -> dict[str, list[Any]]:
    """The identities in each split."""
    columns = {name: Split(content, name, []).column("label") for name in SPLITS}
    return {name: [SCHEMA.target.decode(truth) for truth in column] for name, column in columns.items()}


def records(count: int = 400) -> list[dict[str, Any]]:
    """Of forty persons, each named by a text, or by a number."""
    return [{"id": f"e{i}", "size": i / 7, "person": i % 40 if i % 3 else str(i % 40)} for i in range(count)]


def test_truths_are_identities(tmp_path: Path) -> None:
    version, content = prepared(tmp_path, records())
    found = truths(content)
    assert {text for texts in found.values() for text in texts} == {str(number) for number in range(40)}
    for name, texts in found.items():
        counts = np.unique(texts, return_counts=True)[1]
        said = version.properties["splits"][name]["identities"]
        assert (said["count"], said["pairs"]) == (len(counts), int((counts * (counts - 1) // 2).sum()))


def test_all_examples_of_an_identity_may_be_in_one_split(tmp_path: Path) -> None:
    _, content = prepared(tmp_path, records(), SplitRule(0.2, 0.2, group="person"))
    apart = [{*texts} for texts in truths(content).values()]
    assert all(apart)
    assert sum(map(len, apart)) == 40


def test_a_batch_has_numbers_for_identities(tmp_path: Path) -> None:
    _, content = prepared(tmp_path, records())
    _, truth = Split.of(content, "train", SCHEMA.inputs, SCHEMA.target).take(np.arange(50))
    same = np.array(truths(content)["train"][:50])
    assert ((truth[:, None] == truth) == (same[:, None] == same)).all()


@pytest.mark.parametrize(("given", "reason"), [("", "1 to 64 bytes"), ("x" * 65, "1 to 64 bytes"), (["a"], "not of")])
def test_what_is_no_identity_is_a_bad_record(tmp_path: Path, given: Any, reason: str) -> None:
    with pytest.raises(BadDataError, match="holds no record that fits"):
        prepared(tmp_path, [{"size": 1, "person": given}])
    storage = LocalStorage(tmp_path / "store")
    ((_, _, found),) = read_all_problems(storage, known_files(storage, SCHEMA), SCHEMA, tmp_path / ".work")
    assert reason in found


def test_a_version_is_shown_compared_and_reported(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "service.toml").write_text('[service]\nname = "under-test"\n')
    monkeypatch.chdir(tmp_path)
    given = records()
    one, _ = prepared(tmp_path, given)
    given[0]["person"] = "zoë"
    other, _ = prepared(tmp_path, given)
    assert "e3  3  " in run("show", one.id, "--id", "e3")[1]
    told = json.loads(run("diff", one.id, other.id, "--json")[1])
    assert told["relabelled"] == ["e0"]
    code, _, err = run("report", other.id)
    assert code == 0, err
