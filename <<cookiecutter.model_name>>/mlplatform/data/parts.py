"""Parts: source files, checked. What fits is kept as columns, every other record with its row and the reason.

A part holds one large file or many small ones, as a store takes its time for each file whatever its size:

    parts/<fingerprint of the record>/<part>/<content>/<number>.npz     examples, see ExampleMaker.make
    .../problems.jsonl      an object with `of`, `row` and `reason` for every other record

`of` numbers the files of a part; its manifest describes them, see `CheckedFile`.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from mlplatform.data.batches import JsonBatch, Problem
from mlplatform.data.checking import RecordChecker
from mlplatform.data.columns import Columns, concatenate, load, numbers, save, size, texts
from mlplatform.data.dataset import Schema
from mlplatform.data.errors import BrokenFileError
from mlplatform.data.examples import ExampleMaker
from mlplatform.data.forgetting import forgotten_digests
from mlplatform.data.records import RecordFile, is_ready
from mlplatform.data.sources import Open, SourceFile
from mlplatform.data.stepping import Stepper
from mlplatform.store import manifest
from mlplatform.store.storage import Storage

# Examples held in memory before they are written.
BUFFER_BYTES = 8 << 20
# A part is closed when it has so many examples' bytes or files, or took so long: at most this is lost with a machine.
PART_BYTES = 64 << 20
PART_FILES = 5000
PART_SECONDS = 60.0
# Files up to this size are checked together, so many rows at a time.
SMALL_FILE_BYTES = 4096
SMALL_ROWS = 1000
# Different labels of a file that the manifest lists.
LISTED_LABELS = 1000
PROBLEMS = "problems.jsonl"

# Files checked before, by name: the part, number in it, and what became of it.
Known = Mapping[str, tuple["Place", int, "CheckedFile"]]


@dataclass
class CheckedFile:
    """What became of a source file. name: see SourceFile; header: how a table is read, as text.

    rows: records that fit; problems: others; fault: why the file is broken, else empty. labels: how many of the rows
    have each label; None if there are more labels than are listed, empty if the target has none. forgotten: records
    left out as a person asked to. dropped: rows of which the steps of the model make nothing.
    """

    name: str
    rows: int = 0
    problems: int = 0
    fault: str = ""
    header: str = ""
    labels: dict[str, int] | None = field(default_factory=dict)
    forgotten: int = 0
    dropped: int = 0


class Place(NamedTuple):
    """Where a part lies, and text that follows from its content."""

    prefix: str
    content: str


@dataclass(frozen=True)
class Part:
    """A part in the store, and those of its files that are in question."""

    prefix: str
    content: str
    files: dict[int, CheckedFile]

    def identity(self) -> str:
        """24 hex digits that follow from what these files hold and from what was read of it."""
        numbers = ",".join(map(str, sorted(self.files)))
        return hashlib.sha256(f"{self.prefix}:{self.content}:{numbers}".encode()).hexdigest()[:24]


def known_files(storage: Storage, schema: Schema) -> Known:
    """All files checked before with this record schema."""
    below = f"parts/{schema.record_fingerprint()}"
    return {
        entry["name"]: (Place(f"{below}/{part.id}", part.content), number, CheckedFile(**entry))
        for part in manifest.list_artifacts(storage, below)
        for number, entry in enumerate(part.properties["files"])
    }


def check_files(
    storage: Storage, files: Iterable[SourceFile], opened: Open, schema: Schema, work: Path
) -> Iterator[tuple[SourceFile, CheckedFile]]:
    """Check every record of source files, publish them in parts, and yield what became of each file.

    A part is in the store before its files are yielded. opened: gives the file on this machine.
    """
    remaining = iter(files)
    forgotten = forgotten_digests(storage)
    done = False
    while not done:
        with TemporaryDirectory(dir=work) as temporary:
            writer = _PartWriter(Path(temporary), schema, ExampleMaker(schema, forgotten))
            checked = []
            done = True
            for file in remaining:
                with opened(file) as path:
                    writer.add(path, file)
                checked.append(file)
                if writer.full():
                    done = False
                    break
            if checked:
                writer.publish(storage)
                yield from zip(checked, writer.files, strict=True)


def read_problems(storage: Storage, part: Part, schema: Schema, work: Path) -> Iterator[tuple[int, int, str]]:
    """File number, row and reason of every record of a part's files that is no example; wrong labels included."""
    _, content = manifest.fetch(storage, part.prefix, work)
    with (content / PROBLEMS).open(encoding="utf-8") as file:
        for line in file:
            problem = json.loads(line)
            if problem["of"] in part.files:
                yield problem["of"], problem["row"], problem["reason"]
    allowed = schema.target.allowed(schema.record)
    wrong = {number for number, file in part.files.items() if unfit_labels(file, allowed) != 0}
    for path in sorted(content.glob("*.npz")) if wrong else ():
        columns = load(path, ("of", "row", "label"))
        places = zip(numbers(columns, "of"), numbers(columns, "row"), texts(columns, "label").array(), strict=True)
        for number, row, label in places:
            if int(number) in wrong and label.decode() not in allowed:
                yield int(number), int(row), f"{schema.target.name}: {label.decode()!r} is none of model.LABELS"


def read_all_problems(storage: Storage, known: Known, schema: Schema, work: Path) -> Iterator[tuple[str, int, str]]:
    """Name of the file, row and reason of every record of these files that is no example."""
    allowed = schema.target.allowed(schema.record)
    wrong = {name: entry for name, entry in known.items() if entry[2].problems or unfit_labels(entry[2], allowed) != 0}
    for part in parts_of(wrong, wrong):
        for number, row, reason in read_problems(storage, part, schema, work):
            yield part.files[number].name, row, reason


