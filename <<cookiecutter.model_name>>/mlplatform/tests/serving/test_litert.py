"""The other runtime."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlplatform.runtime import litert
from mlplatform.tests.serving.running import ROOT, Running, serving


@pytest.fixture(scope="module")
def light_server(light: Path) -> Iterator[Running]:
    with serving(light) as running:
        running.wait_for(200)
        yield running


@pytest.mark.parametrize("rows", [1, 2, 11, 64, 200])
def test_gives_the_same_predictions(light_server: Running, reference: Any, rows: int) -> None:
    images = np.random.default_rng(rows).uniform(0, 16, (rows, 8, 8)).astype(np.float32)
    reply = light_server.predict({"instances": images.tolist()})
    np.testing.assert_allclose(reply.body["predictions"], reference({"image": images}), atol=1e-5)


@pytest.mark.parametrize("rows", [1, 3, 15, 70])
def test_a_large_model_is_computed_in_other_batches_and_the_same(
    light: Path, reference: Any, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litert, "_LARGE_BYTES", 0)
    (file,) = light.parent.glob("store/models/*/*/model.tflite")
    run = litert.load(file, ["image"], ["probabilities"], threads=1)
    images = np.random.default_rng(rows).uniform(0, 16, (rows, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(run([images])[0], reference({"image": images}), atol=1e-5)


def test_needs_no_tensorflow(light_server: Running) -> None:
    (worker,) = light_server.workers()
    maps = Path(f"/proc/{worker}/maps").read_text()
    assert "ai_edge_litert" in maps
    assert "/tensorflow/" not in maps


def test_its_image_holds_what_the_other_does_but_for_tensorflow() -> None:
    def packages(name: str) -> set[str]:
        lines = (ROOT / "requirements" / name).read_text().splitlines()
        return {line for line in lines if not line.startswith("#")}

    common = {line for line in packages("serving.in") if not line.startswith("tensorflow")}
    assert packages("serving-litert.in") == common | {"ai-edge-litert"}
    assert "\ntensorflow" not in (ROOT / "requirements/serving-litert.txt").read_text()


def test_a_model_that_does_not_convert_is_refused_with_the_reason(everything_toml: Path) -> None:
    with serving(everything_toml, runtime="litert") as server:
        assert server.process.wait(30) == 3
        assert (
            "error: [serving] runtime = 'litert' cannot compute model bbbbbbbbbbbb: StringLookup does not convert; "
            "use runtime = 'tensorflow'" in server.log
        )
