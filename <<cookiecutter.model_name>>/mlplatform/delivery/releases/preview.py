"""`preview`: what a release to production would bring, for the person who is asked to approve it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from mlplatform.config.hints import hint
from mlplatform.delivery.console import Console
from mlplatform.delivery.errors import RefusedError
from mlplatform.delivery.images.commands import find_model
from mlplatform.delivery.options import console_option, store_option
from mlplatform.delivery.releases import gate
from mlplatform.delivery.releases.promote import objection_to
from mlplatform.delivery.releases.release import Releaser
from mlplatform.store.releases import production
from mlplatform.store.storage import MissingKeyError, Storage


@dataclass(frozen=True)
class Preview:
    """What would be released: model version and image by digest, and in one line over what and what speaks for it."""

    model: str
    image: str
    summary: str


@click.command()
@click.option("--image", metavar="REF", help="Of `deploy` with this serving image.  [default: of `promote`]")
@click.option("--override", metavar="REASON", help="Of `promote` with this reason to do so without a good report.")
@click.option("--report", type=click.Path(path_type=Path), help="Also fetch the report that it rests on.")
@store_option
@console_option
def preview(image: str | None, override: str | None, report: Path | None, store: Storage, console: Console) -> None:
    """Show what a release to production would bring: the model, the one that it replaces, and what speaks for it.

    Of the ghost, as `promote` would release it, those are the verdict and the figures of its newest report; of an
    image, as `deploy` would, the gate's answer and the accuracy. Refused with exit code 3 where `promote` would be.
    """
    releaser = Releaser(store, console)
    shown = _of_image(releaser, image, report) if image is not None else _of_ghost(releaser, override, report)
    text = f"{shown.summary}\n  image  {shown.image}"
    console.result(text, {"model": shown.model, "image": shown.image, "summary": shown.summary})


def _of_image(releaser: Releaser, image: str, report: Path | None) -> Preview:
    release = releaser.of_image("production", image)
    model = find_model(releaser.store, release.model)
    answer = gate.ask(model, releaser.store)
    if report is not None and model.properties.get("report"):
        _fetch(releaser.store, [f"models/{model.id}/{model.content}/report.html"], report, releaser.console)
    return Preview(model.id, image, f"deploy {model.id}{_over(releaser.store)}: {answer.said}")


def _of_ghost(releaser: Releaser, override: str | None, report: Path | None) -> Preview:
    # Imported late: SciPy takes a second to import, and the other commands do not need it.
    from mlplatform.ghost import reports

    ghost = releaser.cluster.running("ghost")
    if ghost is None:
        raise RefusedError(f"no ghost runs; the first: {hint('deploy --environment ghost --model VERSION')}")
    release = releaser.of_image("production", ghost.image, "promote")
    objection = objection_to(releaser.store, release.model)
    if objection and not override:
        raise RefusedError(f"{release.model} cannot be promoted: {objection}")
    newest = reports.latest(releaser.store, release.model)
    if report is not None and newest is not None:
        key = max(releaser.store.keys(f"{reports.PREFIX}/{release.model}/")).rpartition(".")[0]
        _fetch(releaser.store, [f"{key}.html", f"{key}.json"], report, releaser.console)
    told = [_figures(newest) if newest else "no report", f"in spite of it: {override}" if objection else ""]
    summary = f"promote {release.model}{_over(releaser.store)}: {'; '.join(filter(None, told))}"
    return Preview(release.model, release.image.reference, summary)


def _over(store: Storage) -> str:
    live = production(store)
    return f" over {live}" if live else ", the first release"


def _figures(report: dict[str, Any]) -> str:
    """The verdict, and how far a ghost agrees with the live model and is better, of its report, in one line."""
    told = [f"the report says {report['verdict']['decision']}"]
    if report.get("agreement"):
        told.append(f"agreement {100 * report['agreement']['value']:.1f} %")
    if (pairs := report.get("pairs")) and pairs["correlation"] is not None:
        told.append(f"rank correlation of pairs {pairs['correlation']:.4f}")
    if closeness := report.get("closeness"):
        told.append(f"mean difference {closeness['mean']:.4g}")
    ghost, live = report.get("accuracy"), report.get("live_accuracy")
    if ghost and live:
        told.append(f"accuracy {100 * (ghost['value'] - live['value']):+.1f} points")
    elif changes := (report.get("task") or {}).get("changes"):
        told += [
            f"{change['metric']} {change['model']:.4g} against {change['other']:.4g}" for change in changes.values()
        ]
    return ", ".join(told)


def _fetch(store: Storage, keys: list[str], directory: Path, console: Console) -> None:
    for key in keys:
        try:
            store.download(key, directory / f"report.{key.rpartition('.')[2]}")
        except MissingKeyError as error:
            console.say(f"preview: {error}")
