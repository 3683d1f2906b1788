"""From source data to a dataset version: gather -> validate -> prepare."""

import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import luigi

from mlplatform.contract.errors import BadDataError
from mlplatform.data.parts import CheckedFile, Known, check_files, known_files, parts_of, read_all_problems
from mlplatform.data.sources import Source, SourceFile, list_source, opening
from mlplatform.data.splitting import SplitRule
from mlplatform.data.versions import prepare
from mlplatform.store.storage import open_storage
from mlplatform.training.shares import Share
from mlplatform.training.task import Context, ObjectParameter, StoredTarget, Task

log = logging.getLogger(__name__)
# Wrong records shown in the log; all of them are in the store.
SHOWN_PROBLEMS = 10
# Different reasons of which the most frequent are shown in the dataset's report.
COUNTED_REASONS = 10_000
SECONDS_BETWEEN_LINES = 1.0


class Gather(Task):
    """Record which files the source holds."""

    source: Source = ObjectParameter()
    snapshot: str = luigi.Parameter()

    def output(self) -> StoredTarget:
        """The list of files, by key and identity."""
        return self.target(f"gathered/{self.snapshot}/files.json")

    def run(self) -> None:
        """See the class."""
        source = self.source
        self.output().write([{"key": file.key, "identity": file.name} for file in source.files])
        log.info("gather: %d files in %s", len(source.files), source.url)
        if source.passed_over:
            log.info("gather: %d files passed over: %s", len(source.passed_over), _shown(source.passed_over))
        if source.hidden:
            log.info("gather: %d hidden files are no data", source.hidden)


class Validate(Task):
    """Check every record of the source; a file that was checked before is neither downloaded nor read again."""

    source: Source = ObjectParameter()
    snapshot: str = luigi.Parameter()
    schema: str = luigi.Parameter()
    maximum_bad_records: float = luigi.FloatParameter()

    def requires(self) -> Gather:
        """The list of files."""
        return Gather(context=self.context, source=self.source, snapshot=self.snapshot)

    def output(self) -> StoredTarget:
        """The checked files by their names, how many records are left out, and how many more may be."""
        return self.target(f"gathered/{self.snapshot}/parts-{self.schema}-{self.maximum_bad_records:g}.json")

    def run(self) -> None:
        """See the class. Raises BadDataError if a file is broken or more records fail than may."""
        known = _checked(self.context, self.source)
        keys = {file.name: file.key for file in self.source.files}
        self._refuse_broken({keys[name]: file.fault for name, (_, _, file) in known.items() if file.fault})
        problems = read_all_problems(self.context.storage, known, self.context.schema, self.context.work)
        bad, summary, reasons = self._list_problems(keys, problems)
        records = sum(file.rows + file.problems for _, _, file in known.values())
        if forgotten := sum(file.forgotten for _, _, file in known.values()):
            log.info("validate: %d records are left out as they were to be forgotten", forgotten)
        if dropped := sum(file.dropped for _, _, file in known.values()):
            log.info("validate: of %d rows the steps of the model make no record", dropped)
        allowed = int(self.maximum_bad_records * records)
        if bad:
            if bad > allowed:
                bound = f"maximum_bad_records = {self.maximum_bad_records:g} allows {allowed} of {records}"
                raise BadDataError(f"{summary}\n{bound}")
            log.warning("validate: left out: %s", summary)
        about = {"files": len(keys), "read": records, "fit": records - bad, "left_out": bad, "reasons": reasons}
        about |= {"dropped": dropped} if dropped else {}
        self.output().write({"files": sorted(known), "left_out": bad, "allowed": allowed - bad, "records": about})

    def _refuse_broken(self, faults: dict[str, str]) -> None:
        if faults:
            lines = [f"  {key} {fault}" for key, fault in list(faults.items())[:SHOWN_PROBLEMS]]
            more = [f"  and {len(faults) - len(lines)} more"] if len(faults) > len(lines) else []
            raise BadDataError(
                "\n".join(
                    [
                        f"{len(faults)} of {len(self.source.files)} files cannot be read; "
                        "repair them, or leave them out by pass_over:",
                        *lines,
                        *more,
                    ]
                )
            )

    def _list_problems(
        self, keys: dict[str, str], problems: Iterator[tuple[str, int, str]]
    ) -> tuple[int, str, list[tuple[str, int]]]:
        """Store the list of all wrong records; return their number, the first and where the list is, as lines, and the
        most frequent reasons.
        """
        lines: list[str] = []
        reasons: Counter[str] = Counter()
        count = 0
        key = f"gathered/{self.snapshot}/problems-{self.schema}.jsonl"
        with TemporaryDirectory(dir=self.context.work) as temporary:
            path = Path(temporary) / "problems.jsonl"
            with path.open("w", encoding="utf-8") as file:
                for count, (name, row, reason) in enumerate(problems, start=1):
                    problem = {"file": keys[name], "row": row, "reason": reason}
                    file.write(json.dumps(problem) + "\n")
                    if len(reasons) < COUNTED_REASONS or reason in reasons:
                        reasons[reason] += 1
                    if count <= SHOWN_PROBLEMS:
                        lines.append(f"  {keys[name]} row {row}: {reason}")
            if count:
                self.context.storage.upload(path, key)
        head = f"{count} records do not fit model.RECORD:"
        # Whoever mends a step would be told the same again.
        kept = (
            ["a step of model.STEPS is called again once its version is another"] if self.context.schema.steps else []
        )
        text = "\n".join([head, *lines, *kept, f"all of them: {self.context.storage.url}/{key}"])
        return count, text, reasons.most_common(SHOWN_PROBLEMS)


