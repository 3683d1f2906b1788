"""The verdict on a run: kept in the store with its report, and found again while it holds.

A verdict depends on what is asked for and on the model in production, so it lies below a name that follows from both:
`runs/<run>/judged/<name>`, with report.html and metrics.json. Asked for something else, or when production has moved
on, the same run is judged anew.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlplatform.contract import gate
from mlplatform.store import manifest
from mlplatform.store.manifest import Manifest
from mlplatform.training import evaluation, production, report
from mlplatform.training.production import Production, UnusableError
from mlplatform.training.results import Results, write_json


@dataclass(frozen=True)
class Judged:
    """A verdict in the store: its manifest, with `gate.Verdict.to_json` as properties, and where its files lie.

    content: the files on this machine; prefix: the artifact's in the store with the URL `store`.
    """

    manifest: Manifest
    content: Path
    prefix: str
    store: str

    @property
    def passed(self) -> bool:
        """Whether the model may be published."""
        return bool(self.manifest.properties["passed"])

    @property
    def report(self) -> str:
        """Key of the report in the store."""
        return f"{self.prefix}/{self.manifest.content}/report.html"

    @property
    def report_url(self) -> str:
        """Where a person finds the report."""
        return f"{self.store}/{self.report}"


def is_open(results: Results) -> bool:
    """Whether a verdict that holds now is there, and opens the gate. Raises StorageError."""
    storage = results.context.storage
    try:
        judged = manifest.find(storage, _prefix(results, production.find(storage)))
    except UnusableError:
        return False
    return judged is not None and bool(judged.properties["passed"])


def judge(results: Results) -> Judged:
    """The verdict against what is in production now. Raises StorageError or ArtifactError, never for production's sake:
    a model in production that cannot be compared with closes the gate.
    """
    storage = results.context.storage
    current: Production | None = None
    opponent, compared, unusable = gate.Opponent(), None, ""
    try:
        current = production.find(storage)
        if manifest.find(storage, _prefix(results, current)) is None:
            opponent, compared = _hold_against(results, current)
    except UnusableError as error:
        # Part of the name too: once production is mended, the run is judged anew.
        unusable = str(error)
        opponent = gate.Opponent(unusable=unusable)
    prefix = _prefix(results, current, unusable)
    if manifest.find(storage, prefix) is None:
        _publish(results, prefix, opponent, compared)
    found, content = manifest.fetch(storage, prefix, results.context.work)
    return Judged(found, content, prefix, storage.url)


def _hold_against(results: Results, current: Production | None) -> tuple[gate.Opponent, report.Compared | None]:
    """What the gate and the report are told about production. Raises UnusableError."""
    context = results.context
    if current is None:
        return gate.Opponent(skipped="there is no model in production yet"), None
    if current.version == results.run_id:
        return gate.Opponent(skipped="this is the model in production"), None
    trained = results.trained()[0].properties
    reason = gate.why_incomparable(current.manifest.properties, trained)
    if reason:
        return gate.Opponent(skipped=f"model {current.version} is in production, and {reason}"), None
    test = results.split("test")
    theirs = production.predict(current, context.storage, context.work, test, context.parameters.batch_size)
    labels = results.test_labels()
    comparison = gate.compare(
        current.version,
        labels,
        evaluation.predicted_classes(results.predictions()),
        evaluation.predicted_classes(theirs),
    )
    compared = report.Compared(
        version=current.version,
        created_at=current.manifest.created_at,
        metrics=evaluation.metrics(theirs, labels, context.schema.labels),
        may_have_learned=production.may_have_learned(current, trained),
    )
    return gate.Opponent(comparison), compared


def _publish(results: Results, prefix: str, opponent: gate.Opponent, compared: report.Compared | None) -> None:
    context, metrics = results.context, results.metrics()
    verdict = gate.judge(metrics, _thresholds(results), opponent)
    findings = report.Findings(
        service=context.service,
        schema=context.schema,
        run=results.run_id,
        trained=results.trained()[0],
        dataset=results.prepared(),
        history=results.history(),
        metrics=metrics,
        mistakes=report.collect_mistakes(
            results.split("test"), results.predictions(), results.test_labels(), context.schema.labels
        ),
        verdict=verdict,
        compared=compared,
    )
    with TemporaryDirectory(dir=context.work) as temporary:
        directory = Path(temporary)
        write_json(directory / "metrics.json", metrics)
        (directory / "report.html").write_text(report.render(findings), encoding="utf-8")
        manifest.publish(context.storage, prefix, directory, "judged", results.run_id, verdict.to_json())


def _thresholds(results: Results) -> gate.Thresholds:
    parameters = results.context.parameters
    return gate.Thresholds(parameters.minimum_accuracy, parameters.maximum_regression)


def _prefix(results: Results, current: Production | None, unusable: str = "") -> str:
    against: Any = [current.version, current.manifest.content] if current else None
    content = json.dumps([against, unusable, asdict(_thresholds(results))], sort_keys=True)
    return f"{results.prefix}/judged/{hashlib.sha256(content.encode()).hexdigest()[:12]}"
