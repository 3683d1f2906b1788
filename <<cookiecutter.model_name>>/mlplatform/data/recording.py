"""Records from elsewhere, checked against `model.RECORD` and written as a source of the store."""

import gzip
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlplatform.contract.errors import BadDataError
from mlplatform.contract.targets import Target
from mlplatform.data import references
from mlplatform.data.checking import RecordChecker, truth_fault
from mlplatform.data.errors import BrokenFileError
from mlplatform.data.forgetting import take_out
from mlplatform.data.records import READY, RecordFile, is_ready
from mlplatform.data.references import References
from mlplatform.data.sources import SourceFile, list_source, opening
from mlplatform.store.storage import Storage, open_storage

# Records that do not fit and are shown; all are counted.
SHOWN = 10
# Of gzip: of images in base64, 9 takes two fifths of all time here and makes 3 % less of them.
PACKING = 1


@dataclass(frozen=True)
class Found:
    """What is to be a record. place: where it comes from, for a person; either a record, or why there is none."""

    place: str
    record: Mapping[str, Any] | None
    reason: str = ""


@dataclass
class Written:
    """What became of records. key: of the file; left_out: the first of those that do not fit, a sentence for each."""

    key: str = ""
    records: int = 0
    unfit: int = 0
    left_out: list[str] = field(default_factory=list)

    def note(self, place: str, reason: str) -> None:
        """Count a record that does not fit."""
        self.unfit += 1
        if len(self.left_out) < SHOWN:
            self.left_out.append(f"{place}: {reason}")

    def check(self, allowed: float) -> None:
        """Raises BadDataError if more of the records do not fit than this share, or if there is none that does."""
        total = self.records + self.unfit
        if self.unfit > allowed * total or not self.records:
            more = f"\n  and {self.unfit - len(self.left_out)} more" if self.unfit > len(self.left_out) else ""
            lines = "".join(f"\n  {line}" for line in self.left_out)
            raise BadDataError(
                f"{self.unfit} of {total} records do not fit model.RECORD; nothing is added{lines}{more}"
            )


class Checker:
    """Says why a record does not fit `model.RECORD`, or holds no truth of the model's target.

    references: the properties that may name a file. before_steps: of records that steps are to change, where any JSON
    object will do.
    """

    def __init__(self, schema: Mapping[str, Any], target: Target, before_steps: bool = False) -> None:
        self.of_schema = RecordChecker(schema, tuple(part.name for part in target.parts), before_steps)
        self._before_steps = before_steps
        self.target = target
        self.references = references.names(schema)
        self._schema = schema

    def ready(self) -> "Checker":
        """The one for records that no step is applied to."""
        return Checker(self._schema, self.target) if self._before_steps else self

    def reason(self, record: Mapping[str, Any]) -> str:
        """Empty if it fits."""
        reason = self.of_schema.reason(record)
        if reason or self._before_steps:
            return reason
        if reason := truth_fault(record, self.target):
            return reason
        for part in self.target.parts:
            truth = record[part.name]
            _, valid = part.encode([part.text(truth).encode()], self._schema)
            if not valid[0]:
                return f"{part.name}: {json.dumps(truth)} is none of model.LABELS"
        return ""


def write_records(
    storage: Storage, prefix: str, found: Iterable[Found], checker: Checker, allowed: float, work: Path
) -> Written:
    """Write records as prefix/<content>.jsonl.gz, in place of those of the same ids that stand below the prefix.

    allowed: share of the records that need not fit and are left out. Raises BadDataError; then nothing is written.
    """
    work.mkdir(parents=True, exist_ok=True)
    written, ids = Written(), set()
    content = hashlib.sha256()
    with TemporaryDirectory(dir=work) as temporary:
        path = Path(temporary) / "records.jsonl.gz"
        with path.open("wb") as packed, gzip.GzipFile("", "wb", compresslevel=PACKING, fileobj=packed, mtime=0) as file:
            for one in found:
                reason = one.reason or ("" if one.record is None else checker.reason(one.record))
                if reason or one.record is None:
                    written.note(one.place, reason)
                    continue
                line = json.dumps(one.record, ensure_ascii=False, sort_keys=True).encode() + b"\n"
                content.update(line)
                file.write(line)
                written.records += 1
                if "id" in one.record:
                    ids.add(str(one.record["id"]))
        written.check(allowed)
        written.key = f"{prefix}/{content.hexdigest()[:16]}.jsonl.gz"
        storage.upload(path, written.key)
    # Afterwards, so what is killed in between has lost nothing, and the same call ends it.
    for key in [key for key in storage.keys(f"{prefix}/") if key != written.key]:
        take_out(storage, key, ids)
    return written


def copy_files(
    storage: Storage, url: str, pass_over: tuple[str, ...], checker: Checker, allowed: float, work: Path
) -> Iterator[tuple[SourceFile, Written]]:
    """Copy each file of records that fits to sources/files/<content>-<name>, and yield what became of it.

    Where records name other files, the copy holds their bytes, as JSON lines. A file of which more records do not fit
    than the share that is allowed, or that cannot be read to its end, is not copied: its `key` is empty, and it has a
    line in `left_out`. Raises BadDataError as `list_source` does, and at the end for files that are neither of records
    nor named by one.
    """
    source = open_storage(url)
    work.mkdir(parents=True, exist_ok=True)
    listed = list_source(url, pass_over, may_be_named=bool(checker.references))
    named = References(source, listed.others, checker.references)
    with opening(source, listed.files, work) as opened:
        for file in listed.files:
            with opened(file) as path, TemporaryDirectory(dir=work) as temporary:
                name = Path(file.key).name
                ready = is_ready(file.format)
                ending = f"{READY if ready else ''}.jsonl.gz"
                copy = Path(temporary) / f"{name.split('.')[0]}{ending}" if checker.references else None
                written = _checked(path, file, checker.ready() if ready else checker, named, copy)
                total = written.records + written.unfit
                if written.records and written.unfit <= allowed * total:
                    with (copy or path).open("rb") as content:
                        digest = hashlib.file_digest(content, "sha256").hexdigest()[:16]
                    written.key = f"sources/files/{digest}-{copy.name if copy else name}"
                    if not storage.exists(written.key):
                        storage.upload(copy or path, written.key)
            yield file, written
    unused = sorted(set(listed.others) - named.used)
    if unused:
        more = f" and {len(unused) - SHOWN} more" if len(unused) > SHOWN else ""
        raise BadDataError(
            f"source {url!r}: holds files that no record names: {', '.join(unused[:SHOWN])}{more}; remove them, or "
            "name them in pass_over"
        )


def _checked(path: Path, file: SourceFile, checker: Checker, named: References, copy: Path | None) -> Written:
    """Check every record; copy: where those that fit are written, with the bytes of the files that they name."""
    written = Written()
    try:
        with gzip.GzipFile(copy or os.devnull, "wb", mtime=0) as lines:
            for row in RecordFile(path, file.format, checker.of_schema):
                reason = row.reason or ("" if row.record is None else checker.reason(row.record))
                if not reason and row.record is not None and copy is not None:
                    try:
                        record = named.resolved(row.record, file.key)
                        lines.write(json.dumps(record, ensure_ascii=False, sort_keys=True).encode() + b"\n")
                    except ValueError as error:
                        reason = str(error)
                if reason:
                    written.note(f"row {row.row}", reason)
                else:
                    written.records += 1
    except BrokenFileError as error:
        # As a whole: what was read of it does not count.
        return Written(left_out=[str(error)])
    return written