def unfit_labels(file: CheckedFile, allowed: Iterable[str]) -> int | None:
    """How many rows of a file have a label that is not allowed; None if its labels are not listed."""
    if file.labels is None:
        return None
    known = set(allowed)
    return sum(count for label, count in file.labels.items() if label not in known)


class _PartWriter:
    """Collects files of one part in a directory."""

    def __init__(self, directory: Path, schema: Schema, maker: ExampleMaker) -> None:
        self.files: list[CheckedFile] = []
        self._directory = directory
        self._schema = schema
        self._maker = maker
        self._labels: dict[int, Counter[bytes]] = {}
        self._tables: list[Columns] = []
        self._waiting = 0
        # For records that steps are to change.
        self._before_steps = RecordChecker(schema.record, before_steps=True)
        self._stepper = Stepper(schema.steps)
        # File, row and record of small files that are not made examples yet.
        self._small: list[tuple[int, int, Any]] = []
        self._written = 0
        self._bytes = 0
        self._started = time.monotonic()

    def full(self) -> bool:
        return (
            self._bytes + self._waiting >= PART_BYTES
            or len(self.files) >= PART_FILES
            or time.monotonic() - self._started >= PART_SECONDS
        )

    def add(self, path: Path, file: SourceFile) -> None:
        number = len(self.files)
        checked = CheckedFile(file.name)
        self.files.append(checked)
        steps = bool(self._schema.steps) and not is_ready(file.format)
        rows = RecordFile(path, file.format, self._before_steps if steps else self._maker.checker)
        small = path.stat().st_size <= SMALL_FILE_BYTES and not self._maker.forgets and not steps
        try:
            for batch in rows.batches():
                lineage = None
                if steps:
                    batch, lineage, dropped = self._stepper.apply(batch)
                    checked.dropped += dropped
                if small:
                    self._note(batch.problems, lambda row: (number, row))
                    self._small += [(number, row, batch.record(i)) for i, row in enumerate(batch.rows)]
                    if len(self._small) >= SMALL_ROWS:
                        self._make_small()
                else:
                    tables, wrong = self._maker.make(batch, number, lineage)
                    self._note(wrong, lambda row: (number, row))
                    for table in tables:
                        self._keep(table)
        except BrokenFileError as error:
            checked.fault = str(error)
        checked.header = str(rows.header or "")

    def publish(self, storage: Storage) -> manifest.Manifest:
        self._make_small()
        self._flush()
        (self._directory / PROBLEMS).touch()
        for number, file in enumerate(self.files):
            labels = self._labels.get(number, Counter())
            file.forgotten = self._maker.dropped[number]
            listed = len(labels) <= LISTED_LABELS
            file.labels = {label.decode(): count for label, count in labels.items()} if listed else None
        names = "\n".join(file.name for file in self.files)
        name = hashlib.sha256(names.encode()).hexdigest()[:24]
        prefix = f"parts/{self._schema.record_fingerprint()}/{name}"
        properties = {"files": [vars(file) for file in self.files]}
        return manifest.publish(storage, prefix, self._directory, "part", name, properties)

    def _make_small(self) -> None:
        """Make examples of what small files hold, together: a table takes its time, however few rows it has."""
        if not self._small:
            return
        records = [record for _, _, record in self._small]
        names = sorted({"id", *self._maker.checker.needed})
        tables, wrong = self._maker.make(JsonBatch(range(len(records)), records, [], names, True), 0)
        self._note(wrong, lambda row: self._small[row][:2])
        of, rows = (np.array([entry[i] for entry in self._small]) for i in (0, 1))
        for table in tables:
            at = numbers(table, "row")
            self._keep({**table, "of": of[at].astype(np.int32), "row": rows[at]})
        self._small = []

    def _note(self, problems: Sequence[Problem], place: Callable[[int], tuple[int, int]]) -> None:
        """Write problems down. place: the file and the row that a problem's row stands for."""
        if not problems:
            return
        with (self._directory / PROBLEMS).open("a", encoding="utf-8") as file:
            for problem in problems:
                number, row = place(problem.row)
                file.write(json.dumps({"of": number, "row": row, "reason": problem.reason}) + "\n")
                self.files[number].problems += 1

    def _keep(self, table: Columns) -> None:
        of = numbers(table, "of")
        labels = texts(table, "label").array()
        for number in np.unique(of).tolist():
            chosen = labels if of[0] == of[-1] else labels[of == number]
            self.files[number].rows += len(chosen)
            counts = self._labels.setdefault(number, Counter())
            if self._schema.target.labels and len(counts) <= LISTED_LABELS:
                counts.update(chosen.tolist())
        self._tables.append(table)
        self._waiting += size(table)
        if self._waiting >= BUFFER_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            path = self._directory / f"{self._written:06}.npz"
            save(path, concatenate(self._tables))
            self._tables, self._waiting = [], 0
            self._written += 1
            self._bytes += path.stat().st_size


def parts_of(known: Known, names: Iterable[str]) -> list[Part]:
    """The parts that hold the files with these names, each part once."""
    parts: dict[Place, dict[int, CheckedFile]] = {}
    for name in names:
        place, number, file = known[name]
        parts.setdefault(place, {})[number] = file
    return [Part(*place, files) for place, files in parts.items()]
