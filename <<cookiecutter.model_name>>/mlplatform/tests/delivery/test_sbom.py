"""`sbom`: the list of what is installed in an image, out of the image."""

import json

import pytest

from mlplatform.tests.delivery.conftest import Delivery, Repository

IMAGE = f"registry.example.com/team/under-test-serving@sha256:{'1' * 64}"
LISTED = {"bomFormat": "CycloneDX", "components": [{"name": "flask"}, {"name": "gunicorn"}]}


@pytest.fixture(autouse=True)
def image(repository: Repository) -> None:
    (repository.programs / "sbom.cdx.json").write_text(json.dumps(LISTED))


def test_is_printed(repository: Repository, delivery: Delivery) -> None:
    said = delivery("sbom", IMAGE)
    assert (said.code, json.loads(said.out)) == (0, LISTED)
    assert repository.asked("docker") == [
        f"run --rm --network=none --entrypoint=cat {IMAGE} /opt/venv/share/sbom.cdx.json"
    ]


def test_is_written_into_a_file(repository: Repository, delivery: Delivery) -> None:
    said = delivery("sbom", IMAGE, "--output", "reports/sbom.json")
    assert said.out == "reports/sbom.json: 2 components\n"
    assert json.loads((repository.path / "reports" / "sbom.json").read_text()) == LISTED


def test_an_image_without_one_is_no_success(repository: Repository, delivery: Delivery) -> None:
    (repository.programs / "sbom.cdx.json").write_text("no list")
    said = delivery("sbom", IMAGE, "--output", "reports/sbom.json")
    assert said.code == 1
    assert "no list of components" in said.err
    assert not (repository.path / "reports").exists()


def test_an_image_is_named_by_digest(delivery: Delivery) -> None:
    said = delivery("sbom", "registry.example.com/team/under-test-serving:latest")
    assert said.code == 2
    assert "must name its digest" in said.err
