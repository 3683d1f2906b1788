"""TensorFlow's import without the notices that nobody acts on.

TF_CPP_MIN_LOG_LEVEL holds from the moment TensorFlow is loaded. While its libraries load, each of them writes to file
descriptor 2 that oneDNN is on, whatever the level. Everything else that is written there meanwhile is kept.
"""

import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

NOTICES = re.compile(
    rb"^(WARNING: All log messages before absl::InitializeLog\(\)|I0000 .*oneDNN custom operations are on\.).*\n",
    re.MULTILINE,
)


def install() -> None:
    """Drop the notices of the import of TensorFlow that follows; does nothing if it is imported already."""
    if "tensorflow" not in sys.modules:
        sys.meta_path.insert(0, _TensorFlowFinder())


class _TensorFlowFinder(MetaPathFinder):
    """Finds TensorFlow as always, and wraps its import; removes itself then."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None:
            # The loader stays TensorFlow's own: others ask it for the package's files.
            loader: Any = spec.loader
            execute = loader.exec_module

            def execute_quietly(module: ModuleType) -> None:
                with _without_notices():
                    execute(module)

            loader.exec_module = execute_quietly
        return spec


@contextmanager
def _without_notices() -> Iterator[None]:
    """Write to standard error afterwards what was written meanwhile, without the notices."""
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            file.seek(0)
            os.write(2, NOTICES.sub(b"", file.read()))
