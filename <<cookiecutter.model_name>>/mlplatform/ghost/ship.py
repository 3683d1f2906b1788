"""`ship-events`: prediction events from a spool to the store, until SIGTERM."""

import signal
import sys
import threading
from pathlib import Path

import click

from mlplatform.config.settings import SettingsError, StorageSettings, load
from mlplatform.contract.events import MIRROR_RESULTS, EventsError
from mlplatform.ghost.spool import EVERY_SECONDS, ship
from mlplatform.store.storage import Storage, StorageError, open_storage


@click.command("ship-events")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--once", is_flag=True, help="ship once and end")
def ship_events(directory: Path, once: bool) -> int:
    """Copy prediction events from DIRECTORY, the spool that SERVING_EVENTS names, to the store.

    SIGTERM ships once more and ends. Exit code 1: the last pass failed, 2: wrong settings.
    """
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        storage = open_storage(load(StorageSettings).url)
    except (SettingsError, StorageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    failed = ""
    while True:
        last = once or ended.is_set()
        failed = _pass(storage, directory, failed)
        if last:
            return 1 if failed else 0
        ended.wait(EVERY_SECONDS)


def _pass(storage: Storage, directory: Path, before: str) -> str:
    """Ship once; why that failed, or nothing. What has failed is kept and tried again; it is said once."""
    try:
        shipped = ship(storage, directory)
    except (StorageError, EventsError, OSError) as error:
        if str(error) != before:
            print(f"events: not shipped, and kept for another try: {error}", file=sys.stderr, flush=True)
        return str(error)
    for name, event in shipped.killed:
        counts, copies = event["events"], event["mirror"]
        lost = counts["recorded"] - counts["written"] - counts["dropped"]
        waiting = copies["offered"] - sum(copies[result] for result in MIRROR_RESULTS)
        print(
            f"events: process {name} was killed: {lost} of its {counts['recorded']} events and {waiting} of "
            f"{copies['offered']} copies for the ghost are lost",
            flush=True,
        )
    return ""
