"""The version of the code: it changes with all that a model is made of, and with nothing else."""

from pathlib import Path

import pytest

from mlplatform.training.provenance import code_version

FILES = (
    *("model/network.py", "model/words/vocabulary.txt", "model/data/rows.csv", "model/data/README.md"),
    *("model/tests/test_model.py", "model/.hidden", "model/README.md", "model/__pycache__/network.pyc"),
    *("mlplatform/training/fitting.py", "mlplatform/serving/server.py", "mlplatform/tests/test_this.py"),
    *("requirements/training.txt", "requirements/serving.txt"),
)
PART_OF_IT = (
    *("model/network.py", "model/words/vocabulary.txt"),
    *("mlplatform/training/fitting.py", "requirements/training.txt"),
)


@pytest.mark.parametrize("changed", FILES)
def test_it_changes_with_what_a_model_is_made_of(changed: str, tmp_path: Path) -> None:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("before")
    before = code_version(tmp_path, tmp_path / "model" / "data")
    (tmp_path / changed).write_text("after")
    assert (code_version(tmp_path, tmp_path / "model" / "data") != before) == (changed in PART_OF_IT)
