"""Releases to production in Jenkins: none without an approval of this very model, given in this very build."""

import pytest

from mlplatform.store.releases import production
from mlplatform.tests.delivery.conftest import VERSIONS, Delivery, Repository
from mlplatform.tests.delivery.releasing import deployed, history, image_of

BUILD = {"BUILD_URL": "https://jenkins.example.com/job/models/job/7/", "BUILD_NUMBER": "7", "JOB_NAME": "models/job"}
HERE = f"{BUILD['BUILD_URL']} 7"


def approved(model: str, image: str, **other: str) -> dict[str, str]:
    """The variables that the job sets when bob approves what anne has started."""
    given = {"APPROVED_BY": "bob", "APPROVED_BUILD": HERE, "APPROVED_MODEL": model, "APPROVED_IMAGE": image}
    return {**BUILD, "STARTED_BY": "anne", **given, **other}


@pytest.fixture
def image(cluster: Repository) -> str:
    return image_of(cluster, VERSIONS[0])


def test_an_approved_release_is_made_and_written_down_under_the_approvers_name(
    cluster: Repository, delivery: Delivery, monkeypatch: pytest.MonkeyPatch, image: str
) -> None:
    for name, value in approved(VERSIONS[0], image).items():
        monkeypatch.setenv(name, value)
    said = delivery("deploy", "--environment", "production", "--image", image)
    assert said.code == 0, said.err
    assert history(cluster)[-1]["by"] == f"bob, {BUILD['BUILD_URL']}"


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        (dict.fromkeys(("APPROVED_BY", "APPROVED_BUILD"), ""), "nobody has approved it"),
        ({"APPROVED_BUILD": "https://jenkins.example.com/job/models/job/6/ 6"}, "the approval is of another build"),
        ({"BUILD_NUMBER": "8"}, f"the approval is of another build, {HERE}"),
        ({"APPROVED_MODEL": VERSIONS[1]}, f"bob approved {VERSIONS[1]} in "),
        ({"APPROVED_IMAGE": "registry/other@sha256:0"}, "in registry/other@sha256:0; start a new build"),
        ({"STARTED_BY": "bob"}, "bob both started and approved the build"),
        ({"STARTED_BY": "anne,Bob"}, "bob both started and approved the build"),
        # Where Jenkins does not know its own URL.
        ({"BUILD_URL": "", "JENKINS_SERVER_COOKIE": "c"}, "the approval is of another build"),
    ],
)
def test_any_other_is_refused_before_anything_changes(
    cluster: Repository,
    delivery: Delivery,
    monkeypatch: pytest.MonkeyPatch,
    image: str,
    variables: dict[str, str],
    reason: str,
) -> None:
    for name, value in approved(VERSIONS[0], image, **variables).items():
        monkeypatch.setenv(name, value)
    said = delivery("deploy", "--environment", "production", "--image", image)
    assert said.code == 3
    assert reason in said.err
    assert production(cluster.store) is None
    assert not any(line.startswith("apply") for line in cluster.asked("kubectl"))


def test_an_approval_that_does_not_count_gives_nobodys_name(
    cluster: Repository, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in approved("", "", BUILD_NUMBER="8").items():
        monkeypatch.setenv(name, value)
    deployed(cluster, delivery, "staging", VERSIONS[0])
    assert history(cluster)[-1]["by"] == f"anne, {BUILD['BUILD_URL']}"


def test_staging_the_ghost_and_a_laptop_need_none(
    cluster: Repository, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed(cluster, delivery, "production", VERSIONS[0])
    for name, value in BUILD.items():
        monkeypatch.setenv(name, value)
    for environment in ("staging", "ghost"):
        deployed(cluster, delivery, environment, VERSIONS[0])


def test_a_rollback_needs_none(cluster: Repository, delivery: Delivery, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in VERSIONS[:2]:
        deployed(cluster, delivery, "production", version)
    for name, value in BUILD.items():
        monkeypatch.setenv(name, value)
    said = delivery("rollback", "--environment", "production")
    assert said.code == 0, said.err
