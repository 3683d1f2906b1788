"""`promote`: bring the ghost's image into production."""

from datetime import UTC, datetime

import click

from mlplatform.config.hints import hint
from mlplatform.config.settings import load
from mlplatform.delivery.console import Console
from mlplatform.delivery.errors import RefusedError
from mlplatform.delivery.options import console_option, dry_run_option, store_option
from mlplatform.delivery.releases import approval
from mlplatform.delivery.releases.deploy import show
from mlplatform.delivery.releases.release import Releaser
from mlplatform.ghost.settings import GhostSettings
from mlplatform.store.releases import production
from mlplatform.store.storage import Storage


@click.command()
@click.option("--model", metavar="VERSION", help="Only if the ghost is this model version.  [default: whichever it is]")
@click.option("--image", metavar="REF", help="Only if the ghost runs this image, by digest.")
@click.option("--override", metavar="REASON", help="Promote without a good report; the history keeps the reason.")
@store_option
@dry_run_option
@console_option
def promote(
    model: str | None, image: str | None, override: str | None, store: Storage, dry_run: bool, console: Console
) -> None:
    """Deploy the image that runs as the ghost to production.

    Refused with exit code 3 unless the newest ghost report on its model says `promote`, compares it with what is in
    production, and is not older than report_days of [ghost]; with --model or --image, also if the ghost is another one.
    """
    releaser = Releaser(store, console)
    if not dry_run:
        releaser.settle()
    ghost = releaser.cluster.running("ghost")
    if ghost is None:
        raise RefusedError(
            f"no ghost runs; the first: {hint('deploy --environment ghost --model VERSION')}, "
            f"then after a day of traffic: {hint('ghost-report')}"
        )
    release = releaser.of_image("production", ghost.image, "promote", f"in spite of it: {override}" if override else "")
    reference = release.image.reference
    if model not in (None, release.model) or image not in (None, reference):
        wanted = " in ".join(filter(None, [model, image]))
        raise RefusedError(
            f"the ghost is {release.model} in {reference} now, not {wanted}; look at it again: {hint('preview')}"
        )
    objection = objection_to(store, release.model)
    if objection and not override:
        raise RefusedError(f"{release.model} is not promoted: {objection}")
    if objection:
        console.say(f"promote: {objection}; promoted in spite of it: {override}")
    if dry_run:
        console.result(f"would bring {release.model} to production: {release.image.reference}", None)
        return
    approval.check("production", release.model, reference)
    show(releaser.release(release), console)


def objection_to(store: Storage, version: str) -> str:
    """Why the ghost's newest report does not speak for promoting it now; empty if it does. Raises StorageError."""
    # Imported late: SciPy takes a second to import, and the other commands do not need it.
    from mlplatform.ghost import reports

    return reports.objection(store, version, production(store), load(GhostSettings).report_days, datetime.now(UTC))
