"""The verdict on a ghost: what has to be seen before one is promoted, held or rejected, and how it is told."""

import json
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlplatform.config.settings import SettingsError
from mlplatform.contract.comparison import Comparison
from mlplatform.contract.criteria import Criteria, Criterion
from mlplatform.contract.targets import Number, Target
from mlplatform.contract.targets.class_judging import LabelAgreement
from mlplatform.ghost.observed import NothingObservedError, Observed, observe
from mlplatform.ghost.report import Report, make, render
from mlplatform.ghost.settings import GhostSettings
from mlplatform.ghost.statistics import quantile_ratio, shift
from mlplatform.ghost.verdict import Decision
from mlplatform.store.manifest import publish
from mlplatform.store.storage import LocalStorage
from mlplatform.tests.ghost.observations import (
    GHOST,
    LIVE,
    NOON,
    SERVICE,
    answered,
    counters,
    label,
    prediction,
    truth,
    usage,
    write,
)

HOSTILE = "<script>alert('&\"')</script>"


def observed(root: Path, most: int = 200_000, ghost: str | None = None) -> Observed:
    return observe(LocalStorage(root), SERVICE, NOON - timedelta(hours=1), NOON + timedelta(hours=4), most, ghost)


@pytest.fixture(autouse=True)
def service_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "service.toml").write_text(f'[service]\nname = "{SERVICE}"\n')
    monkeypatch.setenv("SERVICE_TOML", str(tmp_path / "service.toml"))


def judged(root: Path, **settings: Any) -> Report:
    criteria = settings.pop("criteria", Criteria())
    return make(observed(root), criteria, GhostSettings(**settings), NOON + timedelta(days=1))


