"""Errors of the team's own code: where in `model/` they come from."""

import traceback
from importlib.util import find_spec
from pathlib import Path


def place(error: BaseException) -> str:
    """The file and line below `model/` that an error comes from, such as `model/network.py, line 31`; empty if none.

    Of several it is the innermost, which other libraries' frames may follow.
    """
    spec = find_spec("model")
    if spec is None or spec.origin is None:
        return ""
    root = Path(spec.origin).parent
    frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        frames.append((Path(error.filename), error.lineno))
    below = [(path, line) for path, line in frames if path.is_relative_to(root)]
    if not below:
        return ""
    path, line = below[-1]
    return f"{path.relative_to(root.parent)}, line {line}"
