"""The memory of a serving container follows from what its model took."""

import pytest

from mlplatform.contract.memory import FILE, LABEL, container_bytes, measured_bytes
from mlplatform.tests.conftest import ROOT

MIB = 1 << 20


def test_a_container_has_headroom_over_its_model_for_each_worker() -> None:
    assert container_bytes(500 * MIB) == (96 + 96 + 600) * MIB
    assert container_bytes(500 * MIB, workers=2) == (96 + 2 * (96 + 600)) * MIB


@pytest.mark.parametrize(("labels", "peak"), [({LABEL: "300000000"}, 300_000_000), ({LABEL: ""}, None), ({}, None)])
def test_an_images_label_says_what_its_model_took(labels: dict[str, str], peak: int | None) -> None:
    assert measured_bytes(labels) == peak


def test_the_image_keeps_the_figure_where_it_is_looked_for() -> None:
    dockerfile = (ROOT / "docker/serving.Dockerfile").read_text(encoding="utf-8")
    assert f"--memory-file {FILE}\n" in dockerfile
    assert f"{LABEL}=${{MEMORY_BYTES}}" in dockerfile
