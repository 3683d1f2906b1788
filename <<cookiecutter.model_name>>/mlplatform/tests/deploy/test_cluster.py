"""`nox -s cluster` where there is no cluster; with one it is itself the test."""

import os
import subprocess
import sys
from pathlib import Path

from mlplatform.tests.deploy.manifests import ROOT


def test_without_a_cluster_it_says_what_is_missing(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "mlplatform.tests.deploy.cluster"],
        cwd=ROOT,
        env={**os.environ, "KUBECONFIG": str(tmp_path / "absent")},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: no cluster answers; KUBECONFIG must name one.\n")
