"""`data sample` and `data labels`: what people should label, and what they said."""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from mlplatform.config.settings import ServiceSettings, load
from mlplatform.contract.errors import CommandError, ExitCode
from mlplatform.contract.parameters import target
from mlplatform.data import label_studio, labelling, sampling, team, traffic
from mlplatform.data.checking import media_type
from mlplatform.data.options import in_time, with_store
from mlplatform.data.settings import DataSettings
from mlplatform.data.traffic import check_consent
from mlplatform.store.storage import Storage

WAYS = {
    "uncertain": "that the model was least sure of",
    "disagreement": "to which a ghost gave another label, what it was most sure of first",
    "drift": "that lie farthest from what the model was trained on",
    "random": "at random",
}


class NothingToLabelError(CommandError):
    """There is nothing to ask people, or nothing that they said."""

    exit_code = ExitCode.REFUSED


def _with_ways(function: click.decorators.FC) -> click.decorators.FC:
    for way, meaning in reversed(WAYS.items()):
        function = click.option(f"--{way}", metavar="N", type=click.IntRange(1), help=f"N rows {meaning}.")(function)
    return function


@click.command()
@_with_ways
@in_time
@click.option("--to", type=click.Path(path_type=Path), required=True, help="The file of tasks for Label Studio: JSON.")
@with_store
def sample(
    store: Storage,
    since: datetime,
    until: datetime,
    to: Path,
    **counts: int | None,
) -> None:
    """Choose rows of requests that people should label, and write them as tasks for Label Studio.

    It takes bodies that the server stored (events_bodies of [serving]) of requests without labels, and no row twice.
    A file beside the tasks, ending in .xml, holds the project's labelling interface.
    """
    given = {way: count for way, count in counts.items() if count}
    if len(given) != 1:
        raise click.UsageError(f"give one of {', '.join(f'--{way} N' for way in WAYS)}")
    ((way, count),) = given.items()
    check_consent(load(DataSettings))
    schema, labels, redact = team.record_schema(), team.labels(), team.redact()
    known = frozenset(str(record["id"]) for record in labelling.asked(store))
    service, as_base64 = load(ServiceSettings).name, traffic.encoded(schema)
    chosen = sampling.choose(store, service, since, until, way, count, known, as_base64)
    rows, records = [], []
    for row in chosen.rows:
        record = {**row.record(schema), "id": row.id}
        kept = redact(record) if redact is not None else record
        if kept is None:
            chosen.left_out["rows that may not be kept"] += 1
        else:
            rows.append(row)
            records.append({**kept, "id": row.id})
    for reason, number in chosen.left_out.most_common():
        click.echo(f"{number:>8} {reason}")
    click.echo(f"{len(rows):>8} rows chosen of {chosen.looked_at}")
    if not rows:
        raise NothingToLabelError(f"no row of a request from {since:%Y-%m-%d %H:%M} UTC on can be asked about")
    shown = [_with_pictures(record, schema) for record in records]
    to.write_text(json.dumps(label_studio.tasks(rows, shown), indent=1, ensure_ascii=False), encoding="utf-8")
    interface = to.with_suffix(".xml")
    interface.write_text(label_studio.interface(rows, shown, labels), encoding="utf-8")
    # Last: what was not written to a file is not taken for asked.
    labelling.keep_asked(store, way, records)
    click.echo(f"tasks {to}, labelling interface {interface}")


def _with_pictures(record: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """A record with image files as data URLs, which Label Studio shows."""
    properties = schema.get("properties", {})
    kinds = {name: media_type(properties.get(name), schema) for name in record}
    return {
        name: f"{label_studio.PICTURE}{kinds[name].removeprefix('image/')};base64,{value}"
        if kinds[name].startswith("image/") and isinstance(value, str)
        else value
        for name, value in record.items()
    }


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@with_store
def labels(store: Storage, file: Path) -> None:
    """Take in what people said of the rows that `data sample` chose, as a source.

    FILE: an export of Label Studio (JSON, JSON_MIN, CSV), or a table with the columns id and label, and labelled_by and
    labelled_at if known. A later label of a row replaces the former.
    """
    given = label_studio.read_labels(file)
    records, kept, unknown = labelling.join(store, given.labels, target(), team.record_schema())
    for reason, number in (given.left_out + unknown).most_common():
        click.echo(f"{number:>8} {reason}")
    click.echo(f"{len(records):>8} records with labels")
    if not records:
        raise NothingToLabelError(f"{file}: holds no label of an example that people were asked about")
    click.echo(f"written to {store.url}/{labelling.keep_labels(store, records, kept)}")
