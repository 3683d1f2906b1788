"""The verdict on a ghost of tags; and on one whose live model predicts something of another kind."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mlplatform.contract.criteria import Criteria, Criterion
from mlplatform.contract.targets import Classes, Number, Tags, Target
from mlplatform.contract.targets.tags import as_text
from mlplatform.ghost.observed import observe
from mlplatform.ghost.report import Report, make, render
from mlplatform.ghost.settings import GhostSettings
from mlplatform.ghost.verdict import Decision
from mlplatform.store.manifest import publish
from mlplatform.store.storage import LocalStorage
from mlplatform.tests.ghost.observations import GHOST, LIVE, NOON, SERVICE, prediction, truth, write
from mlplatform.tests.ghost.test_report import Page

TRAITS = Tags("traits", ("even", "prime", "loop"), (0.5, 0.5, 0.5))
SETS: tuple[list[str], ...] = (["even"], ["even", "prime"], [], ["loop"])
CRITERIA = Criteria((Criterion("macro_f1", minimum=0.5, maximum_regression=0.02),))


@pytest.fixture(autouse=True)
def service_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "service.toml").write_text(f'[service]\nname = "{SERVICE}"\n')
    monkeypatch.setenv("SERVICE_TOML", str(tmp_path / "service.toml"))


def published(root: Path, **targets: Target) -> None:
    """Models in the store, by their role, with what they learned."""
    for role, target in targets.items():
        version = {"live": LIVE, "ghost": GHOST}[role]
        (root / f"empty-{role}").mkdir()
        properties = {"targets": [target.to_json()]}
        publish(LocalStorage(root), f"models/{version}", root / f"empty-{role}", "model", version, properties)


def tagged(root: Path, live: int, ghost: int, known: int = 400, of: int = 400) -> None:
    """Both say tags, and in so many of a hundred rows other ones than are true; some truths become known."""
    published(root, ghost=TRAITS, live=TRAITS)
    true = [as_text(SETS[i % 4]) for i in range(of)]
    for role, wrong in (("live", live), ("ghost", ghost)):
        said = [as_text(["loop", "prime"]) if i * 37 % 100 < wrong else text for i, text in enumerate(true)]
        write(root, role, [prediction(f"r{i}", text) for i, text in enumerate(said)])
    write(root, "feedback", [truth(f"r{i}", text) for i, text in enumerate(true[:known])])


def judged(root: Path, criteria: Criteria = CRITERIA) -> Report:
    seen = observe(LocalStorage(root), SERVICE, NOON - timedelta(hours=1), NOON + timedelta(hours=4), 200_000)
    return make(seen, criteria, GhostSettings(), NOON + timedelta(days=1))


def words(report: Report) -> str:
    return " ".join(Page(render(report)).text.split())


def test_a_ghost_with_better_tags_is_promoted(tmp_path: Path) -> None:
    tagged(tmp_path, live=30, ghost=5)
    found = judged(tmp_path)
    assert found.verdict.decision is Decision.PROMOTE
    assert found.verdict.reasons[0].startswith("macro_f1 is 0.9")
    shown = words(found)
    assert "Subset accuracy of the ghost95.0" in shown
    assert "Found of each label" in shown
    assert "loop, prime" in shown


def test_a_ghost_with_worse_tags_is_rejected(tmp_path: Path) -> None:
    tagged(tmp_path, live=5, ghost=30)
    found = judged(tmp_path)
    assert found.verdict.decision is Decision.REJECT
    assert found.verdict.reasons[0].startswith("macro_f1 is 0.7")


def test_the_same_tags_are_promoted(tmp_path: Path) -> None:
    tagged(tmp_path, live=5, ghost=5)
    found = judged(tmp_path)
    assert found.verdict.decision is Decision.PROMOTE
    agreement = found.to_json()
    assert (agreement["agreement"]["value"], agreement["jaccard"]) == (1.0, 1.0)


def test_without_truths_the_same_tags_are_as_good_and_others_are_held(tmp_path: Path) -> None:
    (tmp_path / "same").mkdir()
    tagged(tmp_path / "same", live=5, ghost=5, known=0)
    found = judged(tmp_path / "same")
    assert found.verdict.decision is Decision.PROMOTE
    assert found.verdict.reasons[0].startswith("both predict the same tags for 100.00% of 400 rows")
    (tmp_path / "apart").mkdir()
    tagged(tmp_path / "apart", live=5, ghost=30, known=0)
    found = judged(tmp_path / "apart")
    assert found.verdict.decision is Decision.HOLD
    assert "both predict the same tags for 75.00% of 400 rows" in found.verdict.reasons[0]


def test_tags_that_only_the_truth_has_count_as_missed(tmp_path: Path) -> None:
    tagged(tmp_path, live=0, ghost=0)
    more = [truth(f"r{i}", as_text(["even", "new"]), at=7200) for i in range(0, 400, 4)]
    write(tmp_path, "feedback", more, process="p2")
    task = judged(tmp_path).figures.task
    assert task is not None
    assert task.target.counted(task.rows) == {"even": 200, "prime": 100, "loop": 100, "new": 100}
    assert task.metrics["macro_f1"][1] == pytest.approx(0.75)


def test_what_takes_probabilities_is_not_judged_by_events(tmp_path: Path) -> None:
    tagged(tmp_path, live=5, ghost=5)
    found = judged(tmp_path, Criteria((*CRITERIA.rows, Criterion("average_precision", minimum=0.9))))
    assert "not judged, as events do not tell it: average_precision" in found.verdict.reasons


@pytest.mark.parametrize(
    ("live", "ghost", "told"),
    [
        (TRAITS, Number("price"), "it predicts probabilities of tags, and the ghost values"),
        (Number("price", "USD"), Number("price", "EUR"), "it predicts in USD, and this one in EUR"),
        (Classes("label", ("0", "1")), TRAITS, "it predicts probabilities, and the ghost probabilities of tags"),
    ],
)
def test_a_live_model_of_another_kind_is_said_and_its_answers_are_not_compared(
    tmp_path: Path, live: Target, ghost: Target, told: str
) -> None:
    def answer(target: Target, i: int) -> dict[str, Any]:
        label = {"tags": as_text(["even"]), "classes": "1"}.get(target.kind)
        return prediction(f"r{i}", label) if label else prediction(f"r{i}", None, scores=[1000.0 + i])

    published(tmp_path, live=live, ghost=ghost)
    write(tmp_path, "live", [answer(live, i) for i in range(400)])
    write(tmp_path, "ghost", [answer(ghost, i) for i in range(400)])
    found = judged(tmp_path, Criteria(by_default=True))
    assert found.verdict.decision is Decision.HOLD
    assert found.verdict.reasons[0].startswith(f"the live model is of another kind: {told}")
    assert found.to_json()["agreement"] is None
    assert f"The live model is of another kind: {told}." in words(found)


def test_values_beside_labels_are_of_another_kind_also_where_no_manifest_says_so(tmp_path: Path) -> None:
    write(tmp_path, "live", [prediction(f"r{i}", None, scores=[float(i)]) for i in range(400)])
    write(tmp_path, "ghost", [prediction(f"r{i}", "1") for i in range(400)])
    found = judged(tmp_path, Criteria(by_default=True))
    assert "it gives values, and the ghost labels" in found.verdict.reasons[0]
