"""`ghost-report` and `feedback`."""

from datetime import UTC, datetime
from pathlib import Path

import click

from mlplatform.config.settings import ServiceSettings, load
from mlplatform.contract.events import EventsError
from mlplatform.contract.parameters import PipelineParameters, criteria_of
from mlplatform.delivery.console import Console
from mlplatform.delivery.errors import BadRequestError, DeliveryError, RefusedError
from mlplatform.delivery.ghost import labels
from mlplatform.delivery.options import console_option, store_option
from mlplatform.ghost.settings import GhostSettings, of_ghost
from mlplatform.store import moments
from mlplatform.store.storage import Storage


@click.command("ghost-report")
@click.option(
    "--since", default="24h", show_default=True, help="Start of the period: 90m, 24h or 7d ago, or a time in ISO 8601."
)
@click.option("--version", metavar="MODEL", help="Model version of the ghost; default: the one that answered last.")
@click.option("--output", type=click.Path(path_type=Path), help="Also write report.html into a directory.")
@store_option
@console_option
def ghost_report(since: str, version: str | None, output: Path | None, store: Storage, console: Console) -> None:
    """Compare a ghost with the live model: accuracy, agreement, latency, errors, resources, and a verdict.

    The store keeps the report; `promote` reads it there.
    """
    # Imported late: SciPy takes a second to import, and the other commands do not need it.
    from mlplatform.ghost import report, reports
    from mlplatform.ghost.observed import NothingObservedError, observe

    now = datetime.now(UTC)
    begin, settings, service = moment(since, now), load(GhostSettings), load(ServiceSettings).name
    criteria = of_ghost(criteria_of(load(PipelineParameters)), settings)
    console.say(f"reading events of {service} since {begin:%Y-%m-%d %H:%M} UTC from {store.url}")
    try:
        observed = observe(store, service, begin, now, settings.sample_requests, version)
    except NothingObservedError as error:
        raise RefusedError(str(error)) from None
    except EventsError as error:
        raise DeliveryError(str(error)) from None
    made = report.make(observed, criteria, settings, now)
    page = report.render(made)
    url = f"{store.url}/{reports.save(store, made, page)}"
    if output:
        output.mkdir(parents=True, exist_ok=True)
        (output / "report.html").write_text(page, encoding="utf-8")
    verdict = made.verdict
    beside = f" beside {made.live_version}" if made.live_version else ""
    text = [f"{verdict.decision.value}: ghost {made.version}{beside}", *(f"  {reason}" for reason in verdict.reasons)]
    console.result("\n".join([*text, f"report: {url}"]), {**made.to_json(), "report": url})


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@store_option
@console_option
def feedback(file: Path, store: Storage, console: Console) -> None:
    """Store ground truth: a FILE of JSON lines or CSV with request_id and label."""
    given = labels.read(file)
    new = labels.save(store, load(ServiceSettings).name, given, datetime.now(UTC))
    text = f"{len(given)} labels" if new else f"{len(given)} labels, all of them known already"
    console.result(text, {"labels": len(given), "new": bool(new)})


def moment(since: str, now: datetime) -> datetime:
    """The moment that 90m, 24h, 7d (ago) or an ISO 8601 time names; UTC by default. Raises BadRequestError."""
    try:
        return moments.since(since, now)
    except ValueError:
        raise BadRequestError(f"--since is {since!r}; expected such as 90m, 24h, 7d or 2026-11-23T12:00") from None
