"""From source data to a dataset version: gather -> validate -> prepare."""

import json
import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import luigi

from mlplatform.contract.errors import BadDataError
from mlplatform.data.parts import check_file, part_prefix, read_problems
from mlplatform.data.sources import Source, list_source, local_file
from mlplatform.data.versions import prepare
from mlplatform.data.writing import SplitFractions
from mlplatform.store.manifest import MANIFEST
from mlplatform.store.storage import open_storage
from mlplatform.training.task import Context, ObjectParameter, StoredTarget, Task

log = logging.getLogger(__name__)
# Wrong records shown in the log; all of them are in the store.
SHOWN_PROBLEMS = 10


class Gather(Task):
    """Record which files the source holds."""

    source: Source = ObjectParameter()
    snapshot: str = luigi.Parameter()

    def output(self) -> StoredTarget:
        """The list of files, by key and identity."""
        return self.target(f"gathered/{self.snapshot}/files.json")

    def run(self) -> None:
        """See the class."""
        self.output().write([{"key": file.key, "identity": file.identity} for file in self.source.files])
        log.info("gather: %d files in %s", len(self.source.files), self.source.url)


class Validate(Task):
    """Check every record of the source; a file that was checked before is not read again."""

    source: Source = ObjectParameter()
    snapshot: str = luigi.Parameter()
    schema: str = luigi.Parameter()
    maximum_bad_records: float = luigi.FloatParameter()

    def requires(self) -> Gather:
        """The list of files."""
        return Gather(context=self.context, source=self.source, snapshot=self.snapshot)

    def output(self) -> StoredTarget:
        """The checked parts, one per file, and how many more records may be left out."""
        return self.target(f"gathered/{self.snapshot}/parts-{self.schema}-{self.maximum_bad_records:g}.json")

    def run(self) -> None:
        """See the class. Raises BadDataError if more records fail than may."""
        context, storage = self.context, open_storage(self.source.url)
        parts = []
        for number, file in enumerate(self.source.files, start=1):
            prefix = part_prefix(file.identity, context.schema)
            checked = context.storage.exists(f"{prefix}/{MANIFEST}")
            with local_file(storage, file.key, context.work) as path:
                part = check_file(context.storage, path, prefix, context.schema)
            parts.append({"key": file.key, "prefix": prefix, **part.properties})
            done = f"validate: file {number}/{len(self.source.files)} {file.key}: {part.properties['rows']} records fit"
            log.info("%s%s", done, ", checked before" if checked else "")
        bad, good = (sum(part[name] for part in parts) for name in ("problems", "rows"))
        allowed = int(self.maximum_bad_records * (bad + good))
        if bad:
            summary = self._list_problems(parts, bad)
            if bad > allowed:
                bound = f"maximum_bad_records = {self.maximum_bad_records:g} allows {allowed} of {bad + good}"
                raise BadDataError(f"{summary}\n{bound}")
            log.warning("validate: left out: %s", summary)
        self.output().write({"parts": parts, "left_out": bad, "allowed": allowed - bad})

    def _list_problems(self, parts: list[dict[str, Any]], bad: int) -> str:
        """Store the list of all wrong records; return the first of them and where the list is, as lines."""
        lines = [f"{bad} records do not fit model.RECORD:"]
        key = f"gathered/{self.snapshot}/problems-{self.schema}.jsonl"
        with TemporaryDirectory(dir=self.context.work) as temporary:
            path = Path(temporary) / "problems.jsonl"
            with path.open("w", encoding="utf-8") as file:
                for part in parts:
                    for row, reason in read_problems(self.context.storage, part["prefix"], self.context.work):
                        problem = {"file": part["key"], "row": row, "reason": reason}
                        file.write(json.dumps(problem, ensure_ascii=False) + "\n")
                        if len(lines) <= SHOWN_PROBLEMS:
                            lines.append(f"  {part['key']} row {row}: {reason}")
            self.context.storage.upload(path, key)
        return "\n".join([*lines, f"all of them: {self.context.storage.url}/{key}"])


class Prepare(Task):
    """Merge, deduplicate and divide the records into a dataset version."""

    source: Source = ObjectParameter()
    snapshot: str = luigi.Parameter()
    schema: str = luigi.Parameter()
    maximum_bad_records: float = luigi.FloatParameter()
    validation_fraction: float = luigi.FloatParameter()
    test_fraction: float = luigi.FloatParameter()

    def requires(self) -> Validate:
        """The checked parts."""
        return Validate(
            context=self.context,
            source=self.source,
            snapshot=self.snapshot,
            schema=self.schema,
            maximum_bad_records=self.maximum_bad_records,
        )

    def output(self) -> StoredTarget:
        """The dataset's version."""
        options = f"{self.validation_fraction:g}-{self.test_fraction:g}-{self.maximum_bad_records:g}"
        return self.target(f"gathered/{self.snapshot}/dataset-{self.schema}-{options}.json")

    def run(self) -> None:
        """See the class. Raises BadDataError."""
        validated = self.input().read()
        prepared = prepare(
            self.context.storage,
            [part["prefix"] for part in validated["parts"]],
            self.context.schema,
            SplitFractions(self.validation_fraction, self.test_fraction),
            self.context.work,
            conflicts_allowed=validated["allowed"],
        )
        splits = ", ".join(f"{split['examples']} {name}" for name, split in prepared.properties["splits"].items())
        log.info("prepare: dataset %s with %s examples", prepared.id, splits)
        duplicates = {name: count for name, count in prepared.properties["duplicates"].items() if count}
        if duplicates:
            log.warning("prepare: duplicates: %s", ", ".join(f"{n} {name}" for name, n in duplicates.items()))
        self.output().write({"version": prepared.id, "left_out": validated["left_out"]})


def prepare_task(context: Context, url: str) -> Prepare:
    """The task that turns a source into a dataset version. Raises BadDataError if the source holds no records."""
    source = list_source(url)
    return Prepare(
        context=context,
        source=source,
        snapshot=source.snapshot(),
        schema=context.schema.fingerprint(),
        maximum_bad_records=context.parameters.maximum_bad_records,
        validation_fraction=context.parameters.validation_fraction,
        test_fraction=context.parameters.test_fraction,
    )