def hits(right: int, of: int) -> list[bool]:
    """So many right of so many, spread evenly."""
    return [i * right // of != (i + 1) * right // of for i in range(of)]


def test_a_ghost_that_is_certainly_more_accurate_is_promoted(tmp_path: Path) -> None:
    answered(tmp_path, hits(400, 500), hits(480, 500))
    found = judged(tmp_path)
    assert found.verdict.decision is Decision.PROMOTE
    assert found.verdict.reasons[0].startswith("accuracy is 0.1600 higher on 500 rows with a known label (95 %: +0.1")


def test_a_ghost_that_is_certainly_less_accurate_is_rejected(tmp_path: Path) -> None:
    answered(tmp_path, hits(480, 500), hits(400, 500))
    found = judged(tmp_path)
    assert found.verdict.decision is Decision.REJECT
    assert "accuracy is 0.1600 lower" in found.verdict.reasons[0]


def test_the_same_model_is_promoted_with_an_agreement_of_one(tmp_path: Path) -> None:
    answered(tmp_path, hits(450, 500), hits(450, 500))
    found = judged(tmp_path)
    assert isinstance(found.figures.agreement, LabelAgreement)
    assert (found.verdict.decision, found.figures.agreement.share.value) == ("promote", 1.0)


def test_the_same_model_is_held_while_few_labels_leave_room_for_a_loss(tmp_path: Path) -> None:
    answered(tmp_path, hits(300, 300), hits(300, 300))
    found = judged(tmp_path)
    assert found.verdict.decision is Decision.HOLD
    assert "may really be -0.0126, more than maximum_regression 0.01" in found.verdict.reasons[0]


def test_ten_requests_are_not_enough_data(tmp_path: Path) -> None:
    answered(tmp_path, hits(5, 10), hits(10, 10))
    found = judged(tmp_path)
    assert found.verdict.decision is Decision.NOT_ENOUGH_DATA
    assert found.verdict.reasons == ("10 requests answered by both; a verdict takes 200",)


def test_a_difference_that_may_be_chance_is_held(tmp_path: Path) -> None:
    answered(tmp_path, hits(490, 500), hits(483, 500))
    assert judged(tmp_path).verdict.decision is Decision.HOLD


def test_without_labels_models_that_agree_are_promoted_because_agreement_bounds_accuracy(tmp_path: Path) -> None:
    answered(tmp_path, hits(500, 500), hits(500, 500), known=0)
    found = judged(tmp_path)
    assert found.verdict.decision is Decision.PROMOTE
    assert "their accuracy cannot differ by more than maximum_regression" in found.verdict.reasons[0]


def test_without_labels_models_that_differ_are_held(tmp_path: Path) -> None:
    answered(tmp_path, hits(500, 500), hits(450, 500), known=50)
    found = judged(tmp_path)
    assert found.verdict.decision is Decision.HOLD
    assert found.verdict.reasons[0].endswith("50 rows with a known label; accuracy is judged from 100 on")


def test_a_ghost_that_is_certainly_too_slow_is_rejected_however_accurate(tmp_path: Path) -> None:
    answered(tmp_path, hits(400, 500), hits(480, 500), slower=3)
    found = judged(tmp_path)
    assert found.verdict.decision is Decision.REJECT
    assert "3.00 times" in found.verdict.reasons[0]


def test_a_few_milliseconds_more_are_never_too_slow(tmp_path: Path) -> None:
    answered(tmp_path, hits(400, 500), hits(480, 500), slower=1.4)
    assert judged(tmp_path).verdict.decision is Decision.PROMOTE
    assert judged(tmp_path, tolerated_latency_ms=1).verdict.decision is Decision.REJECT


def test_a_ghost_that_fails_where_the_live_model_answers_is_rejected(tmp_path: Path) -> None:
    ids = [f"r{i}" for i in range(500)]
    write(tmp_path, "live", [prediction(id, label(i), mirrored=True) for i, id in enumerate(ids)])
    write(tmp_path, "ghost", [prediction(id, label(i)) for i, id in enumerate(ids[:480])])
    failed = [{"kind": "prediction", "at": NOON.timestamp(), "id": id, "status": 500, "ms": 1} for id in ids[480:]]
    write(tmp_path, "ghost", failed, process="p2")
    write(tmp_path, "feedback", [truth(id, label(i)) for i, id in enumerate(ids)])
    found = judged(tmp_path)
    assert found.verdict.decision is Decision.REJECT
    assert "20 errors (5xx) of the ghost and 0 of the live model in 500 requests" in found.verdict.reasons[0]


def test_a_ghost_whose_answers_are_missing_is_held(tmp_path: Path) -> None:
    ids = [f"r{i}" for i in range(1000)]
    write(tmp_path, "live", [prediction(id, label(i), mirrored=True) for i, id in enumerate(ids)])
    write(tmp_path, "ghost", [prediction(id, label(i)) for i, id in enumerate(ids[:800])])
    write(tmp_path, "feedback", [truth(id, label(i)) for i, id in enumerate(ids)])
    found = judged(tmp_path)
    assert found.verdict.decision is Decision.HOLD
    assert "of 1,000 mirrored requests the ghost's answer is known for 80.0%" in found.verdict.reasons[0]


def test_the_first_model_is_judged_alone(tmp_path: Path) -> None:
    ids = [f"r{i}" for i in range(500)]
    write(tmp_path, "ghost", [prediction(id, label(i)) for i, id in enumerate(ids)])
    assert judged(tmp_path).verdict.decision is Decision.HOLD
    write(tmp_path, "feedback", [truth(id, label(i) if i % 10 else "01"[label(i) == "0"]) for i, id in enumerate(ids)])
    found = judged(tmp_path)
    assert (found.verdict.decision, found.live_version) == (Decision.PROMOTE, None)
    assert found.verdict.reasons[0].startswith("accuracy is 0.9000 on 500 rows")


def accuracy(minimum: float) -> Criteria:
    return Criteria((Criterion("accuracy", minimum=minimum, maximum_regression=0.01),))


def test_a_metric_that_is_certainly_below_its_minimum_is_rejected_and_one_that_may_be_is_held(tmp_path: Path) -> None:
    answered(tmp_path, hits(450, 500), hits(450, 500))
    assert judged(tmp_path, criteria=accuracy(0.9)).verdict.decision is Decision.PROMOTE
    found = judged(tmp_path, criteria=accuracy(0.91)).verdict
    assert found.decision is Decision.HOLD
    assert "accuracy is 0.9000 on 500 rows (95 %: 0.8706 to 0.9233), below minimum 0.91" in found.reasons[0]
    found = judged(tmp_path, criteria=accuracy(0.95)).verdict
    assert found.decision is Decision.REJECT
    assert found.reasons == ("accuracy is 0.9000 on 500 rows, certainly below minimum 0.95 of [gate.accuracy]",)


def rare(root: Path, found: int, live_found: int | None = None, known: int = 4000, of: int = 20) -> None:
    """4,000 requests, 20 of them fraud, of which the ghost and the live model, if there is one, find so many."""
    ids = [f"r{i}" for i in range(4000)]

    def said(finds: int) -> list[str]:
        return ["fraud"] * finds + ["no"] * (len(ids) - finds)

    if live_found is not None:
        write(root, "live", [prediction(id, s) for id, s in zip(ids, said(live_found), strict=True)])
    write(root, "ghost", [prediction(id, s) for id, s in zip(ids, said(found), strict=True)])
    write(root, "feedback", [truth(id, "fraud" if i < of else "no") for i, id in enumerate(ids[:known])])


@pytest.mark.parametrize("live_found", [None, 0, 18])
def test_a_ghost_that_always_says_no_at_one_in_two_hundred_is_rejected(tmp_path: Path, live_found: int | None) -> None:
    rare(tmp_path, found=0, live_found=live_found)
    verdict = judged(tmp_path).verdict
    assert verdict.decision is Decision.REJECT
    assert "always answering 'no' is not certainly worse (95 %): accuracy is 0.9950 against 0.9950" in verdict.reasons


def test_a_ghost_that_certainly_loses_recall_of_a_rare_class_is_rejected_though_accuracy_hides_it(
    tmp_path: Path,
) -> None:
    rare(tmp_path, found=10, live_found=19)
    verdict = judged(tmp_path).verdict
    assert verdict.decision is Decision.REJECT
    assert verdict.reasons == (
        f"recall is certainly lost (95 % over all classes): of 'fraud' it finds 10 and {LIVE} 19 of 20 rows",
    )


def test_a_ghost_that_finds_none_of_a_class_is_held_also_where_it_has_too_few_rows_to_be_certain(
    tmp_path: Path,
) -> None:
    answered(tmp_path, hits(500, 500), hits(500, 500))
    write(tmp_path, "live", [prediction(f"f{i}", "2") for i in range(2)], process="p2")
    write(tmp_path, "ghost", [prediction(f"f{i}", "1") for i in range(2)], process="p2")
    write(tmp_path, "feedback", [truth(f"f{i}", "2") for i in range(2)], process="p2")
    verdict = judged(tmp_path).verdict
    assert verdict.decision is Decision.HOLD
    assert "of '2' the ghost finds none and the live model 2 of 2 rows: more labels would tell" in verdict.reasons


def test_labels_that_are_all_the_same_promote_nobody(tmp_path: Path) -> None:
    rare(tmp_path, found=0, live_found=0, of=0)
    verdict = judged(tmp_path).verdict
    assert verdict.decision is Decision.HOLD
    assert verdict.reasons == ("every row with a known label is 'no', which does not tell whether others are found",)


def test_without_labels_a_ghost_that_misses_what_is_rare_to_the_live_model_is_held(tmp_path: Path) -> None:
    rare(tmp_path, found=0, live_found=15, known=0)
    verdict = judged(tmp_path).verdict
    assert verdict.decision is Decision.HOLD
    assert "but not where it matters to the live model: for 0 of 15 that are 'fraud' to it" in verdict.reasons[0]


def test_the_gates_tables_judge_the_ghost_too(tmp_path: Path) -> None:
    rare(tmp_path, found=17, live_found=19)
    row = Criterion("recall.fraud", minimum=0.5, maximum_regression=0.05)
    found = judged(tmp_path, criteria=Criteria((row,)))
    assert found.verdict.decision is Decision.HOLD
    assert found.verdict.reasons[0].startswith(
        "recall.fraud is 0.8500 against 0.9500 of the live model, and may really"
    )
    assert judged(tmp_path, criteria=Criteria((Criterion("recall.fraud", minimum=0.5),))).verdict.decision == "promote"
    verdict = judged(tmp_path, criteria=Criteria((Criterion("recall.fraud", maximum_regression=0.3),))).verdict
    assert verdict.decision is Decision.PROMOTE


def test_a_table_for_each_class_rejects_where_one_is_certainly_below(tmp_path: Path) -> None:
    rare(tmp_path, found=10, live_found=10)
    verdict = judged(tmp_path, criteria=Criteria((Criterion("recall", minimum=0.9),))).verdict
    assert verdict.reasons == ("recall.fraud is 0.5000 on 4,000 rows, certainly below minimum 0.9 of [gate.recall]",)


def test_what_events_do_not_tell_is_said(tmp_path: Path) -> None:
    answered(tmp_path, hits(500, 500), hits(500, 500))
    for role in ("live", "ghost"):
        write(tmp_path, role, [prediction("x", "2")], process="p2")
    write(tmp_path, "feedback", [truth("x", "2")], process="p2")
    rows = (*Criteria().rows, Criterion("log_loss", maximum=0.5))
    found = judged(tmp_path, criteria=Criteria(rows)).verdict
    assert "not judged, as events do not tell it: log_loss" in (*found.reasons, *found.found)


def test_rows_of_a_request_are_compared_one_by_one(tmp_path: Path) -> None:
    write(tmp_path, "live", [prediction("r", None, labels=["1", "2", "3"], scores=[0.9, 0.8, 0.7])])
    write(tmp_path, "ghost", [prediction("r", None, labels=["1", "2", "0"], scores=[0.9, 0.8, 0.7])])
    write(tmp_path, "feedback", [{**truth("r"), "labels": ["1", None, "3"]}])
    figures = judged(tmp_path).figures
    assert isinstance(figures.agreement, LabelAgreement)
    assert isinstance(figures.comparison, Comparison)
    assert (figures.agreement.share.hits, figures.agreement.share.total) == (2, 3)
    assert (figures.comparison.both, figures.comparison.only_production, figures.comparison.examples) == (1, 1, 2)


def test_the_latest_label_of_a_request_counts(tmp_path: Path) -> None:
    answered(tmp_path, [True], [True], known=0)
    write(tmp_path, "feedback", [truth("r0", label(0), at=7200), truth("r0", "1", at=3600)])
    figures = judged(tmp_path).figures
    assert figures.accuracy and figures.accuracy.hits == 1


def test_labels_that_do_not_fit_the_rows_are_left_out_and_told(tmp_path: Path) -> None:
    answered(tmp_path, [True], [True], known=0)
    write(tmp_path, "feedback", [{**truth("r0"), "labels": ["1", "1"]}])
    assert (observed(tmp_path).unmatched, judged(tmp_path).figures.comparison) == (1, None)


def test_an_id_that_came_twice_is_not_compared(tmp_path: Path) -> None:
    write(tmp_path, "live", [prediction("r"), prediction("r", "2"), prediction("s")])
    write(tmp_path, "ghost", [prediction("r"), prediction("s")])
    assert observed(tmp_path).pairs.requests == 1


def test_of_several_ghosts_the_last_one_is_reported_and_the_others_are_named(tmp_path: Path) -> None:
    answered(tmp_path, hits(1, 2), hits(2, 2))
    write(tmp_path, "ghost", [prediction("x", at=NOON.timestamp() - 60)], version="0" * 12, process="p9")
    found = observed(tmp_path)
    assert (found.ghost.version, found.live and found.live.version) == (GHOST, LIVE)
    assert found.other_versions == ("ghost 000000000000",)
    assert observed(tmp_path, ghost="0" * 12).ghost.version == "0" * 12


def test_what_is_outside_the_time_asked_for_does_not_count_but_its_labels_do(tmp_path: Path) -> None:
    early = NOON.timestamp() - 7200
    write(tmp_path, "live", [prediction("old", at=early), prediction("new")])
    write(tmp_path, "ghost", [prediction("old", at=early), prediction("new")])
    write(tmp_path, "feedback", [truth("new", at=90_000)])
    found = observed(tmp_path)
    assert (found.pairs.requests, list(found.pairs.truth)) == (1, ["1"])


def test_more_requests_than_fit_are_sampled_by_id_so_that_pairs_stay_pairs(tmp_path: Path) -> None:
    answered(tmp_path, hits(4000, 4000), hits(4000, 4000))
    found = observed(tmp_path, most=1000)
    assert found.live and found.live.requests == 4000
    assert 0 < found.sampled <= 0.25
    assert 250 < found.pairs.requests <= 1000
    assert set(found.live.predictions) == set(found.ghost.predictions)
    assert None not in found.pairs.truth


def test_lost_events_of_a_killed_process_are_told(tmp_path: Path) -> None:
    answered(tmp_path, hits(1, 1), hits(1, 1))
    write(
        tmp_path,
        "live",
        [counters(killed=True, recorded=100, written=93, mirror_offered=50, mirror_sent=40)],
        process="k",
    )
    facts = judged(tmp_path).to_json()
    assert (facts["live"]["lost_events"], facts["live"]["killed"]) == (7, 1)
    assert facts["live"]["counters"]["mirror_sent"] == 40


def test_a_damaged_line_is_counted_and_the_rest_is_read(tmp_path: Path) -> None:
    write(tmp_path, "ghost", [prediction("a"), {"kind": "prediction", "at": NOON.timestamp(), "id": "b"}])
    found = observed(tmp_path)
    assert (found.ghost.requests, found.damaged) == (1, 1)


def test_nothing_to_report_on_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        NothingObservedError, match=r"no events in .*components/events to `components` of deploy.*production and ghost"
    ):
        observed(tmp_path)
    write(tmp_path, "live", [prediction("a")])
    with pytest.raises(NothingObservedError, match=r"no answers of a ghost in .*; deploy one with"):
        observed(tmp_path)


