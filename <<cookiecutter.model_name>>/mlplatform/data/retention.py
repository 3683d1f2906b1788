"""How long what came from requests is kept: files of the store are removed when all they hold is older.

`sources/traffic/` holds the end of its time in each file's name. What people were asked to label, and labelled, is as
old as its file.
"""

import re
from collections.abc import Iterator
from datetime import datetime

from mlplatform.data.forgetting import drop_parts_of
from mlplatform.data.labelling import ASKED, LABELLED
from mlplatform.data.records import READY, format_of
from mlplatform.data.sources import SourceFile
from mlplatform.store.storage import Storage

TRAFFIC = "sources/traffic/"
MOMENT = re.compile(r"\d{8}T\d{6}Z")


def name_between(first: datetime, last: datetime) -> str:
    """The key of records of requests between two moments in UTC."""
    return f"{TRAFFIC}{first:%Y%m%dT%H%M%SZ}-{last:%Y%m%dT%H%M%SZ}{READY}.jsonl.gz"


def expire(storage: Storage, before: datetime) -> list[str]:
    """Remove what came from requests before a moment, and the parts that were read of it; returns the keys.

    Parts go first, so what is killed half-way is found again. Dataset versions stay as they are.
    """
    keys = list(_expired(storage, f"{before:%Y%m%dT%H%M%SZ}"))
    drop_parts_of(storage, {SourceFile(key, storage.identity(key), format_of(key)).name for key in keys})
    for key in keys:
        storage.delete(key)
    return keys


def _expired(storage: Storage, before: str) -> Iterator[str]:
    for prefix in (TRAFFIC, ASKED, LABELLED):
        for key in storage.keys(prefix):
            moments = MOMENT.findall(key.removeprefix(prefix))
            if moments and max(moments) < before:
                yield key
