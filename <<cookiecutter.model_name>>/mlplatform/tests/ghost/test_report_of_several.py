"""The verdict on a ghost of several targets: each judged by itself, and the worst of them decides."""

import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from mlplatform.contract.criteria import Criteria
from mlplatform.contract.targets import Classes, Number
from mlplatform.contract.targets.several import Several
from mlplatform.ghost.observed import observe
from mlplatform.ghost.report import Report, make, render
from mlplatform.ghost.settings import GhostSettings
from mlplatform.ghost.verdict import Decision
from mlplatform.store.manifest import publish
from mlplatform.store.storage import LocalStorage
from mlplatform.tests.ghost.observations import GHOST, LIVE, NOON, SERVICE, prediction, truth, write
from mlplatform.tests.ghost.test_report import Page

TARGET = Several([Classes("kind", "ab"), Number("size", "cm")])
ROWS = 400


@pytest.fixture(autouse=True)
def service_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "service.toml").write_text(f'[service]\nname = "{SERVICE}"\n')
    monkeypatch.setenv("SERVICE_TOML", str(tmp_path / "service.toml"))


def answered(
    root: Path, live: tuple[int, float], ghost: tuple[int, float], known: tuple[str, ...] = ("kind", "size")
) -> None:
    """Both answer; by each, in how many of a hundred rows the kind is wrong, and by how much the size is off.

    known: the targets whose truths come as feedback.
    """
    kinds, sizes = np.arange(ROWS) % 2, np.arange(ROWS) % 17 * 3.0
    for version, role, (wrong, off) in ((LIVE, "live", live), (GHOST, "ghost", ghost)):
        (root / f"empty-{role}").mkdir()
        properties = {"targets": [part.to_json() for part in TARGET.parts]}
        publish(LocalStorage(root), f"models/{version}", root / f"empty-{role}", "model", version, properties)
        said = np.where(np.arange(ROWS) * 37 % 100 < wrong, 1 - kinds, kinds)
        noise = np.where(np.arange(ROWS) // 2 % 2, off, -off)
        outputs = np.column_stack([said == 0, said == 1, sizes + noise]).astype(np.float32)
        labels, scores = TARGET.noted(outputs)
        rows = zip(labels, scores.tolist(), strict=True)
        write(root, role, [prediction(f"r{i}", label, scores=[score]) for i, (label, score) in enumerate(rows)])
    truths = [{"kind": "ab"[kind], "size": float(size)} for kind, size in zip(kinds, sizes, strict=True)]
    told = [json.dumps({name: of[name] for name in known}) for of in truths] if known else []
    write(root, "feedback", [truth(f"r{i}", text) for i, text in enumerate(told)])


def judged(root: Path) -> Report:
    seen = observe(LocalStorage(root), SERVICE, NOON - timedelta(hours=1), NOON + timedelta(hours=4), 200_000)
    return make(seen, Criteria(by_default=True), GhostSettings(), NOON + timedelta(days=1))


def test_a_ghost_that_is_better_in_each_is_promoted(tmp_path: Path) -> None:
    answered(tmp_path, live=(9, 3.0), ghost=(1, 1.0))
    found = judged(tmp_path)
    assert found.verdict.decision is Decision.PROMOTE, found.verdict
    assert any(reason.startswith("kind: ") for reason in found.verdict.reasons)
    assert any(reason.startswith("size: r2_score is 0.99") for reason in found.verdict.reasons)


def test_a_ghost_that_is_worse_in_one_of_them_is_rejected_for_that(tmp_path: Path) -> None:
    answered(tmp_path, live=(9, 1.0), ghost=(1, 9.0))
    found = judged(tmp_path)
    assert found.verdict.decision is Decision.REJECT
    assert [reason.partition(":")[0] for reason in found.verdict.reasons] == ["size"]
    assert any(clause.startswith("kind: ") for clause in found.verdict.found)


def test_where_the_truths_of_one_of_them_are_missing_its_agreement_counts(tmp_path: Path) -> None:
    answered(tmp_path, live=(9, 1.0), ghost=(1, 9.0), known=("kind",))
    found = judged(tmp_path)
    assert found.verdict.decision is Decision.HOLD
    (reason,) = found.verdict.reasons
    assert reason.startswith("size: their values differ by ")


def test_the_report_has_a_part_for_each(tmp_path: Path) -> None:
    answered(tmp_path, live=(9, 3.0), ghost=(1, 1.0))
    found = judged(tmp_path)
    targets = found.to_json()["targets"]
    assert targets["kind"]["accuracy"]["value"] == pytest.approx(0.99, abs=0.01)
    assert targets["size"]["task"]["metrics"]["r2_score"]["value"] > 0.9
    shown = " ".join(Page(render(found)).text.split())
    assert "kind.accuracy" in shown
    assert "size.r2_score" in shown
    assert "Wilcoxon" in shown
    assert "McNemar" in shown