def test_a_suggestion_of_resources_comes_with_its_reasons(tmp_path: Path) -> None:
    live = [usage(4.0, 300e6, 10 * i, requests=1000) for i in range(200)]
    ghost = [usage(1.0 if i % 50 else 1.2, 400e6, 10 * i, requests=250) for i in range(200)]
    write(tmp_path, "live", [prediction("a"), *live])
    write(tmp_path, "ghost", [prediction("a"), *ghost])
    found = judged(tmp_path).sizing
    # A quarter of the traffic: 0.1 cores x 4 / 60 % = 0.67.
    assert (found.cpu, found.memory, found.target) == (0.75, 512 << 20, 0.6)
    assert any("its CPU is taken times 4" in reason for reason in found.reasons)


def test_bursts_lower_the_target_of_the_autoscaler(tmp_path: Path) -> None:
    write(tmp_path, "ghost", [prediction("a"), *(usage(10.0 if i % 40 else 25.0, 1e8, 10 * i) for i in range(200))])
    found = judged(tmp_path).sizing
    assert found.target == 0.4
    assert "p99 of CPU is 2.5 times its median, so more has to be left for bursts" in found.reasons[0]


def test_few_samples_suggest_nothing(tmp_path: Path) -> None:
    write(tmp_path, "ghost", [prediction("a"), *(usage(1.0, 1e8, 10 * i) for i in range(20))])
    assert judged(tmp_path).sizing.missing == (
        "20 samples of CPU and memory, of ten seconds each; a suggestion takes 180"
    )


