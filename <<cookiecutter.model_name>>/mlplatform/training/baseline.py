"""The distributions that drift is measured against later: part of the model's manifest as `baseline`.

{"inputs": ..., "lengths": ...                    of the train split, see mlplatform/data/distributions.py
 ...                                              of the predictions for the test split, what the target watches
 "examples": {"train": <count>, "test": <count>}} how many examples these were counted on
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.contract.targets import Target
from mlplatform.data import distributions
from mlplatform.data.dataset import InputSpec, Split


def baseline(
    train: Split, inputs: Sequence[InputSpec], predictions: NDArray[np.float32], target: Target
) -> dict[str, Any]:
    """See the module. predictions: (examples of the test split, *row_shape)."""
    return {
        **distributions.describe(train, inputs),
        **target.baseline(predictions),
        "examples": {"train": len(train), "test": len(predictions)},
    }
