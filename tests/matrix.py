"""Every combination of the choices, rendered once, and which check was executed in which of them.

Most files are the same in many combinations, byte for byte. A check names the files that it reads, and is executed in
one repository of each group in which these are the same.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from time import monotonic

from rendered import COMBINATIONS, DEFAULTS

# Beside the combinations: other names, as far from the defaults as the rules allow.
OTHER_NAMES: Mapping[str, str] = {
    "example": "text",
    "model_name": "m" * 40,
    "description": r'Reads "leaves" \o/, Gemüse & {{ y }}, ${z}: <b>50 %</b>',
    "owning_team": "t" * 63,
    "aws_region": "us-gov-west-1",
    "artifact_bucket": "a.b.c",
    "container_registry": "localhost:5000",
    "batch_job_queue": "Queue_1",
    "kubernetes_namespace": "m",
    "datadog_site": "ap1.datadoghq.com",
    "training_device": "cpu",
}
ROWS: list[Mapping[str, str]] = [*COMBINATIONS, OTHER_NAMES]


@dataclass(frozen=True)
class Variant:
    """A rendered repository: its answers, where it is, and every file's content by its path."""

    answers: Mapping[str, str]
    path: Path
    files: Mapping[str, bytes]

    @property
    def label(self) -> str:
        """Its row in the table."""
        names = "" if self.answers["model_name"] == DEFAULTS["model_name"] else ", other names"
        choices = (self.answers[name] for name in ("example", "datadog_site", "training_device"))
        return f"{', '.join(choices)}{names}"

    def matching(self, patterns: tuple[str, ...]) -> dict[str, bytes]:
        """The files that match one of the patterns, in which `*` stands for folders as well."""
        return {
            path: content for path, content in self.files.items() if any(fnmatch(path, pattern) for pattern in patterns)
        }


@dataclass(frozen=True)
class Execution:
    """A check that passed: in which repository, for which, that one among them, and its seconds."""

    check: str
    executed: str
    covers: tuple[str, ...]
    seconds: float


@dataclass
class Matrix:
    """The variants, and what was executed in them so far."""

    variants: list[Variant]
    executions: list[Execution] = field(default_factory=list)

    def each(self, check: str, *patterns: str) -> Iterator[Variant]:
        """One variant of each group in which the files of these patterns are the same; noted when the loop goes on."""
        groups: dict[frozenset[tuple[str, bytes]], list[Variant]] = {}
        for variant in self.variants:
            groups.setdefault(frozenset(variant.matching(patterns).items()), []).append(variant)
        for group in groups.values():
            started = monotonic()
            yield group[0]
            covers = tuple(variant.label for variant in group)
            self.executions.append(Execution(check, group[0].label, covers, monotonic() - started))

    def each_file(self, check: str, *patterns: str) -> Iterator[tuple[str, bytes]]:
        """Path and content of every file of these patterns, once for each content that it has in some variant."""
        holders: dict[tuple[str, bytes], list[Variant]] = {}
        for variant in self.variants:
            for path, content in variant.matching(patterns).items():
                holders.setdefault((path, content), []).append(variant)
        for file, group in holders.items():
            started = monotonic()
            yield file
            covers = tuple(variant.label for variant in group)
            self.executions.append(Execution(check, group[0].label, covers, monotonic() - started))

    def table(self) -> str:
        """A row for each variant, a column for each check: x where it was executed, = where its files are the same."""
        checks = list(dict.fromkeys(execution.check for execution in self.executions))
        lines = ["x executed here; = it reads files that are the same, byte for byte, as where it was executed"]
        for number, check in enumerate(checks, 1):
            of = [execution for execution in self.executions if execution.check == check]
            seconds = sum(execution.seconds for execution in of)
            lines.append(f"{number:4}  {check}: executed {len(of)} times, {seconds:.1f} s")
        width = max(len(variant.label) for variant in self.variants)
        lines.append(" " * width + "".join(f"{number:4}" for number in range(1, len(checks) + 1)))
        for variant in self.variants:
            marks = (self._mark(variant.label, check) for check in checks)
            lines.append(variant.label.ljust(width) + "".join(f"{mark:>4}" for mark in marks))
        return "\n".join(lines)

    def _mark(self, label: str, check: str) -> str:
        of = [execution for execution in self.executions if execution.check == check and label in execution.covers]
        return ("x" if any(execution.executed == label for execution in of) else "=") if of else "-"
