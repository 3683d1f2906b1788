"""The manifests under a policy linter that others wrote, Checkov, as they are deployed: with image and memory.

It brings a hundred packages of its own, some older than ours, so it comes from the network into an environment of its
own: `nox -s policies`.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from mlplatform.tests.deploy.manifests import K8S, OVERLAYS, build, container

pytestmark = pytest.mark.policies


def check(directory: Path) -> subprocess.CompletedProcess[str]:
    command = [shutil.which("uv") or os.environ.get("UV", "uv"), "tool", "run", "--from", "checkov>=3.3,<4", "checkov"]
    command += ["--directory", str(directory), "--framework", "kubernetes", "--compact", "--quiet", "--skip-download"]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600)


def test_no_policy_is_broken_and_one_would_be_noticed(tmp_path: Path) -> None:
    for overlay in OVERLAYS:
        manifests = build(K8S / "overlays" / overlay)
        container(manifests)["resources"]["limits"]["memory"] = "1Gi"
        container(manifests)["resources"]["requests"]["memory"] = "1Gi"
        container(manifests)["image"] = f"registry.example.com/serving@sha256:{'0' * 64}"
        (tmp_path / f"{overlay}.yaml").write_text(yaml.safe_dump_all(manifests))
    kept = check(tmp_path)
    assert kept.returncode == 0, kept.stdout
    container(manifests)["securityContext"]["privileged"] = True
    (tmp_path / f"{overlay}.yaml").write_text(yaml.safe_dump_all(manifests))
    broken = check(tmp_path)
    assert broken.returncode == 1
    assert "Container should not be privileged" in broken.stdout
