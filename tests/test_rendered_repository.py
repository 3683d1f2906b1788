"""A rendered repository works on its first day: its own checks, training, serving; and with another team's model."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import have_browser
from conftest import Render
from documented import documented
from rendered import LEFT_BY_TOOLS, ROOT, commit_all, files, get, git, nox, post, published_model, serving

pytestmark = pytest.mark.rendered

NAME = "leaf-reader"


@pytest.fixture(scope="module")
def repository(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered repository, under git as a team would have it."""
    repository = tmp_path_factory.mktemp("day-one") / NAME
    shutil.copytree(render({"model_name": NAME}), repository)
    commit_all(repository, "As rendered")
    return repository


@pytest.fixture(scope="module")
def manifest(repository: Path) -> dict[str, Any]:
    """The manifest of the model that a first training published."""
    result = nox(repository, *arguments(documented(repository, "README.md", ".venv/bin/nox -s train")))
    assert result.returncode == 0, result.stdout
    return published_model(repository)


@pytest.fixture(scope="module")
def service(repository: Path, manifest: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Base URL of the service, serving the model published."""
    command = ("nox", *arguments(documented(repository, "README.md", ".venv/bin/nox -s serve")))
    with serving(repository, tmp_path_factory.mktemp("service") / "server.log", command=command) as url:
        yield url


def arguments(command: str) -> list[str]:
    """What stands behind `.venv/bin/nox`."""
    program, *rest = command.split()
    assert program == ".venv/bin/nox"
    return rest


def test_its_own_lint_and_tests_pass(repository: Path) -> None:
    complete = have_browser()
    result = nox(repository, "-s", "lint", "tests")
    assert result.returncode == 0, result.stdout
    assert not complete or " skipped" not in result.stdout, result.stdout


def test_clients_that_others_wrote_work_unchanged(repository: Path) -> None:
    result = nox(repository, "-s", "clients")
    assert result.returncode == 0, result.stdout


def test_the_manifests_break_no_policy(repository: Path) -> None:
    result = nox(repository, "-s", "policies")
    assert result.returncode == 0, result.stdout


def test_training_publishes_an_accurate_model(manifest: dict[str, Any]) -> None:
    assert manifest["kind"] == "model"
    assert manifest["properties"]["name"] == NAME
    assert manifest["properties"]["metrics"]["accuracy"] >= 0.97


def test_training_again_does_nothing_because_it_is_done(repository: Path, manifest: dict[str, Any]) -> None:
    before = files(repository / "store")
    result = nox(repository, "-s", "train")
    assert result.returncode == 0, result.stdout
    assert files(repository / "store") == before


def test_the_published_version_is_listed(repository: Path, manifest: dict[str, Any]) -> None:
    result = nox(repository, "-s", "delivery", "--", "models", "--store", "store")
    assert result.returncode == 0, result.stdout
    assert manifest["id"] in result.stdout


def test_the_service_predicts_images_it_never_saw(service: str, manifest: dict[str, Any]) -> None:
    properties = manifest["properties"]
    instances = [sample["instance"] for sample in properties["samples"]]
    status, body = post(f"{service}/v1/models/{NAME}:predict", {"instances": instances})
    assert status == 200, body
    assert all(sum(probabilities) == pytest.approx(1, abs=1e-4) for probabilities in body["predictions"])
    assert_accurate(body["predictions"], properties, 0.9)


def test_the_readmes_request_is_answered_as_it_says(
    repository: Path, service: str, manifest: dict[str, Any], tmp_path: Path
) -> None:
    command = documented(repository, "README.md", "curl ")
    assert "localhost:8080/" in command
    program = command.replace("localhost:8080", service.removeprefix("http://"))
    result = subprocess.run(["/bin/sh", "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (probabilities,) = json.loads(result.stdout)["predictions"]
    assert manifest["properties"]["labels"][probabilities.index(max(probabilities))] == "0"
    assert "This one is a zero." in (repository / "README.md").read_text(encoding="utf-8")


def test_the_templates_first_command_ends_with_a_prediction(
    repository: Path, manifest: dict[str, Any], tmp_path: Path
) -> None:
    set_up, _, program = documented(ROOT, "README.md", "nox -s demo").rpartition(" && ")
    # CI begins with the same set-up.
    assert documented(ROOT, "README.md", "nox -s lint tests").startswith(f"{set_up} && ")
    result = nox(
        ROOT,
        *arguments(program),
        "--",
        str(tmp_path / "demo"),
        # With the environments that are there, and no longer than it takes to say something.
        NOX_ENVDIR=str(repository / ".nox"),
        TRAINING_EPOCHS="3",
        TRAINING_MINIMUM_ACCURACY="0.1",
        TRAINING_LITERT="false",
    )
    assert result.returncode == 0, result.stdout
    assert re.search(
        r"The service says: \d, with a probability of \d\.\d{3}\. The label in the data: \d\.", result.stdout
    )


def assert_accurate(predictions: list[list[float]], properties: dict[str, Any], share: float) -> None:
    """At least this share of the predictions has the label of its sample."""
    predicted = [properties["labels"][scores.index(max(scores))] for scores in predictions]
    labels = [sample["label"] for sample in properties["samples"]]
    right = sum(found == label for found, label in zip(predicted, labels, strict=True))
    assert right >= share * len(labels), (predicted, labels)


def test_the_service_tells_what_is_wrong_with_a_request(service: str, manifest: dict[str, Any]) -> None:
    status, body = post(f"{service}/v1/models/{NAME}:predict", {"instances": [{"image": [[1, 2], [3, 4]]}]})
    assert status == 400
    assert "image" in body["error"]


def test_the_service_is_healthy(service: str) -> None:
    assert get(f"{service}/v2/health/live")[0] == 200
    assert get(f"{service}/v2/health/ready")[0] == 200


def test_nothing_that_training_and_serving_leave_behind_shows_up_in_git(repository: Path, service: str) -> None:
    assert git(repository, "status", "--porcelain") == ""


@pytest.fixture(scope="module")
def wine(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered repository with another team's model: tabular, thirteen scalar inputs, three classes."""
    repository = tmp_path_factory.mktemp("wine") / NAME
    shutil.copytree(render({"model_name": NAME}), repository)
    shutil.rmtree(repository / "model")
    shutil.copytree(ROOT / "tests" / "examples" / "wine" / "model", repository / "model", ignore=LEFT_BY_TOOLS)
    return repository


@pytest.fixture(scope="module")
def wine_manifest(wine: Path) -> dict[str, Any]:
    """The manifest of the other model, as training published it."""
    result = nox(wine, "-s", "train")
    assert result.returncode == 0, result.stdout
    return published_model(wine)


class TestAnotherModel:
    """A team's own model in place of the digits. Only `model/` is replaced; nothing else is edited."""

    def test_is_trained_and_published_by_the_same_pipeline(self, wine_manifest: dict[str, Any]) -> None:
        properties = wine_manifest["properties"]
        assert properties["labels"] == ["cultivar-1", "cultivar-2", "cultivar-3"]
        assert properties["metrics"]["accuracy"] >= 0.9
        inputs = {signature["name"]: signature for signature in properties["signature"]["inputs"]}
        assert len(inputs) == 13
        assert inputs["proline"] == {"name": "proline", "shape": [None], "dtype": "float32"}

    def test_is_served_by_the_same_server(self, wine: Path, wine_manifest: dict[str, Any], tmp_path: Path) -> None:
        properties = wine_manifest["properties"]
        instances = [sample["instance"] for sample in properties["samples"]]
        with serving(wine, tmp_path / "server.log") as url:
            status, body = post(f"{url}/v1/models/{NAME}:predict", {"instances": instances})
            assert status == 200, body
            assert_accurate(body["predictions"], properties, 0.9)
            status, body = post(f"{url}/v1/models/{NAME}:predict", {"instances": [{"proline": 1065}]})
            assert status == 400
            assert "alcohol" in body["error"]

    def test_passes_the_repositorys_own_lint_and_the_tests_of_the_room_that_imports_it(self, wine: Path) -> None:
        # No other room sees the model; with the digits above, their tests have run once.
        result = nox(wine, "-s", "lint", "tests", "--", "tests/training", "tests/test_rooms.py")
        assert result.returncode == 0, result.stdout
