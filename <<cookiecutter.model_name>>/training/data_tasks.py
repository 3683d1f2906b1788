"""From source data to a dataset version: gather -> validate -> prepare."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import luigi

from artifacts import manifest
from training import dataset
from training.errors import BadDataError
from training.records import SUFFIXES
from training.task import Context, StoredTarget, Task

log = logging.getLogger(__name__)
# How many wrong records are shown; all of them are in the store.
SHOWN_PROBLEMS = 10


@dataclass(frozen=True)
class SourceFile:
    """A file of records: its name below the source, and what identifies its content."""

    name: str
    identity: str


class Gather(Task):
    """Write down which files the source holds."""

    source: str = luigi.Parameter(significant=False)
    snapshot: str = luigi.Parameter()

    def output(self) -> StoredTarget:
        """The list of files, by name and identity."""
        return self.target(f"gathered/{self.snapshot}/files.json")

    def run(self) -> None:
        """See the class."""
        files = list_source(self.source)
        self.output().write([{"name": file.name, "identity": file.identity} for file in files])
        log.info("gather: %d files in %s", len(files), self.source)


class Validate(Task):
    """Check every record; files checked before are not read again."""

    source: str = luigi.Parameter(significant=False)
    snapshot: str = luigi.Parameter()
    schema: str = luigi.Parameter()

    def requires(self) -> Gather:
        """The list of files."""
        return Gather(context=self.context, source=self.source, snapshot=self.snapshot)

    def output(self) -> StoredTarget:
        """The checked parts, one a file."""
        return self.target(f"gathered/{self.snapshot}/parts-{self.schema}.json")

    def run(self) -> None:
        """See the class. Raises BadDataError."""
        context = self.context
        parts = []
        for file in self.input().read():
            prefix = dataset.part_prefix(file["identity"], context.schema)
            checked = dataset.check_file(context.storage, Path(self.source) / file["name"], prefix, context.schema)
            parts.append({"name": file["name"], "prefix": prefix, **checked.properties})
        bad, good = (sum(part[key] for part in parts) for key in ("problems", "rows"))
        log.info("validate: %d records fit, %d do not", good, bad)
        if bad:
            raise BadDataError(self._explain(parts, bad))
        self.output().write(parts)

    def _explain(self, parts: list[dict[str, Any]], bad: int) -> str:
        lines = [f"{bad} records do not fit model.RECORD:"]
        for part in parts:
            for row, reason in dataset.read_problems(self.context.storage, part["prefix"], self.context.work):
                lines.append(f"  {part['name']} row {row}: {reason}")
                if len(lines) > SHOWN_PROBLEMS:
                    return "\n".join([*lines, "  ..."])
        return "\n".join(lines)


class Prepare(Task):
    """Merge, deduplicate and divide the records into a dataset version."""

    source: str = luigi.Parameter(significant=False)
    snapshot: str = luigi.Parameter()
    schema: str = luigi.Parameter()
    validation_fraction: float = luigi.FloatParameter()
    test_fraction: float = luigi.FloatParameter()

    def requires(self) -> Validate:
        """The checked parts."""
        return Validate(context=self.context, source=self.source, snapshot=self.snapshot, schema=self.schema)

    def output(self) -> StoredTarget:
        """The dataset's version."""
        options = f"{self.schema}-{self.validation_fraction:g}-{self.test_fraction:g}"
        return self.target(f"gathered/{self.snapshot}/dataset-{options}.json")

    def run(self) -> None:
        """See the class. Raises BadDataError."""
        prepared = dataset.prepare(
            self.context.storage,
            [part["prefix"] for part in self.input().read()],
            self.context.schema,
            dataset.Options(self.validation_fraction, self.test_fraction),
            self.context.work,
        )
        splits = ", ".join(f"{split['examples']} {name}" for name, split in prepared.properties["splits"].items())
        log.info("prepare: dataset %s with %s examples", prepared.id, splits)
        self.output().write({"version": prepared.id})


def prepare_task(context: Context, source: str) -> Prepare:
    """The task that turns a source into a dataset version. Raises BadDataError if the source holds no records."""
    return Prepare(
        context=context,
        source=source,
        snapshot=snapshot_id(list_source(source)),
        schema=context.schema.fingerprint(),
        validation_fraction=context.parameters.validation_fraction,
        test_fraction=context.parameters.test_fraction,
    )


def list_source(source: str) -> list[SourceFile]:
    """Every file of records below a directory, by name. Raises BadDataError if there is none."""
    directory = Path(source)
    if not directory.is_dir():
        raise BadDataError(f"source {source!r}: must be a directory that exists")
    paths = sorted(path for path in directory.rglob("*") if path.is_file() and path.name.endswith(SUFFIXES))
    if not paths:
        raise BadDataError(f"source {source!r}: holds no file of records; they end in {', '.join(SUFFIXES)}")
    return [SourceFile(path.relative_to(directory).as_posix(), manifest.file_sha256(path)) for path in paths]


def snapshot_id(files: list[SourceFile]) -> str:
    """16 hex digits that follow from the content of the files, whatever their names and order."""
    return hashlib.sha256("\n".join(sorted(file.identity for file in files)).encode()).hexdigest()[:16]
