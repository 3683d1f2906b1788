"""Where the time of a test run goes: the seconds of each tier, and the tests that take longest."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

SLOWEST = 10


@dataclass
class Timing:
    """What one or several pytest processes ran. tiers, tests: seconds by name; outcomes: number of tests by outcome."""

    tiers: dict[str, float] = field(default_factory=dict)
    tests: dict[str, float] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)

    def add(self, test: str, tier: str, seconds: float) -> None:
        """Count the seconds of a test's set-up, call or tear-down."""
        self.tiers[tier] = self.tiers.get(tier, 0.0) + seconds
        self.tests[test] = self.tests.get(test, 0.0) + seconds

    def lines(self) -> list[str]:
        """The tiers, then the slowest tests, longest first. A fixture counts for the test that is first to use it."""
        tiers = [f"{seconds:8.1f} s  {tier}" for tier, seconds in _longest(self.tiers)]
        tests = [f"{seconds:8.1f} s  {test}" for test, seconds in _longest(self.tests)[:SLOWEST]]
        return ["seconds of each tier", *tiers, f"the {len(tests)} slowest tests", *tests]

    def write(self, path: Path) -> None:
        """Write it for another process."""
        path.write_text(json.dumps(vars(self)), encoding="utf-8")


def read(paths: Iterable[Path]) -> Timing:
    """What several processes wrote, as one; a file that is not there is of a process that ran no test."""
    total = Timing()
    for path in paths:
        if path.exists():
            written = json.loads(path.read_text(encoding="utf-8"))
            for tier, seconds in written["tiers"].items():
                total.tiers[tier] = total.tiers.get(tier, 0.0) + seconds
            # No test is in two processes.
            total.tests |= written["tests"]
            total.outcomes.update(written["outcomes"])
    return total


def _longest(seconds: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(seconds.items(), key=lambda item: item[1], reverse=True)
