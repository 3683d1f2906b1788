"""Labels that are probably wrong: found by a model's predictions for examples that it did not learn from."""

from pathlib import Path
from typing import Any

import numpy as np

from mlplatform.data.catalog import fetch
from mlplatform.data.label_errors import suspected
from mlplatform.store import manifest
from mlplatform.store.manifest import Manifest
from mlplatform.store.storage import LocalStorage
from mlplatform.tests.data.conftest import Prepare, Run, clean

SWAPPED = {"no": "yes", "yes": "no"}


def test_an_example_that_the_model_is_sure_has_another_label_is_suspected_the_worst_first() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.1, 0.9], [0.05, 0.95], [0.4, 0.6]])
    places, suggested = suspected(probabilities, np.array([0, 0, 1, 1, 0, 0]))
    assert places.tolist() == [4]
    assert suggested.tolist() == [1]


def test_a_class_that_the_model_says_too_often_needs_to_be_more_probable() -> None:
    # The model always prefers 1; what is labelled 0 is so with 0.4 on the average.
    probabilities = np.array([[0.4, 0.6], [0.4, 0.6], [0.4, 0.6], [0.1, 0.9], [0.1, 0.9], [0.02, 0.98]])
    places, _ = suspected(probabilities, np.array([0, 0, 0, 1, 1, 0]))
    assert places.tolist() == [5]


def test_a_label_that_no_example_has_is_suggested_for_none() -> None:
    places, _ = suspected(np.array([[0.1, 0.1, 0.8], [0.2, 0.7, 0.1]]), np.array([0, 1]))
    assert places.tolist() == []


def evaluated(version: Manifest, wrong: set[str], run: str, splits: tuple[str, ...] = ("test",)) -> None:
    """The evaluation of a run that is right about every example but for the labels that are wrong."""
    storage = LocalStorage(Path("store").absolute())
    dataset = fetch(storage, version, Path(".work"))
    directory = Path(run)
    directory.mkdir()
    manifest.publish(storage, f"runs/{run}/training", directory, "training", run, {"dataset": version.id})
    start = 0
    for split, size in dataset.split_sizes().items():
        rows = np.arange(start, start + size)
        start += size
        truths = [
            1 - label if example_id.decode() in wrong else label
            for label, example_id in zip(dataset.column("label", rows), dataset.column("id", rows), strict=True)
        ]
        rows_of = [[0.05, 0.95] if truth else [0.95, 0.05] for truth in truths]
        name = {"test": "predictions.npy", "validation": "validation_predictions.npy"}.get(split, "")
        if split in splits:
            np.save(directory / name, np.array(rows_of, np.float32))
    manifest.publish(storage, f"runs/{run}/evaluation", directory, "evaluation", run, {})


def mislabelled(prepare: Prepare, split: str) -> tuple[Manifest, set[str]]:
    """A version of which three examples of a split have the wrong label."""
    records: list[dict[str, Any]] = clean()
    before = fetch(LocalStorage(Path("store").absolute()), prepare(records), Path(".work"))
    start = sum(list(before.split_sizes().values())[: ["train", "validation", "test"].index(split)])
    wrong = {example_id.decode() for example_id in before.column("id", np.arange(start, start + 3)).tolist()}
    swapped = [r | {"label": SWAPPED[r["label"]]} if r["id"] in wrong else r for r in records]
    return prepare(swapped), wrong


def test_the_report_shows_labels_that_are_probably_wrong_once_a_model_was_trained(prepare: Prepare, run: Run) -> None:
    version, wrong = mislabelled(prepare, "test")
    assert "probably wrong" not in run("report", version.id)[1]
    evaluated(version, wrong, "r1")
    code, out, _ = run("report", version.id)
    assert code == 0
    size = version.properties["splits"]["test"]["examples"]
    assert f"3 labels of {size} are probably wrong, as run r1 says\n" in out
    assert all(f"  {example_id}: is " in out for example_id in wrong)
    page = Path(f"dataset-{version.id}.html").read_text()
    assert "Labels that are probably wrong" in page
    assert all(example_id in page for example_id in wrong)


def test_the_validation_split_counts_where_its_predictions_are_kept(prepare: Prepare, run: Run) -> None:
    version, wrong = mislabelled(prepare, "validation")
    evaluated(version, wrong, "r1", ("validation", "test"))
    _, out, _ = run("report", version.id)
    assert "3 labels of " in out
    assert all(f"  {example_id}: is " in out for example_id in wrong)


def test_a_version_whose_labels_are_right_says_so(prepare: Prepare, run: Run) -> None:
    version = prepare(clean())
    evaluated(version, set(), "r1")
    assert "0 labels of " in run("report", version.id)[1]
