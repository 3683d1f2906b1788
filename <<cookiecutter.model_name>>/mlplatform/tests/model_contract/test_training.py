"""The contract of a model with the pipeline: it can be stopped, resumed, exported, judged and published."""

from typing import Any

import pytest

import model
from mlplatform.contract.runtimes import exported_for
from mlplatform.store.manifest import Manifest
from mlplatform.tests.conftest import run
from mlplatform.tests.model_contract.conftest import Trained, train


def test_a_run_that_is_told_to_stop_ends(trained: Trained) -> None:
    assert trained.stopped.stderr.splitlines()[-1:] == ["stopped"], trained.stopped.stdout + trained.stopped.stderr
    assert "train: on " in trained.stopped.stdout


def test_the_next_run_resumes_and_publishes_a_model(trained: Trained) -> None:
    # A network goes on where it was; model.train, which the pipeline cannot look into, begins again.
    resumed = "train: on " if callable(getattr(model, "train", None)) else "resuming from a checkpoint"
    assert resumed in trained.resumed.stdout, trained.resumed.stdout + trained.resumed.stderr
    assert "prepare: dataset" not in trained.resumed.stdout
    assert f"model version {trained.published.name}" in trained.resumed.stdout


def test_a_finished_run_is_a_no_op(trained: Trained) -> None:
    version = trained.published
    again = train(trained.directory)
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stdout
    assert trained.published == version


def test_the_gate_judged_the_exported_model_and_let_it_pass(manifest: Manifest) -> None:
    gate = manifest.properties["gate"]
    assert gate["passed"] is True
    assert manifest.properties["metrics"]["examples"] > 0


def test_the_manifest_says_what_the_model_takes_and_gives(manifest: Manifest) -> None:
    signature: dict[str, list[dict[str, Any]]] = manifest.properties["signature"]
    assert signature["inputs"]
    assert signature["outputs"]
    # The batch varies.
    assert all(tensor["shape"][0] is None for tensors in signature.values() for tensor in tensors)


def test_the_samples_are_instances_of_the_signature(manifest: Manifest, instances: list[dict[str, Any]]) -> None:
    names = {tensor["name"] for tensor in manifest.properties["signature"]["inputs"]}
    assert instances
    assert all(set(instance) == names for instance in instances)


@pytest.mark.parametrize("runtime", ["tensorflow", "litert", "onnx"])
def test_a_runtime_takes_the_model_or_the_manifest_says_why_not(
    trained: Trained, manifest: Manifest, runtime: str
) -> None:
    verified = run(trained.directory, "verify", str(trained.published), "--runtime", runtime)
    entry = manifest.properties["runtimes"].get(runtime, {"valid": False, "reason": ""})
    assert entry["valid"] or runtime != exported_for(manifest.properties)
    assert (verified.returncode == 0) == entry["valid"], verified.stderr
    assert entry["valid"] or entry["reason"] in verified.stderr