def test_processes_of_one_host_are_added_up_and_a_container_is_counted_once(tmp_path: Path) -> None:
    for process in ("p1", "p2"):
        lines = [prediction(process), usage(2.0, 1e8, 0, of="process")]
        write(tmp_path, "ghost", lines, process=process, host="one")
    (found,) = observed(tmp_path).ghost.usage
    assert (found.cpu_seconds, found.memory_bytes, found.requests) == (4.0, 2e8, 200)
    for process in ("p3", "p4"):
        write(tmp_path, "ghost", [prediction(process), usage(5.0, 3e8, 0)], process=process, host="one")
    (found,) = observed(tmp_path).ghost.usage
    assert (found.cpu_seconds, found.memory_bytes, found.requests) == (5.0, 3e8, 200)


def test_cpu_that_a_live_service_would_not_use_is_left_out(tmp_path: Path) -> None:
    for process in ("p1", "p2"):
        used = usage(5.0, 3e8, 0) | {"left_out_cpu_seconds": 0.5}
        write(tmp_path, "ghost", [prediction(process), used], process=process, host="one")
    (found,) = observed(tmp_path).ghost.usage
    assert found.cpu_seconds == 4.0


def test_a_shift_of_scores_is_measured() -> None:
    scores = np.linspace(0, 1, 1001)
    assert shift(scores, scores).psi == pytest.approx(0, abs=1e-12)
    moved = shift(scores, np.clip(scores + 0.3, 0, 1))
    assert moved.psi > 0.25
    assert moved.ks == pytest.approx(0.3, abs=0.01)
    assert moved.p_value < 1e-6
    constant = shift(np.ones(10), np.ones(10))
    assert (constant.psi, constant.ks) == (0, 0)


