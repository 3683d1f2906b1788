"""`deploy`, `rollback` and `status`: what runs in the cluster."""

import sys
from dataclasses import asdict
from typing import Any

import click

from mlplatform.config.hints import hint
from mlplatform.delivery.console import Console
from mlplatform.delivery.errors import BadRequestError, RefusedError, UnderWayError
from mlplatform.delivery.ghost.trial import set_sample_rate
from mlplatform.delivery.images import build
from mlplatform.delivery.images.commands import find_model, serving_recipe
from mlplatform.delivery.images.registry import Registry
from mlplatform.delivery.options import ENVIRONMENTS, console_option, dry_run_option, environment_option, store_option
from mlplatform.delivery.releases import approval
from mlplatform.delivery.releases.history import DONE, STOP, Entry, good, newest_first
from mlplatform.delivery.releases.release import Releaser
from mlplatform.delivery.settings import DeliverySettings
from mlplatform.store.models import columns
from mlplatform.store.releases import production
from mlplatform.store.storage import Storage


@click.command()
@environment_option
@click.option("--image", metavar="REF", help="The serving image, by digest, as `bundle` prints it.")
@click.option(
    "--model",
    metavar="VERSION",
    help="Instead of --image: the one that `bundle` built for this model version and this code.",
)
@store_option
@dry_run_option
@click.option(
    "--sample-rate",
    metavar="SHARE",
    type=click.FloatRange(0, 1),
    help="For a ghost: the share of live requests to copy to it.  [default: that of the overlay production]",
)
@console_option
def deploy(
    environment: str,
    image: str | None,
    model: str | None,
    store: Storage,
    dry_run: bool,
    sample_rate: float | None,
    console: Console,
) -> None:
    """Deploy a serving image, wait until it runs, and test it with predictions.

    The overlay deploy/k8s/overlays/ENVIRONMENT is applied with the image by digest and the version as label. If the
    new pods do not start, or the service does not answer with the right model, what ran before is brought back and the
    pods' states, events and last log lines are shown. --dry-run prints the manifests and needs no cluster.
    """
    if (image is None) == (model is None):
        raise BadRequestError("give either --image REF or --model VERSION")
    if sample_rate is not None and environment != "ghost":
        raise BadRequestError(f"--sample-rate {sample_rate:g}: of --environment ghost only, not of {environment}")
    releaser = Releaser(store, console)
    release = releaser.of_image(environment, image or _bundled(store, model, releaser.settings))
    if dry_run:
        manifests = releaser.render(release)
        console.result(manifests, {"manifests": manifests, "model": release.model, "image": release.image.reference})
        return
    approval.check(environment, release.model, release.image.reference)
    entry = releaser.release(release)
    if sample_rate is not None:
        set_sample_rate(releaser.cluster, sample_rate)
        console.say(f"deploy: copies of {sample_rate:g} of the live requests, in a minute or two")
    show(entry, console)


@click.command()
@environment_option
@click.option(
    "--to", metavar="VERSION", help="The newest good release of this model version.  [default: the one before]"
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation on a terminal.")
@store_option
@dry_run_option
@console_option
def rollback(environment: str, to: str | None, yes: bool, store: Storage, dry_run: bool, console: Console) -> None:
    """Go back to the good release before the one that runs, or to that of a model version.

    A second rollback goes to the one before that, and so on. Pods start from the template that they had then, settings
    included, if the cluster has it still.
    """
    releaser = Releaser(store, console)
    if not dry_run:
        releaser.settle()
    running = releaser.cluster.running(environment)
    entry = _release_before(store, environment, running.replica_set if running else "", to)
    if entry is None:
        asked = f"of model {to} " if to else "before the one that runs "
        raise RefusedError(
            f"there is no good release {asked}in {environment}; {hint(f'history --environment {environment}')}"
        )
    back = f"back to {entry.model}, released {entry.at[:19]} by {entry.by}"
    if dry_run:
        console.result(f"would go {back}", asdict(entry))
        return
    if not yes and sys.stdin.isatty() and sys.stderr.isatty():
        runs = f"runs {running.version}" if running else "runs nothing"
        click.confirm(f"{environment} {runs}; go {back}?", abort=True, err=True)
    show(releaser.bring_back(environment, entry), console)


def _release_before(store: Storage, environment: str, current: str, version: str | None) -> Entry | None:
    """The newest good release but the current ReplicaSet's, or that of a model version; None if there is none."""
    releases = good(store, environment)
    if version is not None:
        # Also one that was gone back from: whoever names it wants it.
        releases = [entry for entry in reversed(list(newest_first(store, environment))) if _released(entry, version)]
    elif current and current in [entry.replica_set for entry in releases]:
        while releases[-1].replica_set != current:
            releases.pop()
    return next((entry for entry in reversed(releases) if entry.replica_set != current), None)


def _released(entry: Entry, version: str) -> bool:
    return entry.outcome == DONE and entry.action != STOP and entry.model == version


@click.command()
@store_option
@console_option
def status(store: Storage, console: Console) -> None:
    """Show what runs in each environment, and which version the store says is in production.

    A release that was cut off, as by a power failure, is finished or taken back first.
    """
    releaser = Releaser(store, console)
    try:
        releaser.settle()
        under_way = ""
    except UnderWayError as error:
        under_way = f"\n{error}"
    said = production(store)
    heading = ("environment", "version", "pods ready", "state", "image")
    rows, values = [], list[dict[str, Any]]()
    for environment in ENVIRONMENTS:
        running = releaser.cluster.running(environment)
        if running is None:
            rows.append((environment, "-", "-", "nothing runs", "-"))
            values.append({"environment": environment, "running": None})
            continue
        state = "settled" if running.settled else "being rolled out"
        rows.append((environment, running.version, f"{running.ready} of {running.wanted}", state, running.image))
        values.append({"environment": environment, "running": asdict(running)})
    text = columns([heading, *rows]) + f"\nin production, as the store has it: {said or 'nothing yet'}{under_way}"
    live = releaser.cluster.running("production")
    if live and said and not live.version.startswith(said):
        text += f"\nTHEY DIFFER: the cluster runs {live.version}; deploy or roll back to make them one"
    if live is None and said is None:
        text += f"\nthe first release: {hint('deploy --environment staging --model VERSION')}"
    console.result(text, {"environments": values, "production": said})


def show(entry: Entry, console: Console) -> None:
    """The result of a release."""
    console.result(f"{entry.environment} runs {entry.model}\n  image  {entry.image}", asdict(entry))


def _bundled(store: Storage, version: str | None, settings: DeliverySettings) -> str:
    """The image of a model and this code. Raises RefusedError if there is none."""
    model = find_model(store, version)
    tag = serving_recipe(model, settings).tag()
    host, repository = build.repository("serving", settings)
    image = build.look_up(Registry(host), repository, tag)
    if image is None:
        raise RefusedError(
            f"no image of model {model.id} and this code in {host}/{repository} yet; make it first: "
            f"{hint(f'bundle {model.id}')}"
        )
    return image.reference
