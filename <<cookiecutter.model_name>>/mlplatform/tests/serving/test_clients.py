"""Clients that others wrote work unchanged. Each has an environment of its own, made from the script's header.

They are large (KServe's brings thirty packages) and come from the network, so a session of their own runs them:
`nox -s clients`.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mlplatform.tests.serving.running import NAME, PREDICT, Running

CLIENTS = sorted((Path(__file__).parent / "clients").glob("*.py"))
pytestmark = pytest.mark.clients


@pytest.mark.parametrize("script", CLIENTS, ids=[script.stem for script in CLIENTS])
def test_client(server: Running, script: Path) -> None:
    uv = shutil.which("uv") or os.environ.get("UV", "uv")
    command = [uv, "run", "--no-project", "--script", str(script), str(server.port), NAME, "aaaaaaaaaaaa"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert ran.stdout.endswith("ok\n"), ran.stdout + ran.stderr


def test_the_openapi_document_is_true(server: Running, tmp_path: Path) -> None:
    # Left out is the check that all that fits the schema is accepted: JSON Schema cannot say that as many values are
    # sent as the shape has, nor that the model overflows on values near the largest float.
    command = [shutil.which("uv") or os.environ.get("UV", "uv"), "tool", "run", "--from", "schemathesis>=4.15,<5"]
    command += ["schemathesis", "run", "-n", "50", "--exclude-checks", "positive_data_acceptance"]
    command += [server.url + "/openapi.json"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Traceback" not in server.log


def test_curl(server: Running, tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    body.write_text('{"instances": [' + str([[1.0] * 8] * 8) + "]}")
    # As in TensorFlow Serving's documentation: no content type given.
    command = ["curl", "-sf", "-d", f"@{body}", server.url + PREDICT]
    assert subprocess.run(command, capture_output=True, text=True).stdout.startswith('{"predictions":[[')
    # Over 1 MB curl asks first (Expect: 100-continue) and is told no.
    body.write_text(" " * (5 << 20))
    command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--data-binary", f"@{body}", server.url + PREDICT]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "413"
