"""A fault in the team's code is named by its file and line, and by its cause."""

import subprocess
import sys
from pathlib import Path

import pytest

from mlplatform.tests.conftest import ROOT

FAULTS = {
    "a name that is not there": (
        "import math\n\nRATE = math.nothing\n",
        "model/hyperparameters.py, line 3: AttributeError: module 'math' has no attribute 'nothing'",
    ),
    "no Python": ("RATE = (\n", "model/hyperparameters.py, line 1: SyntaxError: '(' was never closed"),
    "a package that is not installed": (
        "import nowhere_to_be_found\n",
        "model/hyperparameters.py, line 1: No module named 'nowhere_to_be_found'",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_with_its_place(fault: str, tmp_path: Path) -> None:
    source, sentence = FAULTS[fault]
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "__init__.py").write_text("from model.hyperparameters import Hyperparameters\n")
    (tmp_path / "model" / "hyperparameters.py").write_text(source)
    (tmp_path / "service.toml").write_text("")
    script = f"import sys; sys.path.append({str(ROOT)!r}); from mlplatform.cli import main; sys.exit(main(['train']))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr == f"{sentence}\n"
