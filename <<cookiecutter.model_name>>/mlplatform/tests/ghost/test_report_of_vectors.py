"""The verdict on a ghost of vectors, by the pairs of rows whose identity came by feedback."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from mlplatform.contract.criteria import Criteria, Criterion
from mlplatform.contract.targets import Vector
from mlplatform.ghost.observed import observe
from mlplatform.ghost.report import Report, make, render
from mlplatform.ghost.settings import GhostSettings
from mlplatform.ghost.verdict import Decision
from mlplatform.store.manifest import publish
from mlplatform.store.storage import LocalStorage
from mlplatform.tests.ghost.observations import GHOST, LIVE, NOON, SERVICE, prediction, truth, write
from mlplatform.tests.ghost.test_report import Page

CRITERIA = Criteria((Criterion("roc_auc", minimum=0.8, maximum_regression=0.01),))
ROWS = 400
# Forty persons, whom the rows show in turn.
PERSONS = np.arange(ROWS) % 40


@pytest.fixture(autouse=True)
def service_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "service.toml").write_text(f'[service]\nname = "{SERVICE}"\n')
    monkeypatch.setenv("SERVICE_TOML", str(tmp_path / "service.toml"))


def verified(root: Path, live: float, ghost: float, known: int = ROWS, size_of_live: int = 16) -> None:
    """Both give vectors around one of each person, spread by so much; some identities become known."""
    for role, spread, size in (("live", live, size_of_live), ("ghost", ghost, 16)):
        target = Vector("person", size, threshold=0.5, centre=(1.0,) * size)
        version = {"live": LIVE, "ghost": GHOST}[role]
        (root / f"empty-{role}").mkdir()
        properties = {"targets": [target.to_json()]}
        publish(LocalStorage(root), f"models/{version}", root / f"empty-{role}", "model", version, properties)
        means = np.random.default_rng(1).normal(0, 1, (40, size))[PERSONS]
        vectors = means + np.random.default_rng(2).normal(0, spread, (ROWS, size))
        labels, scores = target.noted(vectors.astype(np.float32))
        rows = zip(labels, scores.tolist(), strict=True)
        write(root, role, [prediction(f"r{i}", label, scores=[score]) for i, (label, score) in enumerate(rows)])
    write(root, "feedback", [truth(f"r{i}", f"p{PERSONS[i]}") for i in range(known)])


def judged(root: Path) -> Report:
    seen = observe(LocalStorage(root), SERVICE, NOON - timedelta(hours=1), NOON + timedelta(hours=4), 200_000)
    return make(seen, CRITERIA, GhostSettings(), NOON + timedelta(days=1))


def words(report: Report) -> str:
    return " ".join(Page(render(report)).text.split())


def test_a_ghost_that_tells_identities_apart_better_is_promoted(tmp_path: Path) -> None:
    verified(tmp_path, live=1.2, ghost=0.6)
    found = judged(tmp_path)
    assert found.verdict.decision is Decision.PROMOTE
    assert found.verdict.reasons[0].startswith("roc_auc is 0.9")
    shown = words(found)
    assert "Verification Of the same 400 rows whose truth is known, the ghost ranks the pairs of" in shown
    assert "Their vectors rank" in shown


def test_a_ghost_that_tells_identities_apart_less_well_is_rejected(tmp_path: Path) -> None:
    verified(tmp_path, live=0.6, ghost=1.2)
    found = judged(tmp_path)
    assert found.verdict.decision is Decision.REJECT
    assert found.verdict.reasons[0].startswith("roc_auc is 0.8")


def test_the_same_vectors_are_promoted_with_identities_and_without(tmp_path: Path) -> None:
    for known in (ROWS, 0):
        (tmp_path / str(known)).mkdir()
        verified(tmp_path / str(known), live=0.6, ghost=0.6, known=known)
        found = judged(tmp_path / str(known))
        assert found.verdict.decision is Decision.PROMOTE
        assert found.to_json()["pairs"]["correlation"] == pytest.approx(1)
    assert found.verdict.reasons[0].startswith("their similarities rank 50,000 pairs of 400 rows in the same order")


def test_without_identities_other_vectors_are_held(tmp_path: Path) -> None:
    verified(tmp_path, live=0.6, ghost=0.8, known=0)
    found = judged(tmp_path)
    assert found.verdict.decision is Decision.HOLD
    assert (
        "which leaves open which of them is right where they differ; 0 rows with a known label"
        in (found.verdict.reasons[0])
    )


def test_a_live_model_of_another_size_is_compared_with(tmp_path: Path) -> None:
    verified(tmp_path, live=1.5, ghost=0.6, size_of_live=8)
    found = judged(tmp_path)
    assert found.verdict.decision is Decision.PROMOTE
    assert found.figures.comparison is not None
