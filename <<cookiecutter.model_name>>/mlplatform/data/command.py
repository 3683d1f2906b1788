"""`data`: the dataset versions of a store, for people. None of it imports TensorFlow."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np

from mlplatform.config.settings import ServiceSettings, load
from mlplatform.contract.parameters import PipelineParameters
from mlplatform.data import (
    catalog,
    differences,
    distributions,
    findings,
    forgetting,
    label_errors,
    layers,
    report,
    review,
)
from mlplatform.data.adding_command import add
from mlplatform.data.catalog import Dataset
from mlplatform.data.dataset import OTHERS, SPLITS
from mlplatform.data.labelling_command import labels, sample
from mlplatform.data.options import with_store
from mlplatform.data.pictures import as_text
from mlplatform.data.settings import DataSettings
from mlplatform.reporting.page import as_bytes, as_time
from mlplatform.store.manifest import Manifest
from mlplatform.store.storage import Storage

# Ids that `diff` prints of each kind.
SHOWN_IDS = 10


@click.group()
def data() -> None:
    """Look at dataset versions: what is in them, what changed, and what a person should see before a training."""


data.add_command(add)
data.add_command(sample)
data.add_command(labels)


@data.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@with_store
def list_versions(store: Storage, as_json: bool) -> None:
    """List the dataset versions, the newest first, and what was made from each."""
    used = catalog.used(store)
    known = catalog.versions(store)[::-1]
    if as_json:
        click.echo(json.dumps([_described(version, version.id in used) for version in known], indent=1))
        return
    if not known:
        click.echo(f"no dataset version in {store.url} yet; `gather` makes one")
        return
    rows: list[tuple[str, ...]] = [("version", "made", "examples", *SPLITS, "classes", "size", "used")]
    for version in known:
        described = _described(version, version.id in used)
        sizes = described["splits"]
        rows.append(
            (
                version.id,
                as_time(version.created_at),
                str(sum(sizes.values())),
                *(str(sizes[name]) for name in SPLITS),
                str(described["classes"] or "-"),
                as_bytes(described["bytes"]),
                "yes" if described["used"] else "no",
            )
        )
    click.echo(report.columns(rows))


@data.command()
@click.argument("version")
@click.option("--class", "label", help="Only examples of this class.")
@click.option("--split", type=click.Choice(SPLITS), help="Only examples of this split.")
@click.option("--id", "ids", multiple=True, help="The example with this id; may be given several times.")
@click.option("--rows", type=click.IntRange(0, 10_000), default=10, show_default=True, help="Examples to show.")
@with_store
def show(store: Storage, version: str, label: str | None, split: str | None, ids: tuple[str, ...], rows: int) -> None:
    """Show a version and some of its examples. VERSION: a name, the beginning of one, or `latest`."""
    dataset = _fetched(store, version)
    sizes = ", ".join(f"{size} {name}" for name, size in dataset.split_sizes().items())
    click.echo(f"dataset {dataset.version.id}, made {as_time(dataset.version.created_at)}: {sizes}")
    shapes = [str(list(spec.shape) or "").replace("None", "any") for spec in dataset.inputs]
    inputs = ", ".join(f"{spec.name} {spec.dtype}{shape}" for spec, shape in zip(dataset.inputs, shapes, strict=True))
    click.echo(f"inputs: {inputs}")
    chosen = np.ones(len(dataset), dtype=bool)
    if label is not None:
        if label not in dataset.labels:
            known = f"is none of {', '.join(dataset.labels)}" if dataset.labels else "the dataset has no classes"
            raise catalog.UnknownNameError(f"class {label!r}: {known}")
        chosen &= dataset.column("label") == dataset.labels.index(label)
    if split is not None:
        chosen &= dataset.splits() == SPLITS.index(split)
    if ids:
        wanted = np.array([example_id.encode() for example_id in ids], object)
        chosen &= np.logical_or.reduce([np.isin(dataset.column(name), wanted) for name in dataset.id_columns])
    picked = np.flatnonzero(chosen)[:rows]
    click.echo(f"{int(chosen.sum())} examples, the first {len(picked)}:" if len(picked) else "no example of these")
    for row in picked.tolist():
        _show_example(dataset, row)


@data.command()
@click.argument("one")
@click.argument("other")
@click.option("--json", "as_json", is_flag=True, help="Print all ids as JSON.")
@with_store
def diff(store: Storage, one: str, other: str, as_json: bool) -> None:
    """Say what came, went and changed from version ONE to version OTHER."""
    datasets = [_fetched(store, name) for name in (one, other)]
    result = differences.difference(*datasets)
    if as_json:
        click.echo(json.dumps(asdict(result), indent=1))
        return
    click.echo(f"from {datasets[0].version.id} ({len(datasets[0])}) to {datasets[1].version.id} ({len(datasets[1])})")
    kinds = {
        "came": result.came,
        "went": result.went,
        "have other inputs": result.changed,
        "have another label": result.relabelled,
        "are in another split": result.moved,
    }
    for kind, ids in kinds.items():
        more = f" and {len(ids) - SHOWN_IDS} more" if len(ids) > SHOWN_IDS else ""
        click.echo(f"{len(ids):>8} {kind}{': ' if ids else ''}{', '.join(ids[:SHOWN_IDS])}{more}")
    changed = [(label, *counts) for label, counts in result.labels.items() if counts[0] != counts[1]]
    if changed:
        click.echo(report.columns([("class", "before", "after"), *changed]))


@data.command("report")
@click.argument("version")
@click.option("--against", metavar="VERSION", help="Compare with this version.  [default: the one made before]")
@click.option("--output", type=click.Path(path_type=Path), help="The HTML file.  [default: dataset-VERSION.html]")
@click.option(
    "--refuse",
    metavar="KINDS",
    help="Exit with 3 at a finding of these kinds, such as leak,drift.  [default: refuse of [data]]",
)
@with_store
def make_report(store: Storage, version: str, against: str | None, output: Path | None, refuse: str | None) -> None:
    """Write a version's report as HTML, and print what it found.

    Once a model was trained on the version, it shows labels that are probably wrong, too.
    """
    settings = load(DataSettings, {} if refuse is None else {"refuse": refuse})
    dataset = _fetched(store, version)
    previous = _fetched(store, against) if against else review.before(store, dataset.version, _work())
    production = distributions.in_production(store)
    found = findings.all_findings(dataset, previous, production=production)
    path = output or Path(f"dataset-{dataset.version.id}.html")
    described, service = report.features(dataset), load(ServiceSettings).name
    drift = report.drift(dataset, previous, production)
    wrong = label_errors.find(store, dataset, _work())
    page = report.render(dataset, found, described, service, drift, wrong)
    path.write_text(page, encoding="utf-8")
    click.echo(report.as_page_of_text(dataset, found, described, drift, wrong))
    click.echo(f"\nreport {path}")
    review.refuse(dataset.version.id, found, settings.refuse)


@data.command()
@click.option("--id", "ids", multiple=True, required=True, help="Id of an example; may be given several times.")
@click.option("--versions", is_flag=True, help="Also remove the dataset versions that hold it.")
@with_store
def forget(store: Storage, ids: tuple[str, ...], versions: bool) -> None:
    """Let examples leave the store's sources and parts, and come into no later dataset version.

    It says which versions and models held them. Source files elsewhere are yours to change: they are named by row.
    """
    results = forgetting.forget(store, ids, _work())
    for result in results:
        click.echo(result.id)
        click.echo(f"  versions that hold it: {', '.join(result.versions) or 'none'}")
        click.echo(f"  models made from these: {', '.join(result.models) or 'none'}")
        for key in result.sources:
            click.echo(f"  taken out of {store.url}/{key}")
        for key, row in result.outside:
            click.echo(f"  still in the source, and left out from now on: {key} row {row}")
    held = {version for result in results for version in result.versions}
    for version in [known for known in catalog.versions(store) if versions and known.id in held]:
        catalog.remove(store, version)
        click.echo(f"removed version {version.id}")


@data.command()
@click.option("--unused", is_flag=True, required=True, help="Versions that no model or run was made from.")
@click.option("--days", type=click.IntRange(0), default=7, show_default=True, help="Keep those made within these days.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_store
def remove(store: Storage, unused: bool, days: int, yes: bool) -> None:
    """Remove dataset versions that nothing was made from; the newest one is kept."""
    versions = catalog.unused(store, days)
    if left := layers.release(store, layers.orphans(store)):
        click.echo(f"removed {as_bytes(left)} that builds which did not end had left")
    if not versions:
        click.echo(f"no unused dataset version older than {days} days")
        return
    for version in versions:
        click.echo(f"{version.id}  {as_time(version.created_at)}  {as_bytes(version.size)}")
    if not yes:
        click.confirm(f"remove these {len(versions)}?", abort=True)
    freed = sum(catalog.remove(store, version) for version in versions)
    click.echo(f"removed {len(versions)} dataset versions, {as_bytes(freed)}")


def _show_example(dataset: Dataset, row: int) -> None:
    at = np.array([row])
    ids = dict.fromkeys(dataset.column(name, at)[0].decode() for name in dataset.id_columns)
    click.echo(f"\n{' of '.join(ids)}  {dataset.truth(row)}  {SPLITS[int(dataset.splits()[row])]}")
    for spec in dataset.inputs:
        click.echo(f"  {spec.name}: {as_text(dataset.value(spec, row))}")
    if dataset.others and (others := dataset.column(OTHERS, at)[0]):
        click.echo(f"  beside them: {others.decode()}")


def _fetched(store: Storage, name: str) -> Dataset:
    return catalog.fetch(store, catalog.find_version(store, name), _work())


def _work() -> Path:
    return Path(load(PipelineParameters).work)


def _described(version: Manifest, used: bool) -> dict[str, Any]:
    splits = version.properties["splits"]
    return {
        "version": version.id,
        "created_at": version.created_at,
        "splits": {name: splits[name]["examples"] for name in SPLITS},
        "classes": len(version.properties["labels"]),
        "bytes": version.size,
        "used": used,
    }
