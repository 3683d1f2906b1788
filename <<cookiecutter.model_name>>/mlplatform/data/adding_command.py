"""`data add`: what the sources of a store are made from."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from mlplatform.config.settings import ServiceSettings, load
from mlplatform.contract.errors import CommandError, ExitCode
from mlplatform.data import labelling, retention, team
from mlplatform.data.options import in_time, with_store
from mlplatform.data.settings import DataSettings
from mlplatform.data.traffic import check_consent, write_records
from mlplatform.store.storage import Storage


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
            team.target(),
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
