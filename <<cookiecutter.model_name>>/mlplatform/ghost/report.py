"""The report on a ghost: JSON for programs, and one self-contained HTML file for people."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from mlplatform.contract.comparison import Comparison
from mlplatform.contract.criteria import Criteria
from mlplatform.contract.events import MIRROR_COUNTERS, MIRROR_RESULTS
from mlplatform.ghost import sizing, statistics, verdict
from mlplatform.ghost.observed import Floats, Observed, Side
from mlplatform.ghost.settings import GhostSettings
from mlplatform.ghost.sizing import Sizing
from mlplatform.ghost.statistics import Figures
from mlplatform.ghost.verdict import Decision, Verdict
from mlplatform.reporting import charts, page
from mlplatform.store.moments import iso

TEMPLATE = Path(__file__).with_name("report_template.html")
SHOWN_DISAGREEMENTS = 12
SHOWN_LABELS = 30
_HEADINGS = {
    Decision.PROMOTE: ("✓ Promote", ""),
    Decision.HOLD: ("◦ Hold", " open"),
    Decision.REJECT: ("✕ Reject", " closed"),
    Decision.NOT_ENOUGH_DATA: ("… Not enough data", " open"),
}


@dataclass(frozen=True)
class Report:
    """The observations, the figures computed from them, and the verdict."""

    made_at: datetime
    observed: Observed
    figures: Figures
    sizing: Sizing
    verdict: Verdict
    settings: GhostSettings
    criteria: Criteria

    @property
    def version(self) -> str:
        """The ghost's model version."""
        return self.observed.ghost.version

    @property
    def live_version(self) -> str | None:
        """The live model version, None where nothing was live."""
        return self.observed.live.version if self.observed.live else None

    def of_targets(self) -> "dict[str, Report]":
        """Of several targets by name what is of each; else empty."""
        return {
            name: replace(self, observed=of, figures=self.figures.targets[name], criteria=self.criteria.of(name))
            for name, of in self.observed.of_targets.items()
        }

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values; the page shows nothing that is not in here."""
        observed = self.observed
        return {
            "service": observed.service,
            "made_at": iso(self.made_at),
            "since": iso(observed.since),
            "until": iso(observed.until),
            "ghost": {"version": self.version, **_side(observed.ghost)},
            "live": {"version": self.live_version, **_side(observed.live)} if observed.live else None,
            "other_versions": list(observed.other_versions),
            "requests": observed.pairs.requests if observed.live else len(observed.alone.ms),
            "sampled": observed.sampled,
            "labels": observed.labels,
            "unmatched": observed.unmatched,
            "unlike": observed.unlike or None,
            "segments": observed.segments,
            "damaged": observed.damaged,
            "verdict": self.verdict.to_json(),
            **self.figures.to_json(),
            "sizing": self.sizing.to_json(),
            "settings": self.settings.model_dump(exclude={*GhostSettings.also_of_the_gate}),
            "gate": self.criteria.to_json(),
        }


def make(observed: Observed, criteria: Criteria, settings: GhostSettings, made_at: datetime) -> Report:
    """Compute the figures and the verdict. criteria: the gate's tables.

    Raises SettingsError if a table cannot apply to what the ghost predicts.
    """
    criteria = observed.target.own(criteria) if observed.guessed else observed.target.fitted(criteria)
    figures = statistics.compute(observed, criteria)
    return Report(
        made_at=made_at,
        observed=observed,
        figures=figures,
        sizing=sizing.suggest(observed.ghost, observed.live),
        verdict=verdict.decide(observed, figures, criteria, settings),
        settings=settings,
        criteria=criteria,
    )


def render(report: Report) -> str:
    """The page."""
    heading, kind = _HEADINGS[report.verdict.decision]
    parts = [
        {"name": name, "block": page.blocks(TEMPLATE, **_of_target(of))} for name, of in report.of_targets().items()
    ]
    return page.render(
        TEMPLATE,
        heading=heading,
        kind=kind,
        parts=parts,
        mirror_counters=MIRROR_COUNTERS,
        waiting=_waiting(report.observed.live),
        waiting_in_ghost=_waiting(report.observed.ghost),
        **_of_target(report),
    )


def _of_target(report: Report) -> dict[str, Any]:
    """What the template shows of a target, and what it says of all in other words."""
    figures = report.figures
    return {
        "report": report,
        "facts": report.to_json(),
        "figures": figures,
        "charts": _charts(report),
        "asked": _asked(report),
        "target": report.observed.target,
        "recall": _recall(figures),
        "margin": report.criteria.margin(report.observed.target.accuracy),
        "disagreements": figures.agreement.disagreements if figures.agreement else (),
        "shown_disagreements": SHOWN_DISAGREEMENTS,
    }


def _asked(report: Report) -> list[dict[str, Any]]:
    """The gate's tables: what each asks for, and the figures of both."""
    task = report.figures.task
    rows = []
    for row in report.criteria.rows:
        bound = row.minimum if row.minimum is not None else row.maximum
        rows.append(
            {
                "metric": f"{row.name} of each class" if row.of_each_class else row.name,
                "least": row.facts.higher_is_better,
                "bound": bound if bound is not None and math.isfinite(bound) else None,
                "measured": task.metrics.get(row.metric) if task else None,
                "change": task.opponent.changes.get(row.metric) if task else None,
                "margin": row.maximum_regression,
            }
        )
    return rows


