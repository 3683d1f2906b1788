"""`data add`: what the sources of a store are made from."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from mlplatform.config.hints import hint
from mlplatform.config.settings import ServiceSettings, load
from mlplatform.contract.errors import BadDataError, CommandError, ExitCode
from mlplatform.contract.parameters import PipelineParameters, target
from mlplatform.data import images as pictures
from mlplatform.data import labelling, queries, retention, team
from mlplatform.data.options import in_time, moment, with_store
from mlplatform.data.recording import Checker, Found, Written, copy_files
from mlplatform.data.recording import write_records as write_checked
from mlplatform.data.records import READY, format_of, is_ready
from mlplatform.data.settings import DataSettings
from mlplatform.data.traffic import check_consent, write_records
from mlplatform.store.moments import iso
from mlplatform.store.storage import Storage

# Records that do not fit and are shown of a file.
SHOWN = 3


class NoRecordsError(CommandError):
    """There is nothing to make records of."""

    exit_code = ExitCode.REFUSED


@click.group()
def add() -> None:
    """Add to the sources that a dataset is made from."""


@add.command()
@in_time
@click.option(
    "--sample", type=click.FloatRange(0, 1), help="Share of the requests.  [default: traffic_sample of [data]]"
)
@click.option(
    "--output", type=click.Path(path_type=Path), help="A file here.  [default: sources/traffic/ of the store]"
)
@with_store
def traffic(store: Storage, since: datetime, until: datetime, sample: float | None, output: Path | None) -> None:
    """Make records of requests whose true labels are known.

    It takes bodies that the server stored (events_bodies of [serving]) and labels that came as feedback. Of several
    labels of a request the latest counts. What cannot be joined is counted. What is older than traffic_days of [data]
    is removed from the store's sources.
    """
    settings = load(DataSettings)
    check_consent(settings)
    if output and team.steps() and not is_ready(format_of(output.name)):
        raise click.BadParameter(
            f"{output}: let the name end in {READY}.jsonl.gz, so that model.STEPS are not applied to requests",
            param_hint="--output",
        )
    if settings.traffic_days:
        oldest = datetime.now(UTC) - timedelta(days=settings.traffic_days)
        for key in retention.expire(store, oldest):
            click.echo(f"removed {store.url}/{key}: older than {settings.traffic_days} days")
        since = max(since, oldest)
    with TemporaryDirectory() as temporary:
        path = output or Path(temporary) / "records.jsonl.gz"
        joined = write_records(
            store,
            load(ServiceSettings).name,
            since,
            until,
            team.record_schema(),
            path,
            settings.traffic_sample if sample is None else sample,
            team.redact(),
            labelling.labelled_ids(store),
            target(),
        )
        for reason, count in joined.left_out.most_common():
            click.echo(f"{count:>8} {reason}")
        click.echo(f"{joined.records:>8} records of {joined.requests} requests")
        if not joined.records:
            raise NoRecordsError(f"no request from {since:%Y-%m-%d %H:%M} UTC on has both a stored body and a label")
        place = str(path)
        if not output:
            key = retention.name_between(since, until)
            store.upload(path, key)
            place = f"{store.url}/{key}"
        click.echo(f"written to {place}")


@add.command()
@click.argument("source")
@with_store
def files(store: Storage, source: str) -> None:
    """Copy files of records into the store's sources, each once it is checked against the record's schema.

    SOURCE: a directory, or s3://bucket/prefix. A file with the content of one that is there counts once. Which files
    are left out, and what share of the records need not fit, pass_over and maximum_bad_records of [training] say.
    """
    parameters = load(PipelineParameters)
    added = refused = 0
    for file, written in copy_files(
        store, source, parameters.pass_over_patterns, _checker(), parameters.maximum_bad_records, Path(parameters.work)
    ):
        added += bool(written.key)
        refused += not written.key
        click.echo(f"{file.key}: {_told(written)}")
    if refused:
        raise BadDataError(f"{refused} of {added + refused} files do not fit model.RECORD and are not added")
    click.echo(f"{added} files in {store.url}/sources/files; train on them: {_train(store)}")


@add.command()
@click.argument("source")
@click.option("--labels", "table", type=click.Path(path_type=Path), required=True)
@click.option("--input", "name", default="", help="The property that holds the picture, if there are several.")
@click.option("--resize", is_flag=True, help="Scale images of another size than the record's.")
@with_store
def images(store: Storage, source: str, table: Path, name: str, resize: bool) -> None:
    """Make records of image files, whose numbers stand for their pixels as the record's schema says.

    SOURCE: a directory, or s3://bucket/prefix. --labels: a table with the columns file, below SOURCE, and label, and
    any other properties of the record. Every image is accounted for.
    """
    schema = team.record_schema()
    picture = pictures.picture_of(schema, name)
    truths = [part.name for part in target().parts]
    found = pictures.records(source, table, picture, resize, schema, *truths)
    _write(store, "sources/images", found)


@add.command()
@click.argument("query")
@click.option("--from", "database", type=click.Path(path_type=Path), required=True)
@click.option("--since", help="How long ago, or a date or time in ISO 8601: the value of :since in the query.")
@with_store
def sql(store: Storage, query: str, database: Path, since: str | None) -> None:
    """Make records of the rows of a query to a SQLite database; columns are properties of the record.

    --from: the database's file. A row with the id of one that came before replaces it.
    """
    values = {"since": iso(moment(since, datetime.now(UTC)))} if since else {}
    _write(store, "sources/sql", queries.records(database, query, team.record_schema(), values))


def _write(store: Storage, prefix: str, found: Iterable[Found]) -> None:
    parameters = load(PipelineParameters)
    written = write_checked(store, prefix, found, _checker(), parameters.maximum_bad_records, Path(parameters.work))
    click.echo(_told(written))
    click.echo(f"written to {store.url}/{written.key}; train on it: {_train(store)}")


def _train(store: Storage) -> str:
    return hint(f"train --source {store.url}/sources")


def _checker() -> Checker:
    return Checker(team.record_schema(), target(), bool(team.steps()))


def _told(written: Written) -> str:
    if not written.key:
        total = written.records + written.unfit
        unfit = f"{written.unfit} of {total} records do not fit: " if written.unfit else ""
        return f"not added: {unfit}{'; '.join(written.left_out[:SHOWN]) or 'holds no record'}"
    left_out = f", {written.unfit} left out: {'; '.join(written.left_out[:SHOWN])}" if written.unfit else ""
    return f"{written.records} records{left_out}"
