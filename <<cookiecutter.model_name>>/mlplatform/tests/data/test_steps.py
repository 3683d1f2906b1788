"""Steps: what becomes of the records that the team's functions make of those of a source."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlplatform.config.settings import SettingsError
from mlplatform.contract.errors import BadDataError
from mlplatform.contract.targets import Classes
from mlplatform.data import catalog, forgetting, team
from mlplatform.data.catalog import Dataset
from mlplatform.data.dataset import SPLITS, InputSpec, Schema
from mlplatform.data.parts import check_files, known_files, parts_of, read_all_problems
from mlplatform.data.sources import SourceFile, list_source, local_file
from mlplatform.data.splitting import SplitRule
from mlplatform.data.steps import Step
from mlplatform.data.versions import prepare
from mlplatform.store.storage import LocalStorage
from mlplatform.tests.data.conftest import Run, label, prediction, stored

SCHEMA = Schema(
    record={
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "size": {"type": "number", "minimum": 0},
            "label": {"enum": ["no", "yes"]},
        },
        "required": ["size", "label"],
        "additionalProperties": False,
    },
    inputs=(InputSpec("size", (), "float32"),),
    target=Classes("label", ("no", "yes")),
)
RULE = SplitRule(validation_fraction=0.2, test_fraction=0.2)


def halved(record: dict[str, Any]) -> dict[str, Any]:
    """One of one."""
    return {"size": np.float32(record["double"]) / 2, "label": record["label"]}


def each(record: dict[str, Any]) -> list[dict[str, Any]]:
    """One for each size, of the same id."""
    return [{**{k: v for k, v in record.items() if k != "sizes"}, "size": size} for size in record["sizes"]]


class Builds:
    """Dataset versions of a source. `asked`: what the step was called with, by its ids."""

    def __init__(self, directory: Path) -> None:
        self.source, self.work = directory / "source", directory / "work"
        self.source.mkdir()
        self.work.mkdir()
        self.storage = LocalStorage(directory / "store")
        self.asked: list[Any] = []

    def write(self, name: str, *records: Any) -> None:
        (self.source / name).write_text("".join(json.dumps(record) + "\n" for record in records))

    def step(self, function: Callable[[dict[str, Any]], Any], version: int | str = 1, name: str = "") -> Step:
        """A step that notes what it is called with."""

        def noted(record: dict[str, Any]) -> Any:
            self.asked.append(record.get("id"))
            return function(record)

        return Step(noted, version, name or function.__name__)

    def check(self, *steps: Step) -> Schema:
        """Check the files that are not known yet."""
        schema = replace(SCHEMA, steps=steps)
        new = [file for file in self._files() if file.name not in known_files(self.storage, schema)]
        sources = LocalStorage(self.source)
        list(check_files(self.storage, new, lambda f: local_file(sources, f.key, self.work), schema, self.work))
        return schema

    def build(self, *steps: Step, rule: SplitRule = RULE) -> Dataset:
        """The version of all files."""
        schema = self.check(*steps)
        parts = parts_of(known_files(self.storage, schema), [file.name for file in self._files()])
        version = prepare(self.storage, parts, schema, rule, self.work)
        return catalog.fetch(self.storage, version, self.work)

    def problems(self, *steps: Step) -> list[tuple[int, str]]:
        schema = self.check(*steps)
        known = known_files(self.storage, schema)
        return [(row, reason) for _, row, reason in read_all_problems(self.storage, known, schema, self.work)]

    def _files(self) -> tuple[SourceFile, ...]:
        return list_source(str(self.source)).files


@pytest.fixture
def builds(tmp_path: Path) -> Builds:
    return Builds(tmp_path)


def doubles(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"id": f"e{i}", "double": 2 * i, "label": ["no", "yes"][i % 2]} for i in range(first, first + count)]


def several(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"id": f"e{i}", "sizes": [i, i + 0.5], "label": ["no", "yes"][i % 2]} for i in range(first, first + count)]


def ids(dataset: Dataset) -> set[str]:
    return {example_id.decode() for example_id in dataset.column("id").tolist()}


def test_examples_are_what_the_steps_make_one_after_the_other(builds: Builds) -> None:
    def larger(record: dict[str, Any]) -> dict[str, Any]:
        return {**record, "size": record["size"] + 1000}

    builds.write("x.jsonl", *doubles(100))
    dataset = builds.build(Step(halved, 1), Step(larger, 1))
    sizes = dict(zip(dataset.column("id").tolist(), dataset.column("size").tolist(), strict=True))
    assert sizes == {f"e{i}".encode(): 1000 + i for i in range(100)}


def test_what_the_steps_make_has_to_fit_the_schema_and_what_they_are_given_has_not(builds: Builds) -> None:
    builds.write("x.jsonl", {"anything": [1], "double": 2, "label": "no"}, {"double": -2, "label": "no"}, [1])
    assert builds.problems(Step(halved, 1)) == [
        (2, "size: -1.0 is less than the minimum of 0"),
        (3, "must be a JSON object, is [1]"),
    ]


def test_a_table_may_have_columns_that_the_schema_has_not(builds: Builds) -> None:
    (builds.source / "x.csv").write_text("id,double,label\n" + "".join(f"e{i},{2 * i},no\n" for i in range(50)))
    (builds.source / "y.tsv").write_text("double\tlabel\n4\tyes\n")
    columns = {"id": ["p"], "double": [b"8"], "label": ["yes"]}
    pq.write_table(pa.table(columns), builds.source / "z.parquet")

    def parsed(record: dict[str, Any]) -> dict[str, Any]:
        number = record["double"].replace("OA==", "8")
        return {"size": int(number) / 2, "label": record["label"]}

    dataset = builds.build(Step(parsed, 1))
    assert sorted(dataset.column("size").tolist()) == sorted([*map(float, range(50)), 2.0, 4.0])


@pytest.mark.parametrize("nothing", [None, [], ()])
def test_a_record_that_a_step_makes_nothing_of_is_counted_and_no_problem(builds: Builds, nothing: Any) -> None:
    builds.write("x.jsonl", *doubles(10))
    schema = builds.check(Step(lambda record: nothing if record["double"] < 8 else halved(record), 1, "few"))
    ((_, _, file),) = known_files(builds.storage, schema).values()
    assert (file.rows, file.dropped, file.problems) == (6, 4, 0)


def test_several_records_of_one_are_numbered_and_in_one_split(builds: Builds) -> None:
    builds.write("x.jsonl", *several(200))
    dataset = builds.build(Step(each, 1))
    assert ids(dataset) == {f"e{i}-{number}" for i in range(200) for number in (0, 1)}
    splits = dict(zip(dataset.column("id").tolist(), dataset.splits().tolist(), strict=True))
    assert all(splits[f"e{i}-0".encode()] == splits[f"e{i}-1".encode()] for i in range(200))
    assert {SPLITS[split] for split in splits.values()} == set(SPLITS)


def test_records_of_which_one_looks_like_another_are_in_one_split_with_all_that_was_made_of_both(
    builds: Builds,
) -> None:
    builds.write("x.jsonl", *several(200))
    # The first of e6 and e7 is the same.
    pairs = Step(
        lambda record: [{**one, "size": 2 * (int(one["size"]) // 2)} for one in each(record)][:1] + each(record)[1:],
        1,
        "pairs",
    )
    dataset = builds.build(pairs, rule=replace(RULE, together=True))
    splits = dict(zip(dataset.column("id").tolist(), dataset.splits().tolist(), strict=True))
    sets = [{splits[f"e{i + k}-{number}".encode()] for k in (0, 1) for number in (0, 1)} for i in range(0, 200, 2)]
    assert all(len(found) == 1 for found in sets)
    assert {SPLITS[split] for split in splits.values()} == set(SPLITS)


def test_an_example_is_in_the_split_of_its_id_with_steps_as_without(builds: Builds, tmp_path: Path) -> None:
    builds.write("x.jsonl", *doubles(100))
    (tmp_path / "plain").mkdir()
    plain = Builds(tmp_path / "plain")
    plain.write("x.jsonl", *[{"id": f"e{i}", "size": i, "label": ["no", "yes"][i % 2]} for i in range(100)])
    one, other = builds.build(Step(halved, 1)), plain.build()
    assert one.column("id").tolist() == other.column("id").tolist()
    assert one.splits().tolist() == other.splits().tolist()


def test_records_may_have_ids_of_their_own(builds: Builds) -> None:
    builds.write("x.jsonl", *several(100))
    dataset = builds.build(
        Step(lambda record: [{**one, "id": f"{record['id']}/{one['size']}"} for one in each(record)], 1, "named")
    )
    assert {"e7/7", "e7/7.5"} < ids(dataset)


def test_a_record_without_an_id_takes_one_from_what_the_source_holds(builds: Builds) -> None:
    builds.write("x.jsonl", *[{k: v for k, v in record.items() if k != "id"} for record in several(100)])
    stems = {example_id.rpartition("-")[0] for example_id in ids(builds.build(Step(each, 1)))}
    assert len(stems) == 100
    assert {len(stem) for stem in stems} == {32}


def test_stratified_splits_are_refused_where_one_record_has_examples_of_several_labels(builds: Builds) -> None:
    builds.write("x.jsonl", *several(100))
    rule = replace(RULE, stratified=True)
    assert len(builds.build(Step(each, 1), rule=rule)) == 200
    mixed = Step(lambda record: [{**one, "label": "no"} for one in each(record)][:1] + each(record)[1:], 1, "mixed")
    with pytest.raises(BadDataError, match=r"split_stratified divides by label, and model\.STEPS makes"):
        builds.build(mixed, rule=rule)


def test_files_are_read_again_once_a_step_has_another_version_or_name(builds: Builds) -> None:
    builds.write("x.jsonl", *doubles(100))
    first = builds.build(builds.step(halved))
    called = len(builds.asked)
    builds.check(builds.step(lambda record: {**halved(record), "size": 0}, name="halved"))
    assert len(builds.asked) == called
    second = builds.build(builds.step(halved, version=2))
    third = builds.build(builds.step(halved, version=2, name="other"))
    assert len(builds.asked) == 3 * called
    # The same examples, of another meaning.
    assert len({first.version.id, second.version.id, third.version.id}) == 3
    assert second.version.properties["steps"] == [["halved", "2"]]


def test_only_new_files_go_through_the_steps(builds: Builds) -> None:
    builds.write("x.jsonl", *doubles(100))
    builds.build(builds.step(halved))
    builds.asked.clear()
    builds.write("y.jsonl", *doubles(20, first=100))
    assert len(builds.build(builds.step(halved))) == 120
    assert set(builds.asked) == {f"e{i}" for i in range(100, 120)}


def test_a_version_that_grows_is_that_of_all_files_at_once(builds: Builds, tmp_path: Path) -> None:
    builds.write("x.jsonl", *several(100))
    builds.build(Step(each, 1))
    builds.write("y.jsonl", *several(10, first=100))
    (tmp_path / "other").mkdir()
    other = Builds(tmp_path / "other")
    other.write("all.jsonl", *several(110))
    assert builds.build(Step(each, 1)).version.id == other.build(Step(each, 1)).version.id


def test_the_same_example_of_two_records_is_one_and_not_in_conflict(builds: Builds) -> None:
    def named(record: dict[str, Any]) -> dict[str, Any]:
        return {"id": f"size-{record['double']}", **halved(record)}

    again = [{**record, "id": f"again-{record['id']}"} for record in doubles(10)]
    builds.write("x.jsonl", *doubles(100), *again)
    duplicates = builds.build(Step(named, 1)).version.properties["duplicates"]
    assert (duplicates["repeated"], duplicates["conflicting"]) == (10, 0)


def test_an_exception_names_the_step_and_the_row(builds: Builds) -> None:
    builds.write("x.jsonl", *doubles(2), {"id": "e2", "label": "no"})
    assert builds.problems(Step(halved, 1)) == [(3, "step 'halved' raises KeyError: 'double'")]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("a text", "step 'odd' returns str; return a record, several, or None"),
        ([{"size": 1, "label": "no"}, 5], "step 'odd' returns int; return a record, several, or None"),
        ({"size": {1}, "label": "no"}, "step 'odd' returns what no record can hold: Type is not JSON"),
        ({"size": float("nan"), "label": "no"}, 'size: null is not of type "number"'),
    ],
)
def test_what_is_no_record_is_a_problem(builds: Builds, given: Any, said: str) -> None:
    builds.write("x.jsonl", *doubles(1))
    ((row, reason),) = builds.problems(Step(lambda _: given, 1, "odd"))
    assert row == 1
    assert reason.startswith(said)


def test_a_step_that_follows_from_chance_is_refused(builds: Builds) -> None:
    chance = np.random.default_rng(1)
    builds.write("x.jsonl", *doubles(10))
    noisy = Step(lambda record: {**halved(record), "size": chance.random()}, 1, "noisy")
    with pytest.raises(BadDataError, match=r"step 'noisy' gives something else for the same record \(e0\) each time"):
        builds.check(noisy)


def test_ready_records_pass_the_steps_by(builds: Builds) -> None:
    builds.write("x.jsonl", *doubles(100))
    builds.write("y.ready.jsonl", {"id": "r1", "size": 7, "label": "no"}, {"id": "r2", "double": 7, "label": "no"})
    schema = builds.check(builds.step(halved))
    assert {"r1", "r2"}.isdisjoint(builds.asked)
    known = known_files(builds.storage, schema)
    problems = [reason for *_, reason in read_all_problems(builds.storage, known, schema, builds.work)]
    assert problems == ['"size" is a required property (and 1 more)']
    assert "r1" in ids(builds.build(builds.step(halved)))


def test_forgetting_a_record_of_the_source_takes_out_all_that_was_made_of_it(builds: Builds) -> None:
    builds.write("x.jsonl", *several(100))
    before = builds.build(Step(each, 1))
    assert {"e7-0", "e7-1"} < ids(before)
    (forgotten,) = forgetting.forget(builds.storage, ["e7"], builds.work)
    assert forgotten.versions == [before.version.id]
    assert ids(builds.build(Step(each, 1))) == ids(before) - {"e7-0", "e7-1"}


class TestCommands:
    """`data` for a model with steps."""

    @pytest.fixture(autouse=True)
    def stepped(self, model: ModuleType) -> None:
        model.__dict__["LABELS"] = ("no", "yes")
        model.__dict__["RECORD"] = SCHEMA.record
        model.__dict__["STEPS"] = (Step(halved, 1),)

    def test_files_are_added_as_they_are_if_they_hold_records(self, run: Run) -> None:
        Path("data").mkdir()
        content = "".join(json.dumps(record) + "\n" for record in doubles(3))
        Path("data/a.jsonl").write_text(content)
        assert run("add", "files", "data")[0] == 0
        (copy,) = Path("store/sources/files").iterdir()
        assert copy.read_text() == content

    def test_ready_files_are_held_against_the_schema(self, run: Run) -> None:
        Path("data").mkdir()
        Path("data/a.ready.jsonl").write_text(json.dumps(doubles(1)[0]) + "\n")
        code, out, _ = run("add", "files", "data")
        assert code == 3
        assert 'a.ready.jsonl: not added: 1 of 1 records do not fit: row 1: "size" is a required property' in out

    def test_requests_become_records_that_no_step_is_applied_to(self, run: Run) -> None:
        stored(prediction("r1", {"instances": [{"size": 3.0}]}))
        stored(label("r1", "yes"), role="feedback")
        assert run("add", "traffic", "--since", "2026-03-04", "--until", "2026-03-05")[0] == 0
        Path("builds").mkdir()
        builds = Builds(Path("builds").absolute())
        (path,) = Path("store/sources/traffic").iterdir()
        (builds.source / path.name).write_bytes(path.read_bytes())
        builds.write("x.jsonl", *doubles(100))
        dataset = builds.build(*team.steps())
        (row,) = np.flatnonzero(dataset.column("id") == b"r1").tolist()
        assert dataset.column("size")[row] == 3.0

    def test_a_file_of_requests_has_to_be_named_so(self, run: Run) -> None:
        code, _, err = run("add", "traffic", "--since", "2026-03-04", "--output", "records.jsonl.gz")
        assert code == 2
        assert "records.jsonl.gz: let the name end in .ready.jsonl.gz" in err

    def test_an_example_is_shown_with_the_record_that_it_was_made_of(self, run: Run) -> None:
        Path("builds").mkdir()
        builds = Builds(Path("builds").absolute())
        builds.write("x.jsonl", *several(100))
        builds.build(Step(each, 1))
        code, out, _ = run("show", "latest", "--id", "e7", "--store", "builds/store")
        assert code == 0
        assert "\ne7-0 of e7  yes  " in out
        assert "\ne7-1 of e7  yes  " in out


@pytest.mark.parametrize(
    "steps",
    [Step(halved, 1), (halved,), (Step(halved, ""),), (Step(5, 1),)],  # type: ignore[arg-type]
)
def test_what_are_no_steps_is_refused(model: ModuleType, steps: Any) -> None:
    model.__dict__["STEPS"] = steps
    with pytest.raises(SettingsError, match=r"^model.STEPS"):
        team.steps()
