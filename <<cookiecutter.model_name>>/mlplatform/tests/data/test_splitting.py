"""Splits: an example belongs to one by its id, its group, its time, those that look like it, or as the data says."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlplatform.config.settings import SettingsError, load
from mlplatform.contract.errors import BadDataError
from mlplatform.contract.parameters import PipelineParameters
from mlplatform.contract.targets import Classes
from mlplatform.data.catalog import fetch
from mlplatform.data.dataset import SPLITS, InputSpec, Schema
from mlplatform.data.parts import check_files, known_files, parts_of
from mlplatform.data.sources import list_source, local_file
from mlplatform.data.splitting import SplitRule
from mlplatform.data.versions import prepare
from mlplatform.store.storage import LocalStorage

SCHEMA = Schema({"type": "object"}, (InputSpec("x", (), "float32"),), Classes("label", ("a", "b")))
PICTURES = Schema({"type": "object"}, (InputSpec("row", (8,), "float32"),), Classes("label", ("a", "b")))
FIXED = SplitRule(0.2, 0.2, fixed="part")
TIMED = SplitRule(0.2, 0.2, time="part", test_after="2026-10-01")

Divide = Callable[..., dict[str, str]]


@pytest.fixture
def divide(tmp_path: Path) -> Divide:
    """The split of each example, by id, once a dataset is made of records."""

    def divided(records: list[dict[str, Any]], rule: SplitRule, schema: Schema = SCHEMA) -> dict[str, str]:
        source, work, storage = tmp_path / "source", tmp_path / "work", LocalStorage(tmp_path / "store")
        for directory in (source, work):
            directory.mkdir(exist_ok=True)
        (source / "x.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        files = list_source(str(source)).files
        list(check_files(storage, files, lambda f: local_file(LocalStorage(source), f.key, work), schema, work))
        parts = parts_of(known_files(storage, schema), [file.name for file in files])
        dataset = fetch(storage, prepare(storage, parts, schema, rule, work), work)
        ids = [example_id.decode() for example_id in dataset.column("id").tolist()]
        return dict(zip(ids, (SPLITS[split] for split in dataset.splits()), strict=True))

    return divided


def records(count: int = 200, **properties: Callable[[int], Any]) -> list[dict[str, Any]]:
    return [
        {"id": f"e{i}", "x": i, "label": "ab"[i % 2], **{name: value(i) for name, value in properties.items()}}
        for i in range(count)
    ]


def test_a_group_is_in_one_split_and_stays_there(divide: Divide) -> None:
    rule = SplitRule(0.2, 0.2, group="patient")
    splits = divide(records(patient=lambda i: f"p{i // 4}"), rule)
    patients = [{splits[f"e{i}"] for i in range(first, first + 4)} for first in range(0, 200, 4)]
    assert all(len(patient) == 1 for patient in patients)
    assert set(splits.values()) == set(SPLITS)
    grown = divide(records(400, patient=lambda i: f"p{i // 4 % 60}"), rule)
    assert all(grown[example] == split for example, split in splits.items())


def test_an_example_without_a_group_follows_its_id(divide: Divide) -> None:
    by_id = divide(records(), SplitRule(0.2, 0.2))
    assert divide(records(patient=lambda i: None), SplitRule(0.2, 0.2, group="patient")) == by_id


def test_what_is_new_is_the_test_split(divide: Divide) -> None:
    rule = SplitRule(0.2, 0.2, time="at", test_after="2026-10-01")
    splits = divide(records(at=lambda i: f"2026-{i % 12 + 1:02}-01T00:00:00Z"), rule)
    assert all((split == "test") == (int(example[1:]) % 12 + 1 >= 10) for example, split in splits.items())
    assert set(splits.values()) == set(SPLITS)


def test_the_data_may_say_the_split(divide: Divide) -> None:
    splits = divide(records(part=lambda i: SPLITS[i % 3]), SplitRule(0.2, 0.2, fixed="part"))
    assert all(split == SPLITS[int(example[1:]) % 3] for example, split in splits.items())


def test_every_split_has_the_same_share_of_each_label(divide: Divide) -> None:
    examples = [record | {"label": "b" if i < 4 else "a"} for i, record in enumerate(records(104))]
    splits = divide(examples, SplitRule(0.2, 0.1, stratified=True))
    counts = Counter((splits[record["id"]], record["label"]) for record in examples)
    assert counts == {
        **{("train", "a"): 70, ("validation", "a"): 20, ("test", "a"): 10},
        **{("train", "b"): 2, ("validation", "b"): 1, ("test", "b"): 1},
    }


def test_few_examples_leave_a_stratified_split_as_data_grows(divide: Divide) -> None:
    rule = SplitRule(0.2, 0.2, stratified=True)
    before, after = divide(records(200), rule), divide(records(220), rule)
    assert sum(after[example] != split for example, split in before.items()) < 10


def pictures(count: int = 200, copies: int = 1, **properties: Callable[[int], Any]) -> list[dict[str, Any]]:
    """Records that look like no other, and copies of each with a little noise: `e3`, `e3-1`, `e3-2`."""
    chance = np.random.default_rng(1)
    rows = chance.normal(size=(count, 8)).round(1)
    return [
        {**one, "id": one["id"] + (f"-{copy}" if copy else ""), "row": (rows[i] + copy * 1e-5).tolist()}
        for i, one in enumerate(records(count, **properties))
        for copy in range(copies)
    ]


def sets(splits: dict[str, str]) -> dict[str, set[str]]:
    """The splits of each picture and its copies."""
    found: dict[str, set[str]] = {}
    for example, split in splits.items():
        found.setdefault(example.split("-")[0], set()).add(split)
    return found


TOGETHER = SplitRule(0.2, 0.2, together=True)


def test_near_duplicates_are_in_one_split_if_they_are_to_be(divide: Divide) -> None:
    apart = sets(divide(pictures(copies=3), SplitRule(0.2, 0.2), PICTURES))
    together = sets(divide(pictures(copies=3), TOGETHER, PICTURES))
    assert sum(len(splits) > 1 for splits in apart.values()) > 50
    assert all(len(splits) == 1 for splits in together.values())


def test_an_example_that_looks_like_no_other_follows_its_id(divide: Divide) -> None:
    by_id = divide(pictures(), SplitRule(0.2, 0.2), PICTURES)
    assert divide(pictures(), TOGETHER, PICTURES) == by_id


def test_only_sets_that_a_new_example_joins_may_change_their_split(divide: Divide) -> None:
    before = divide(pictures(200, copies=2), TOGETHER, PICTURES)
    joined = [{**one, "id": f"{one['id']}-9"} for one in pictures(40)]
    after = divide([*pictures(200, copies=2), *joined], TOGETHER, PICTURES)
    moved = {example.split("-")[0] for example, split in before.items() if after[example] != split}
    assert moved
    assert moved <= {f"e{i}" for i in range(40)}
    assert len(moved) < 20
    assert all(len(splits) == 1 for splits in sets(after).values())


def test_a_large_set_is_no_likelier_for_the_test_than_a_single_example(divide: Divide) -> None:
    splits = sets(divide(pictures(300, copies=12), TOGETHER, PICTURES))
    counts = Counter(split for found in splits.values() for split in found)
    assert 30 < counts["test"] < 90
    assert 30 < counts["validation"] < 90


def test_near_duplicates_tie_the_groups_that_they_belong_to(divide: Divide) -> None:
    rule = SplitRule(0.2, 0.2, group="patient", together=True)
    examples = [*pictures(200, patient=lambda i: f"p{i // 4}"), *copies_of_others()]
    splits = divide(examples, rule, PICTURES)
    patients: dict[str, set[str]] = {}
    for one in examples:
        patients.setdefault(one["patient"], set()).add(splits[one["id"]])
    assert all(len(found) == 1 for found in patients.values())
    assert all(len(found) == 1 for found in sets(splits).values())
    assert set(splits.values()) == set(SPLITS)


def copies_of_others() -> list[dict[str, Any]]:
    """Each tenth picture once more, of a patient who has others."""
    return [
        {**one, "id": f"{one['id']}-1", "patient": f"p{i // 4 + 1}"}
        for i, one in enumerate(pictures(196))
        if i % 10 == 0
    ]


def test_a_copy_of_what_was_there_before_the_date_is_not_new(divide: Divide) -> None:
    rule = SplitRule(0.2, 0.2, time="at", test_after="2026-10-01", together=True)
    old = pictures(100, at=lambda i: "2026-09-01")
    new = [{**one, "id": f"{one['id']}-1", "at": "2026-11-01"} for one in pictures(140)]
    splits = divide([*old, *new], rule, PICTURES)
    assert all(len(found) == 1 and "test" not in found for name, found in sets(splits).items() if int(name[1:]) < 100)
    assert all(splits[f"e{i}-1"] == "test" for i in range(100, 140))


def test_near_duplicates_stay_together_where_labels_are_stratified(divide: Divide) -> None:
    rule = SplitRule(0.2, 0.2, stratified=True, together=True)
    splits = divide(pictures(copies=2), rule, PICTURES)
    assert all(len(found) == 1 for found in sets(splits).values())
    assert set(splits.values()) == set(SPLITS)


@pytest.mark.parametrize(
    ("rule", "value", "sentence"),
    [
        (FIXED, "dev", "'part' is 'dev'; split_fixed takes train, validation, test"),
        (FIXED, None, "'part' is None; split_fixed takes train, validation, test"),
        (
            SplitRule(0.2, 0.2, time="part", test_after="2026-10-01"),
            "soon",
            "'part' is 'soon'; split_time takes a date",
        ),
        (TIMED, None, "'part' is None; split_time takes a date"),
    ],
)
def test_an_example_that_says_nothing_is_named(divide: Divide, rule: SplitRule, value: Any, sentence: str) -> None:
    with pytest.raises(BadDataError, match=rf"^example e3: {sentence}"):
        divide(records(10, part=lambda i: value if i == 3 else "2026-01-01" if rule.time else "train"), rule)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"split_group": "a", "split_fixed": "b"}, "split_group and split_fixed: one of them decides the split"),
        ({"split_group": "a", "split_stratified": "true"}, "split_group and split_stratified: one of them decides"),
        (
            {"split_fixed": "part", "near_duplicates_together": "true"},
            "near_duplicates_together and split_fixed = 'part': the data says each example's split",
        ),
        ({"split_time": "at"}, "split_time and test_after belong together"),
        ({"test_after": "2026-10-01"}, "split_time and test_after belong together"),
        ({"split_time": "at", "test_after": "October"}, "test_after = 'October': must be a date or time in ISO 8601"),
    ],
)
def test_settings_that_say_two_things_are_refused(arguments: dict[str, str], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        load(PipelineParameters, arguments)
