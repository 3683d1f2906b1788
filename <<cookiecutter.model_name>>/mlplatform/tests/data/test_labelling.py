"""The labelling loop: rows that people should label, as tasks for Label Studio, and what they said as records."""

import csv
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from mlplatform.store import manifest
from mlplatform.store.storage import LocalStorage
from mlplatform.tests.data.conftest import Run, label, prediction, stored

PERIOD = ("--since", "2026-03-04", "--until", "2026-03-05", "--to", "tasks.json")


@pytest.fixture(autouse=True)
def labels(model: ModuleType) -> None:
    """The team's model has the classes 7 and 9, and records that say who labelled them."""
    model.__dict__["LABELS"] = (7, 9)
    properties: dict[str, Any] = {name: {} for name in ("id", "image", "label", "labelled_by", "labelled_at")}
    model.__dict__["RECORD"] = {"type": "object", "properties": properties}


def asked(request: str, label: str = "7", score: float = 0.5, values: Any = 0.0, **changes: Any) -> dict[str, Any]:
    body = {"instances": [{"image": np.full((4, 4), values).tolist()}]}
    return prediction(request, body, labels=[label], scores=[score], **changes)


def tasks() -> list[dict[str, Any]]:
    written: list[dict[str, Any]] = json.loads(Path("tasks.json").read_text())
    return written


def chosen() -> list[str]:
    return [task["data"]["example_id"] for task in tasks()]


def annotated(annotations: Sequence[dict[str, Any]], task: dict[str, Any]) -> dict[str, Any]:
    """A task as Label Studio exports it: it adds annotations, and numbers tasks of its own."""
    return {"id": 31, **task, "annotations": list(annotations)}


def annotation(*choices: str, by: Any = 2, at: str = "2026-03-09T22:16:08.728378Z", **more: Any) -> dict[str, Any]:
    value = {"value": {"choices": list(choices)}, "from_name": "label", "to_name": "image", "type": "choices"}
    result = [{"id": "Dx", **value}] if choices else []
    times = {"created_at": "2026-03-09T21:00:00Z", "updated_at": at}
    return {"id": 1001, "completed_by": by, "result": result, "was_cancelled": False, "lead_time": 4.2, **times, **more}


def exported(*tasks: dict[str, Any]) -> str:
    Path("export.json").write_text(json.dumps(tasks))
    return "export.json"


def labelled() -> list[dict[str, Any]]:
    paths = sorted(Path("store/sources/labelled").iterdir())
    return [json.loads(line) for path in paths for line in gzip.decompress(path.read_bytes()).splitlines()]


def test_the_rows_that_the_model_was_least_sure_of_come_first(run: Run) -> None:
    stored(asked("sure", score=0.99), asked("unsure", score=0.4), asked("less sure", score=0.6), asked("no score"))
    code, out, _ = run("sample", "--uncertain", "2", *PERIOD)
    assert code == 0
    assert chosen() == ["unsure", "no score"]
    assert "       2 rows chosen of 4\n" in out


def test_the_rows_to_which_a_ghost_gave_another_label_are_chosen(run: Run) -> None:
    stored(asked("same"), asked("sure"), asked("other"), asked("alone"))
    stored(asked("same"), asked("sure", "9", 0.9), asked("other", "9", 0.6), role="ghost")
    code, out, _ = run("sample", "--disagreement", "5", *PERIOD)
    assert code == 0
    assert chosen() == ["sure", "other"]
    assert "       1 rows of which ghost and live say the same\n" in out
    assert "       1 rows that no ghost answered\n" in out


def test_the_rows_that_lie_farthest_from_what_the_model_was_trained_on_are_chosen(run: Run, tmp_path: Path) -> None:
    stored(asked("near", values=1.0), asked("far", values=-9.0), asked("less far", values=6.0))
    storage = LocalStorage(tmp_path / "store")
    (tmp_path / "empty").mkdir()
    splits = {"train": {"inputs": {"image": {"mean": 1.0, "deviation": 2.0}}}}
    manifest.publish(storage, "datasets/d", tmp_path / "empty", "dataset", "d", {"splits": splits})
    manifest.publish(storage, "models/v1", tmp_path / "empty", "model", "v1", {"dataset": "d"})
    assert run("sample", "--drift", "2", *PERIOD)[0] == 0
    assert chosen() == ["far", "less far"]


def test_without_the_model_that_answered_nothing_is_far(run: Run) -> None:
    stored(asked("r1"))
    code, out, err = run("sample", "--drift", "2", *PERIOD)
    assert code == 3
    assert "1 rows whose model, or what it was made from, is not in the store" in out
    assert "no row of a request from 2026-03-04 00:00 UTC on can be asked about" in err