def test_the_interval_of_a_ratio_of_quantiles_holds_the_true_one() -> None:
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(15):
        live = generator.exponential(1, 400)
        ratio, interval = quantile_ratio(live * generator.lognormal(0, 0.1, 400) * 1.3, live)
        assert interval.low <= ratio <= interval.high
        covered += interval.low <= 1.3 <= interval.high
    assert covered >= 12


class Page(HTMLParser):
    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.links: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_tells_the_verdict_and_loads_nothing(tmp_path: Path) -> None:
    answered(tmp_path, hits(480, 500), hits(400, 500))
    page = Page(render(judged(tmp_path)))
    assert "✕ Reject" in page.text
    assert "Accuracy is 0.1600 lower" in page.text
    assert page.links == []
    assert "script" not in page.tags


def test_labels_are_text_and_never_markup(tmp_path: Path) -> None:
    write(tmp_path, "live", [prediction("a", HOSTILE)])
    write(tmp_path, "ghost", [prediction("a", "1")])
    page = Page(render(judged(tmp_path)))
    assert HOSTILE in page.text
    assert "script" not in page.tags


def test_the_page_of_a_first_model_and_of_a_model_without_labels_are_whole(tmp_path: Path) -> None:
    write(tmp_path, "ghost", [prediction("a", None)])
    assert "nothing is live yet" in Page(render(judged(tmp_path))).text
    write(tmp_path, "live", [prediction("a", None)])
    assert "The values of both differ by 0 in the mean over 1 row" in Page(render(judged(tmp_path))).text


