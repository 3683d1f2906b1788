"""Errors of the team's own code, and of Keras about it, as one sentence with the place in `model/`."""

import re

from mlplatform.contract import team_code
from mlplatform.contract.errors import PipelineError

# Keras's messages are bold.
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def raised(what: str, error: BaseException) -> PipelineError:
    """The error of a function of the team's, such as `model.build`."""
    return PipelineError(f"{what}{place(error)} raises {type(error).__name__}: {sentence(error)}")


def place(error: BaseException) -> str:
    """Where in `model/` an error comes from, such as ` (model/network.py, line 31)`; empty if that is not known."""
    found = team_code.place(error)
    return f" ({found})" if found else ""


def sentence(error: BaseException) -> str:
    """The line of an error's message that says most: Keras puts the layer first and the reason after it."""
    lines = [COLOUR.sub("", line).strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    told = re.match(r"Exception encountered when calling .*", lines[0])
    return lines[1] if told and len(lines) > 1 else lines[0]
