"""The platform's own tests pass in a rendered repository: in one, as they are the same files in all of them."""

import shutil
from pathlib import Path

import kube_programs
import pytest
from browser import have_browser
from conftest import Render
from rendered import DEFAULTS, commit_all, nox, share_environment


@pytest.fixture(scope="module")
def repository(render: Render, environments: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered repository, under git as a team has it after the next steps."""
    repository = shutil.copytree(render({}), tmp_path_factory.mktemp("platform") / DEFAULTS["model_name"])
    commit_all(repository, "As rendered")
    share_environment(repository, environments)
    return repository


# The session without arguments runs one after the other.
@pytest.mark.platform
@pytest.mark.parametrize("half", ["parallel", pytest.param("serial", marks=pytest.mark.alone)])
def test_the_platforms_own_tests_pass(repository: Path, half: str) -> None:
    complete = have_browser()
    result = nox(repository, "-s", "platform_tests", "--", half)
    assert result.returncode == 0, result.stdout
    assert not complete or " skipped" not in result.stdout, result.stdout


@pytest.mark.nightly
def test_what_takes_too_long_for_every_change_passes(repository: Path) -> None:
    result = nox(repository, "-s", "platform_tests", "--", "-m", "nightly", "mlplatform/tests")
    assert result.returncode == 0, result.stdout


@pytest.mark.nightly
def test_releases_end_well_against_a_real_control_plane(repository: Path) -> None:
    session = ("-s", "platform_tests", "--", "-m", "cluster", "mlplatform/tests/delivery/test_control_plane.py")
    result = nox(repository, *session, CLUSTER_PROGRAMS=str(kube_programs.programs()))
    assert result.returncode == 0, result.stdout
