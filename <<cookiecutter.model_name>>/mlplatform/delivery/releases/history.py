"""`history`: who released what, when, and with what outcome.

    releases/history/<UTC time>-<environment>.json      one object a release, written once

The time has microseconds; of two entries at the same microsecond the later writer takes the next.
"""

import getpass
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta

import click

from mlplatform.config.hints import hint
from mlplatform.delivery import programs
from mlplatform.delivery.console import Console
from mlplatform.delivery.options import ENVIRONMENTS, console_option, readable_store_option
from mlplatform.delivery.releases import approval
from mlplatform.store.manifest import ArtifactError
from mlplatform.store.models import columns
from mlplatform.store.storage import Storage

PREFIX = "releases/history/"
# The action that takes a ghost out of the cluster; all others bring something into it.
STOP = "stop"
ROLLBACK = "rollback"
DONE, FAILED, ROLLED_BACK = "done", "failed", "failed, rolled back"
_TIME = "%Y-%m-%dT%H-%M-%S.%fZ"


@dataclass(frozen=True)
class Entry:
    """One release.

    at: UTC, ISO 8601; action: deploy, promote, rollback, stop; replica_set: its pod template; to: of a rollback, `at`
    of the release that it went back to.
    """

    at: str
    by: str
    environment: str
    action: str
    image: str
    model: str
    git_commit: str
    outcome: str
    reason: str = ""
    replica_set: str = ""
    to: str = ""


def record(store: Storage, entry: Entry) -> None:
    """Keep an entry; one that is there already is not kept twice. Raises StorageError."""
    moment = datetime.fromisoformat(entry.at)
    content = json.dumps(asdict(entry), indent=1, ensure_ascii=False).encode() + b"\n"
    while not store.create(key := f"{PREFIX}{moment.strftime(_TIME)}-{entry.environment}.json", content):
        if store.read(key) == content:
            return
        moment += timedelta(microseconds=1)


def now() -> str:
    """The time, as entries have it."""
    return datetime.now(UTC).isoformat()


def person() -> str:
    """Who runs this command: in a Jenkins build its approver or starter and the build, else the user's name."""
    build = os.environ.get("BUILD_URL")
    names = ("STARTED_BY", "BUILD_USER_ID", "BUILD_USER")
    name = next((os.environ[variable] for variable in names if os.environ.get(variable)), None)
    name = approval.approver(os.environ) or name
    if build:
        return f"{name or 'Jenkins'}, {build}"
    try:
        return name or programs.git("config", "user.email") or getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def newest_first(store: Storage, environment: str | None = None) -> Iterator[Entry]:
    """The entries of one environment or of all. Raises StorageError or ArtifactError."""
    ending = re.compile(rf"-{environment or '[a-z]+'}\.json$")
    keys = [key for key in store.keys(PREFIX) if ending.search(key)]
    for key in reversed(keys):
        try:
            yield Entry(**json.loads(store.read(key)))
        except (ValueError, TypeError) as error:
            raise ArtifactError(f"{store.url}/{key}: not an entry of the history ({error})") from None


def good(store: Storage, environment: str) -> list[Entry]:
    """The releases of an environment that were good and were not gone back from, oldest first.

    The last one is what should run there, and rollbacks go to those before it, one after another. `replica_set` is the
    newest one of each release. Raises StorageError or ArtifactError.
    """
    kept: list[Entry] = []
    all_good: dict[str, Entry] = {}
    for entry in reversed(list(newest_first(store, environment))):
        if entry.outcome != DONE or entry.action == STOP:
            continue
        if entry.action != ROLLBACK:
            all_good[entry.at] = entry
            kept.append(entry)
            continue
        target = _target(entry, kept, all_good)
        names = [release.at for release in kept]
        # Back to one of them; or forward again, to one that was gone back from.
        kept = kept[: names.index(target.at)] if target.at in names else kept
        kept.append(replace(target, replica_set=entry.replica_set or target.replica_set))
    return kept


def _target(rollback: Entry, kept: Sequence[Entry], all_good: Mapping[str, Entry]) -> Entry:
    """The release that a rollback went to. Entries of version 0.2 do not name it: the newest one of that image."""
    if rollback.to in all_good:
        return all_good[rollback.to]
    same = [entry for entry in kept if (entry.image, entry.model) == (rollback.image, rollback.model)]
    return same[-1] if same else rollback


@click.command()
@click.option("--environment", type=click.Choice(ENVIRONMENTS), help="Show releases of this environment only.")
@click.option(
    "--limit",
    default=20,
    show_default=True,
    type=click.IntRange(min=1),
    help="Number of releases to show, newest first.",
)
@readable_store_option
@console_option
def history(environment: str | None, limit: int, store: Storage, console: Console) -> None:
    """List the releases, newest first: who, what, when, from which model, and with what outcome."""
    entries = [entry for entry, _ in zip(newest_first(store, environment), range(limit), strict=False)]
    heading = ("at", "environment", "action", "model", "commit", "by", "outcome")
    rows = [
        (e.at[:19], e.environment, e.action, e.model or "-", e.git_commit[:10] or "-", e.by, _outcome(e))
        for e in entries
    ]
    nothing = f"nothing was released yet, says {store.url}; the first: {hint('deploy --help')}"
    console.result(columns([heading, *rows]) if rows else nothing, [asdict(entry) for entry in entries])


def _outcome(entry: Entry) -> str:
    reason = entry.reason.splitlines()[0] if entry.reason else ""
    return f"{entry.outcome}: {reason}" if reason else entry.outcome
