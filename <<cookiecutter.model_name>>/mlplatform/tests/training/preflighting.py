"""The preflight for tests: rows of one split, with a converter that ends with it."""

from pathlib import Path

from mlplatform.contract.parameters import TrainingParameters
from mlplatform.contract.targets import Target
from mlplatform.data.dataset import Split
from mlplatform.training import litert, preflight


def check(rows: Split, parameters: TrainingParameters, target: Target, work: Path) -> None:
    """The preflight, with rows for training as well as for validation."""
    with litert.Converter() as converter:
        preflight.check(rows, rows, parameters, target, work, converter)
