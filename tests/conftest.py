import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import rendered
from matrix import ROWS, Matrix, Variant
from pipeline import Jenkins
from timing import Timing

Render = Callable[[Mapping[str, str]], Path]
MATRIX = pytest.StashKey[Matrix]()
TIMING = pytest.StashKey[Timing]()
# A test's tier is the first of these markers that it has.
TIERS = ("nodes", "nightly", "platform", "docker", "rendered", "jenkins", "render", "unit")


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template as it stands in the working tree."""
    return rendered.copy_template(rendered.ROOT, tmp_path_factory.mktemp("template") / "template")


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where rendered repositories share an environment; tiers.py names one for all of its processes."""
    named = os.environ.get("TEMPLATE_TESTS_ENVIRONMENTS")
    return Path(named) if named else tmp_path_factory.mktemp("environments")


@pytest.fixture(scope="session")
def jenkins() -> Iterator[Jenkins]:
    """One process that stands in for Jenkins: it takes seconds to start, and a build leaves nothing behind in it."""
    with Jenkins() as running:
        yield running


@pytest.fixture
def source(template: Path, tmp_path: Path) -> Path:
    """A git repository of the template, to change and commit in."""
    source = tmp_path / "template"
    shutil.copytree(template, source)
    rendered.commit_all(source, "The template")
    return source


@pytest.fixture(scope="session")
def render(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Render:
    """Renders with the answers given; the same answers are rendered once, so nobody may change what comes out."""
    repositories: dict[tuple[tuple[str, str], ...], Path] = {}

    def render_once(answers: Mapping[str, str]) -> Path:
        key = tuple(sorted(answers.items()))
        if key not in repositories:
            repositories[key] = rendered.render(template, tmp_path_factory.mktemp("rendered"), answers)
        return repositories[key]

    return render_once


@pytest.fixture(scope="session")
def matrix(render: Render, request: pytest.FixtureRequest) -> Matrix:
    """Every combination of the choices, and one of other names; what is executed in each is shown at the end."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        paths = list(pool.map(render, ROWS))
    found = [
        Variant(rendered.answered(answers), path, rendered.files(path))
        for answers, path in zip(ROWS, paths, strict=True)
    ]
    return request.config.stash.setdefault(MATRIX, Matrix(found))


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TIMING] = Timing()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave nightly tests, and those of nodes, out unless `-m` names them: `-m docker` does not mean those."""
    for marker in ("nightly", "nodes"):
        if marker not in config.option.markexpr:
            left_out = [item for item in items if item.get_closest_marker(marker)]
            config.hook.pytest_deselected(items=left_out)
            items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome = yield
    report: pytest.TestReport = outcome.get_result()  # type: ignore[attr-defined]
    timing = item.config.stash[TIMING]
    tier = next((tier for tier in TIERS if item.get_closest_marker(tier)), "other")
    timing.add(item.nodeid, tier, report.duration)
    if report.when == "call" and not report.failed:
        timing.outcomes[report.outcome] += 1
    elif report.failed:
        timing.outcomes["failed"] += 1
    elif report.skipped:
        timing.outcomes["skipped"] += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    matrix = config.stash.get(MATRIX, None)
    if matrix is not None and matrix.executions:
        terminalreporter.section("matrix")
        terminalreporter.write_line(matrix.table())
    timing = config.stash[TIMING]
    terminalreporter.section("time")
    for line in timing.lines():
        terminalreporter.write_line(line)
    if "TEMPLATE_TESTS_TIMING" in os.environ:
        timing.write(Path(os.environ["TEMPLATE_TESTS_TIMING"]))
