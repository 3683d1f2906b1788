"""`promote`: what was tried as a ghost goes to production."""

from datetime import UTC, datetime

import click

from artifacts.releases import production
from artifacts.settings import load
from artifacts.storage import Storage
from delivery.console import Console
from delivery.deploy import show
from delivery.errors import RefusedError
from delivery.ghost.settings import GhostSettings
from delivery.options import console_option, dry_run_option, store_option
from delivery.release import Releaser


@click.command()
@click.option("--override", metavar="REASON", help="Promote without a good report, and keep why in the history.")
@store_option
@dry_run_option
@console_option
def promote(override: str | None, store: Storage, dry_run: bool, console: Console) -> None:
    """Bring the image that runs as the ghost into production.

    Refused with exit code 3 unless the newest ghost report on its model says `promote`, compares it with what is in
    production, and is not older than report_days of [ghost].
    """
    # Imported late: SciPy takes a second, which the other commands need not wait for.
    from delivery.ghost import reports

    releaser = Releaser(store, console)
    ghost = releaser.cluster.running("ghost")
    if ghost is None:
        raise RefusedError(
            "no ghost runs; the first: python -m delivery deploy --environment ghost --model VERSION, then after a day "
            "of traffic: python -m delivery ghost-report"
        )
    release = releaser.of_image("production", ghost.image, "promote", f"in spite of it: {override}" if override else "")
    days, now = load(GhostSettings).report_days, datetime.now(UTC)
    objection = reports.objection(store, release.model, production(store), days, now)
    if objection and not override:
        raise RefusedError(f"{release.model} is not promoted: {objection}")
    if objection:
        console.say(f"promote: {objection}; promoted in spite of it: {override}")
    if dry_run:
        console.result(f"would bring {release.model} to production: {release.image.reference}", None)
        return
    show(releaser.release(release), console)