def test_the_json_holds_no_nan(tmp_path: Path) -> None:
    answered(tmp_path, hits(1, 2), hits(2, 2))
    found = json.loads(json.dumps(judged(tmp_path).to_json(), allow_nan=False))
    assert found["verdict"]["decision"] == "not enough data"
    assert found["ghost"]["version"] == GHOST


def published(root: Path, target: Target) -> None:
    """The ghost's model in the store, with what it learned."""
    (root / "empty").mkdir()
    publish(LocalStorage(root), f"models/{GHOST}", root / "empty", "model", GHOST, {"targets": [target.to_json()]})


def valued(root: Path, live: float, ghost: float, known: int = 400, of: int = 400) -> None:
    """Both predict prices around 1,000 that are so far off, up and down in turn; some truths become known."""
    published(root, Number("price", "EUR"))
    true = [1000.0 + 10 * (i % 40) for i in range(of)]
    sides = {"live": live, "ghost": ghost}
    for role, error in sides.items():
        said = [value + error * (-1) ** i * (0.5 + i % 3 / 2) for i, value in enumerate(true)]
        write(root, role, [prediction(f"r{i}", None, scores=[value]) for i, value in enumerate(said)])
    write(root, "feedback", [{**truth(f"r{i}"), "labels": [value]} for i, value in enumerate(true[:known])])


PRICES = Criteria((Criterion("mean_absolute_error", maximum=200.0, maximum_regression=1.0),))


def test_a_ghost_that_is_wrong_by_100_everywhere_is_rejected(tmp_path: Path) -> None:
    valued(tmp_path, live=1, ghost=100)
    found = judged(tmp_path, criteria=PRICES)
    assert found.verdict.decision is Decision.REJECT
    assert found.verdict.reasons[0].startswith("mean_absolute_error is 99.8750 against 0.9988 of the live model")


def test_a_ghost_whose_values_are_nearer_is_promoted(tmp_path: Path) -> None:
    valued(tmp_path, live=10, ghost=5)
    found = judged(tmp_path, criteria=PRICES)
    assert found.verdict.decision is Decision.PROMOTE
    assert "comes closer to 400" in " ".join(Page(render(found)).text.split())


def test_with_few_truths_models_that_say_nearly_the_same_cannot_differ(tmp_path: Path) -> None:
    valued(tmp_path, live=10, ghost=10.1, known=3)
    found = judged(tmp_path, criteria=PRICES)
    assert found.verdict.decision is Decision.PROMOTE
    assert "their values differ by 0.09" in found.verdict.reasons[0]


def test_with_few_truths_models_that_are_apart_are_held(tmp_path: Path) -> None:
    valued(tmp_path, live=10, ghost=20, known=3)
    found = judged(tmp_path, criteria=PRICES)
    assert found.verdict.decision is Decision.HOLD
    assert "leaves open which of them is nearer by mean_absolute_error; 3 rows with a known" in found.verdict.reasons[0]


def test_numbers_are_never_read_as_labels(tmp_path: Path) -> None:
    valued(tmp_path, live=1, ghost=100)
    write(tmp_path, "feedback", [{**truth("r0", at=7200), "labels": ["cat"]}], process="p2")
    task = judged(tmp_path, criteria=PRICES).figures.task
    assert task is not None
    assert len(task.rows) == 399


def test_the_gates_tables_have_to_fit_what_the_ghost_predicts(tmp_path: Path) -> None:
    valued(tmp_path, live=1, ghost=1)
    with pytest.raises(SettingsError, match=r"\[gate.accuracy\]: target 'price' .* has no accuracy"):
        judged(tmp_path)