def test_nobody_is_asked_about_a_row_twice_or_about_one_that_has_a_label(run: Run) -> None:
    stored(*(asked(f"r{i}") for i in range(6)), label("r0", "7"))
    first = run("sample", "--random", "3", *PERIOD)
    before = chosen()
    code, out, _ = run("sample", "--random", "9", *PERIOD)
    assert (first[0], code) == (0, 0)
    assert sorted(before + chosen()) == ["r1", "r2", "r3", "r4", "r5"]
    assert "       1 requests that have labels\n" in out
    assert "       3 rows that people were asked about before\n" in out


def test_a_task_shows_a_picture_and_says_what_the_model_did(run: Run) -> None:
    stored(asked("r1", "9", 0.4))
    run("sample", "--uncertain", "1", *PERIOD)
    (task,) = tasks()
    assert task["data"]["image"].startswith("data:image/png;base64,")
    (said,) = task["predictions"]
    assert (said["model_version"], said["score"]) == ("v1", 0.4)
    assert said["result"] == [
        {"id": "label", "from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": ["9"]}}
    ]
    view = ElementTree.fromstring(Path("tasks.xml").read_text())
    assert [(tag.tag, tag.attrib) for tag in view] == [
        ("Image", {"name": "image", "value": "$image"}),
        ("Choices", {"name": "label", "toName": "image", "choice": "single", "required": "true"}),
    ]
    assert [choice.attrib["value"] for choice in view[1]] == ["7", "9"]


def test_a_task_shows_text_as_text_and_numbers_as_a_table(run: Run) -> None:
    body = {"instances": [{"image": "a text", "size": 1.5, "row": [1, 2]}]}
    stored(prediction("r1", body, scores=[0.5]))
    run("sample", "--random", "1", *PERIOD)
    (task,) = tasks()
    assert task["data"] == {"example_id": "r1", "image": "a text", "values": {"row": "[1, 2]", "size": "1.5"}}
    view = ElementTree.fromstring(Path("tasks.xml").read_text())
    assert [(tag.tag, tag.attrib["name"]) for tag in view] == [
        ("Text", "image"),
        ("Table", "values"),
        ("Choices", "label"),
    ]


def test_what_may_not_be_kept_is_shown_to_nobody(run: Run, model: ModuleType) -> None:
    model.__dict__["redact"] = lambda record: None if record["id"] == "secret" else record
    stored(asked("secret"), asked("open"))
    _, out, _ = run("sample", "--random", "2", *PERIOD)
    assert chosen() == ["open"]
    assert "       1 rows that may not be kept\n" in out


@pytest.mark.parametrize("ways", [(), ("--random", "1", "--drift", "1")])
def test_one_way_of_choosing_is_given(run: Run, ways: tuple[str, ...]) -> None:
    code, _, err = run("sample", *ways, *PERIOD)
    assert code == 2
    assert "give one of --uncertain N, --disagreement N, --drift N, --random N" in err


def test_an_export_of_label_studio_becomes_records_and_who_labelled_when_is_kept(run: Run, tmp_path: Path) -> None:
    stored(asked("r1", values=3.0))
    run("sample", "--random", "1", *PERIOD)
    code, out, _ = run(
        "labels", exported(annotated([annotation("9", by={"id": 2, "email": "ann@leaves.example"})], tasks()[0]))
    )
    assert code == 0
    assert "       1 records with labels\n" in out
    at = "2026-03-09T22:16:08.728378Z"
    image = np.full((4, 4), 3.0).tolist()
    assert labelled() == [
        {"id": "r1", "image": image, "label": "9", "labelled_by": "ann@leaves.example", "labelled_at": at}
    ]
    (path,) = (tmp_path / "store" / "labelling" / "labels").iterdir()
    kept = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    assert kept == [{"id": "r1", "label": "9", "by": "ann@leaves.example", "at": at}]


@pytest.mark.parametrize("ending", [".json", ".csv"])
def test_the_smaller_exports_of_label_studio_are_read(run: Run, ending: str) -> None:
    stored(asked("r1"))
    run("sample", "--random", "1", *PERIOD)
    row = {**tasks()[0]["data"], "id": 31, "label": "9", "annotator": 2, "annotation_id": 7, "lead_time": 1.5}
    row |= {"created_at": "2026-03-09T21:00:00Z", "updated_at": "2026-03-09T22:00:00Z"}
    path = Path(f"export{ending}")
    if ending == ".json":
        path.write_text(json.dumps([row]))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            writer.writeheader()
            writer.writerow(row)
    assert run("labels", str(path))[0] == 0
    (record,) = labelled()
    assert (record["label"], record["labelled_by"], record["labelled_at"]) == ("9", "2", "2026-03-09T22:00:00Z")


