"""TensorFlow starts without notices that nobody acts on, and nothing else that is written meanwhile is lost."""

import os
import subprocess
import sys
from pathlib import Path

from mlplatform.tests.conftest import ROOT


def python(code: str, *path: Path, **environment: str) -> tuple[str, str]:
    """Standard output and standard error of code in a process of its own."""
    places = os.pathsep.join(map(str, [*path, ROOT]))
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": places, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.stdout, done.stderr


def test_tensorflow_starts_and_computes_without_a_notice_even_where_onednn_is_on() -> None:
    code = "import mlplatform.training, tensorflow as tf; print(int(tf.constant(1) + 1))"
    assert python(code, TF_ENABLE_ONEDNN_OPTS="1") == ("2\n", "")


def test_what_else_is_written_while_tensorflow_is_imported_is_shown(tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text(
        "import os\n"
        r"os.write(2, b'I0000 00:00 port.cc:153] oneDNN custom operations are on. You may see\ntrouble\n')"
        "\nraise ImportError('no such library')\n"
    )
    code = "import mlplatform.training\ntry: import tensorflow\nexcept ImportError as error: print(error)"
    assert python(code, tmp_path) == ("no such library\n", "trouble\n")