def check_share(context: Context, url: str, share: Share) -> None:
    """Check those files of a source that are this machine's share. What they hold is judged when all are checked.

    Raises BadDataError if the source holds no records.
    """
    source = list_source(url, context.parameters.pass_over_patterns)
    # Each file once, or two machines would check the same content.
    files = share.of(list({file.name: file for file in source.files}.values()))
    log.info("validate: machine %d of %d checks %d files", share.index + 1, share.machines, len(files))
    _checked(context, replace(source, files=tuple(files)))


def _checked(context: Context, source: Source) -> Known:
    """Check the files of a source that were not checked before, and return what is known of each."""
    storage = open_storage(source.url)
    before = known_files(context.storage, context.schema)
    files = {file.name: file for file in source.files}
    new = [file for name, file in files.items() if name not in before]
    if len(files) < len(source.files):
        log.warning("validate: %d files repeat others and count once", len(source.files) - len(files))
    if len(new) < len(files):
        log.info("validate: %d of %d files were checked before", len(files) - len(new), len(files))
    with opening(storage, new, context.work) as opened:
        _tell(check_files(context.storage, new, opened, context.schema, context.work), len(new))
    if new:
        before = known_files(context.storage, context.schema)
    return {name: before[name] for name in files}


def _tell(checks: Iterator[tuple[SourceFile, CheckedFile]], count: int) -> None:
    """Log what becomes of so many files as they are checked; of many small ones not each is told."""
    headers: set[str] = set()
    shown = 0.0
    for number, (file, checked) in enumerate(checks, start=1):
        if time.monotonic() - shown >= SECONDS_BETWEEN_LINES or number == count or checked.fault:
            shown = time.monotonic()
            said = checked.fault or f"{checked.rows} records fit"
            log.info("validate: file %d/%d %s: %s", number, count, file.key, said)
        if checked.header and checked.header not in headers and len(headers) < SHOWN_PROBLEMS:
            headers.add(checked.header)
            log.info("validate: %s: %s", file.key, checked.header)


def _shown(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - SHOWN_PROBLEMS} more" if len(keys) > SHOWN_PROBLEMS else ""
    return ", ".join(keys[:SHOWN_PROBLEMS]) + more


class Prepare(Task):
    """Merge, deduplicate and divide the records into a dataset version."""

    source: Source = ObjectParameter()
    snapshot: str = luigi.Parameter()
    schema: str = luigi.Parameter()
    maximum_bad_records: float = luigi.FloatParameter()
    rule: SplitRule = ObjectParameter()
    # What the rule says, as a name for the output.
    division: str = luigi.Parameter()

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
        options = f"{self.division}-{self.maximum_bad_records:g}"
        return self.target(f"gathered/{self.snapshot}/dataset-{self.schema}-{options}.json")

    def run(self) -> None:
        """See the class. Raises BadDataError."""
        validated = self.input().read()
        known = known_files(self.context.storage, self.context.schema)
        prepared = prepare(
            self.context.storage,
            parts_of(known, validated["files"]),
            self.context.schema,
            self.rule,
            self.context.work,
            conflicts_allowed=validated["allowed"],
            records=validated["records"],
        )
        splits = ", ".join(f"{split['examples']} {name}" for name, split in prepared.properties["splits"].items())
        log.info("prepare: dataset %s with %s examples", prepared.id, splits)
        duplicates = {name: count for name, count in prepared.properties["duplicates"].items() if count}
        if duplicates:
            log.warning("prepare: duplicates: %s", ", ".join(f"{n} {name}" for name, n in duplicates.items()))
        self.output().write({"version": prepared.id, "left_out": validated["left_out"]})


def prepare_task(context: Context, url: str) -> Prepare:
    """The task that turns a source into a dataset version. Raises BadDataError if the source holds no records."""
    parameters = context.parameters
    source = list_source(url, parameters.pass_over_patterns)
    rule = SplitRule(
        parameters.validation_fraction,
        parameters.test_fraction,
        parameters.split_group,
        parameters.split_time,
        parameters.test_after,
        parameters.split_fixed,
        parameters.split_stratified,
        parameters.near_duplicates_together,
    )
    division = f"{rule.validation_fraction:g}-{rule.test_fraction:g}"
    if rule.group or rule.time or rule.fixed or rule.of_all:
        division += "-" + hashlib.sha256(json.dumps(rule.identity()).encode()).hexdigest()[:8]
    return Prepare(
        context=context,
        source=source,
        snapshot=source.snapshot(),
        schema=context.schema.fingerprint(),
        maximum_bad_records=parameters.maximum_bad_records,
        rule=rule,
        division=division,
    )