def _recall(figures: Figures) -> list[dict[str, Any]]:
    """By label the rows that each of the two finds; with many labels, those where the ghost loses most."""
    classes = figures.task.opponent.classes if figures.task else {}
    rows = [
        {
            "label": label,
            "rows": counted.examples,
            "ghost": counted.both + counted.only_model,
            "live": counted.both + counted.only_production,
            "difference": counted.difference,
        }
        for label, counted in classes.items()
    ]
    return sorted(rows, key=_difference)[:SHOWN_LABELS] if len(rows) > SHOWN_LABELS else rows


def _difference(row: Mapping[str, Any]) -> float:
    return float(row["difference"])


def _charts(report: Report) -> Mapping[str, Any]:
    figures, observed = report.figures, report.observed
    drawn: dict[str, Any] = {}
    if figures.accuracy:
        rows = [("ghost", figures.accuracy)]
        rows += [("live", figures.live_accuracy)] if figures.live_accuracy else []
        drawn["accuracy"] = charts.intervals(
            [(name, share.interval().low, share.value, share.interval().high) for name, share in rows]
        )
    if isinstance(figures.comparison, Comparison):
        interval = figures.comparison.score_interval()
        drawn["difference"] = charts.difference(
            interval.low, figures.comparison.difference, interval.high, report.criteria.margin(observed.target.accuracy)
        )
    if figures.shift:
        drawn["scores"] = charts.histograms(
            observed.target.noun, figures.shift.edges, figures.shift.ghost, figures.shift.live
        )
    paired = observed.pairs.requests > 0
    ghost = _percentiles(observed.pairs.ghost_ms if paired else observed.alone.ms)
    drawn["latency"] = charts.percentiles(
        "latency in ms", ghost, _percentiles(observed.pairs.live_ms) if paired else []
    )
    return drawn


def _percentiles(values: Floats) -> list[float]:
    return [max(float(value), 1e-3) for value in np.quantile(values, np.arange(1, 100) / 100)]


def _waiting(side: Side | None) -> int:
    """Copies for the ghost without a recorded outcome: still in the queue, or lost with a process."""
    if side is None:
        return 0
    ended = sum(side.counters[f"mirror_{name}"] for name in MIRROR_RESULTS)
    return max(0, side.counters["mirror_offered"] - ended)


def _side(side: Side) -> dict[str, Any]:
    return {
        "requests": side.requests,
        "errors": side.errors,
        "mirrored": side.mirrored,
        "repeated": len(side.repeated),
        "processes": side.processes,
        "killed": side.killed,
        "lost_events": side.lost_events,
        "counters": side.counters,
    }
