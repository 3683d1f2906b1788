"""Where the time of a test run went, said from what several processes wrote."""

from pathlib import Path

import pytest
from timing import Timing, read

pytestmark = pytest.mark.unit


@pytest.fixture
def written(tmp_path: Path) -> list[Path]:
    """The timing of two processes, and the place of a third that ran nothing."""
    first, second = Timing(), Timing()
    for number in range(12):
        first.add(f"test_{number}", "unit", number)
    # Set-up and call of one test.
    second.add("test_image", "docker", 40)
    second.add("test_image", "docker", 2)
    first.outcomes.update(passed=12)
    second.outcomes.update(failed=1)
    paths = [tmp_path / name for name in ("first", "second", "third")]
    first.write(paths[0])
    second.write(paths[1])
    return paths


def test_each_tier_has_its_seconds(written: list[Path]) -> None:
    assert read(written).lines()[1:3] == ["    66.0 s  unit", "    42.0 s  docker"]


def test_the_ten_slowest_tests_are_named_longest_first(written: list[Path]) -> None:
    lines = read(written).lines()[4:]
    assert lines[:2] == ["    42.0 s  test_image", "    11.0 s  test_11"]
    assert len(lines) == 10


def test_outcomes_are_counted_over_all_processes(written: list[Path]) -> None:
    assert read(written).outcomes == {"passed": 12, "failed": 1}