def test_a_table_of_ids_and_labels_will_do(run: Run) -> None:
    stored(asked("r1"), asked("r2"))
    run("sample", "--random", "2", *PERIOD)
    Path("labels.csv").write_text("id,label\nr1,9\nr2,\n")
    code, out, _ = run("labels", "labels.csv")
    assert code == 0
    assert [(record["id"], record["label"], "labelled_by" in record) for record in labelled()] == [("r1", "9", False)]
    assert "       1 rows with another number of choices than one\n" in out


def test_of_several_people_most_decide_and_who_is_undecided_is_counted(run: Run) -> None:
    stored(asked("r1"), asked("r2"), asked("r3"))
    run("sample", "--random", "3", *PERIOD)
    by_id = {task["data"]["example_id"]: task for task in tasks()}
    code, out, _ = run(
        "labels",
        exported(
            annotated([annotation("7", by=1), annotation("9", by=2), annotation("9", by=3)], by_id["r1"]),
            annotated([annotation("7", by=1), annotation("9", by=2)], by_id["r2"]),
            annotated([annotation("7"), annotation("7"), annotation("9", ground_truth=True)], by_id["r3"]),
        ),
    )
    assert code == 0
    assert [(r["id"], r["label"], r["labelled_by"]) for r in labelled()] == [("r1", "9", "2, 3"), ("r3", "9", "2")]
    assert "       1 examples of which people say different things, as many each\n" in out


def test_what_is_no_label_is_counted(run: Run) -> None:
    stored(asked("r1"), asked("r2"), asked("r3"), asked("r4"))
    run("sample", "--random", "4", *PERIOD)
    by_id = {task["data"]["example_id"]: task for task in tasks()}
    _, out, _ = run(
        "labels",
        exported(
            annotated([annotation("7", was_cancelled=True)], by_id["r1"]),
            annotated([annotation()], by_id["r2"]),
            annotated([annotation("owl")], by_id["r3"]),
            annotated([annotation("7")], by_id["r4"]),
            annotated([annotation("7")], {"data": {"example_id": "unheard of"}}),
        ),
    )
    assert sorted(out.splitlines()[:4]) == [
        "       1 annotations with another number of choices than one",
        "       1 labels 'owl', which is none of model.LABELS",
        "       1 labels of examples that nobody was asked about",
        "       1 tasks without an annotation",
    ]


def test_a_later_label_replaces_the_former_and_one_that_came_as_feedback(run: Run) -> None:
    stored(asked("r1"), asked("r2"))
    run("sample", "--random", "2", *PERIOD)
    for changed in ("7", "9"):
        Path("labels.csv").write_text(f"id,label\nr1,{changed}\nr2,7\n")
        assert run("labels", "labels.csv")[0] == 0
    assert [(record["id"], record["label"]) for record in labelled()] == [("r1", "9"), ("r2", "7")]
    stored(label("r1", "7"), role="feedback", number=1)
    code, out, _ = run("add", "traffic", "--since", "2026-03-04", "--until", "2026-03-05")
    assert code == 3
    assert "       1 rows labelled by hand\n" in out


def test_a_forgotten_example_leaves_what_people_are_asked_about(run: Run) -> None:
    stored(asked("r1"), asked("r2"))
    run("sample", "--random", "2", *PERIOD)
    Path("labels.csv").write_text("id,label\nr1,7\nr2,7\n")
    run("labels", "labels.csv")
    assert run("forget", "--id", "r1")[0] == 0
    assert [record["id"] for record in labelled()] == ["r2"]
    kept = [gzip.decompress(path.read_bytes()) for path in Path("store/labelling").rglob("*.gz")]
    assert not any(b'"r1"' in content for content in kept)
    assert len(kept) == 2


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.json", "{", "x.json: is none of JSON, JSON_MIN or CSV of Label Studio, or a table"),
        ("x.csv", "name,class\na,b\n", "x.csv: is none of JSON, JSON_MIN or CSV of Label Studio, or a table"),
    ],
)
def test_a_file_that_holds_no_labels_is_refused(run: Run, name: str, content: str, said: str) -> None:
    Path(name).write_text(content)
    code, _, err = run("labels", name)
    assert code == 2
    assert said in err
