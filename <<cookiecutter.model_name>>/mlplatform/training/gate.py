"""The gate's verdict on a run: kept in the store with its report, and read again while it holds.

A verdict depends on what is asked for and on the model in production, so its name follows from both:
`runs/<run>/judged/<name>`, with report.html and metrics.json. If something else is asked for, or with another model in
production, the same run is judged anew.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlplatform.contract import gate, targets
from mlplatform.contract.comparison import Opponent
from mlplatform.contract.criteria import Criteria
from mlplatform.contract.errors import BadDataError
from mlplatform.contract.opponent import UnusableError, choose, in_production
from mlplatform.contract.targets import Target
from mlplatform.store import manifest
from mlplatform.store.manifest import Manifest
from mlplatform.training import findings, production, report
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


def check_labels(dataset: Manifest, target: Target, criteria: Criteria) -> None:
    """Raise BadDataError if a label has no example to learn from or to be measured on, and nobody said it may; or if
    the target cannot be learned from a split, or be measured by it.
    """
    if criteria.asks_nothing:
        return
    for split, what in (("train", "learn from"), ("test", "measure by")):
        if fault := target.split_fault(dataset.properties["splits"][split]):
            raise BadDataError(
                f"dataset {dataset.id} has {fault} in its {split} split, so there is nothing to {what}; add examples, "
                "or divide them otherwise"
            )
        lacking = [
            label
            for label, examples in dataset.properties["splits"][split].get("classes", {}).items()
            if not examples and label not in criteria.absent_labels
        ]
        if lacking:
            raise BadDataError(
                f"dataset {dataset.id} has no example of {', '.join(map(repr, lacking[:10]))} in its {split} split, so "
                f"there is nothing to {what}; add examples, take the label out of the model's labels, or allow it in "
                f"service.toml: [gate] absent_labels = {json.dumps(lacking, ensure_ascii=False)}"
            )


def is_open(results: Results) -> bool:
    """Whether the store has a verdict that holds now and opens the gate. Raises StorageError."""
    storage = results.context.storage
    try:
        judged = manifest.find(storage, _prefix(results, in_production(storage)))
    except UnusableError:
        return False
    return judged is not None and bool(judged.properties["passed"])


def judge(results: Results) -> Judged:
    """The verdict against the model that is in production now. Raises StorageError or ArtifactError.

    A model in production that cannot be compared with raises nothing: it closes the gate.
    """
    storage = results.context.storage
    choice = choose(storage, results.run_id, results.properties())
    opponent, compared = choice.opponent, None
    if opponent is None and choice.production is not None:
        try:
            if manifest.find(storage, _prefix(results, choice.production)) is None:
                opponent, compared = _compare(results, choice.production)
        except UnusableError as error:
            opponent = Opponent(unusable=str(error))
    opponent = opponent or Opponent()
    # The reason is part of the name: once production is mended, the run is judged anew.
    prefix = _prefix(results, choice.production, opponent.unusable)
    if manifest.find(storage, prefix) is None:
        _publish(results, prefix, opponent, compared)
    verdict, content = manifest.fetch(storage, prefix, results.context.work)
    return Judged(verdict, content, prefix, storage.url)


def _compare(results: Results, current: Manifest) -> tuple[Opponent, findings.Compared]:
    """The comparison with production, for the gate and for the report. Raises UnusableError."""
    context = results.context
    test = results.split("test")
    theirs = production.predict(current, context.storage, context.work, test, context.parameters.batch_size)
    target = results.target
    # Read as it was published, by thresholds of its own.
    there = targets.of_manifest(current.properties) or target
    other = there.rows(results.truth("test"), theirs)
    compared = findings.Compared(
        version=current.id,
        created_at=current.created_at,
        metrics=there.metrics(other),
        test=other,
        may_have_learned=production.may_have_learned(current, results.properties()),
    )
    return target.compare(current.id, results.test_rows(), other, context.criteria), compared


def _publish(results: Results, prefix: str, opponent: Opponent, compared: findings.Compared | None) -> None:
    context, metrics, test = results.context, results.metrics(), results.test_rows()
    target = results.target
    constant = target.against_constant(test, context.criteria, results.truth("train"))
    verdict = gate.judge(target, metrics, context.criteria, opponent, constant)
    made = findings.Findings(
        service=context.service,
        schema=replace(context.schema, target=target),
        run=results.run_id,
        trained=results.trained()[0],
        dataset=results.prepared(),
        history=results.history(),
        metrics=metrics,
        mistakes=report.collect_mistakes(target, results.split("test"), test),
        test=test,
        validation=results.validation_rows(),
        verdict=verdict,
        compared=compared,
    )
    with TemporaryDirectory(dir=context.work) as temporary:
        directory = Path(temporary)
        write_json(directory / "metrics.json", metrics)
        (directory / "report.html").write_text(report.render(made), encoding="utf-8")
        manifest.publish(context.storage, prefix, directory, "judged", results.run_id, verdict.to_json())


def _prefix(results: Results, current: Manifest | None, unusable: str = "") -> str:
    against: Any = [current.id, current.content] if current else None
    content = json.dumps([against, unusable, results.context.criteria.to_json()], sort_keys=True)
    return f"{results.prefix}/judged/{hashlib.sha256(content.encode()).hexdigest()[:12]}"
