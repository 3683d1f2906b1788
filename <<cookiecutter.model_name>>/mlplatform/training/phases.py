"""The phases of a training: what is trainable in each, how it is compiled, and for how many epochs.

A model without `phases` has one: the network as `model.build` compiled it, for the parameter `epochs`. Importing this
needs no TensorFlow.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.contract.errors import PipelineError
from mlplatform.contract.parameters import TrainingParameters, hyperparameters
from mlplatform.training.team_errors import raised

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Phase:
    """A part of the training, such as that of a new head on a frozen base.

    name: for the log. prepare: called with the network before the phase; sets what is trainable, and compiles it. None
    leaves it as it is. epochs: at most as many; None: the parameter `epochs`. weigh: from the truths of a batch, as the
    loss takes them, to the weights (n,) of its examples in the loss; None: each counts once. Validation weighs nothing.
    callbacks: Keras's, or of its class Callback; epochs are those of the phase, from 0. What they note in their
    attributes is part of a checkpoint, if it is numbers, text, arrays, or lists and dicts of them.

    The optimizer is a new one in each phase, if `prepare` makes one. Early stopping and the plateau of the learning
    rate begin anew; with `patience`, the next phase starts from the best weights of the one before it.
    """

    name: str
    prepare: "Callable[[keras.Model], object] | None" = None
    epochs: int | None = None
    weigh: Callable[[Any], NDArray[Any]] | None = None
    callbacks: "Sequence[keras.callbacks.Callback]" = ()

    def length(self, parameters: TrainingParameters) -> int:
        """Its epochs."""
        return parameters.epochs if self.epochs is None else self.epochs

    def begin(self, network: "keras.Model") -> None:
        """Call `prepare`. Raises PipelineError, with the line in `model/`, if it fails."""
        if self.prepare is None:
            return
        try:
            self.prepare(network)
        # Anything at all: it is the team's code.
        except Exception as error:
            raise raised(f"model.phases: phase {self.name!r}", error) from error

    def weights(self, truth: Any) -> NDArray[np.float32]:
        """The weights (n,) of examples. truth: (n, ...), of several targets by their names. Raises PipelineError if
        `weigh` gives something else.
        """
        count = len(next(iter(truth.values())) if isinstance(truth, dict) else truth)
        weights = np.ones(count, np.float32) if self.weigh is None else np.asarray(self.weigh(truth), np.float32)
        if weights.shape != (count,) or not np.isfinite(weights).all() or (weights < 0).any():
            raise PipelineError(
                f"model.phases: weigh of phase {self.name!r} gives values of shape {weights.shape} for "
                f"{count} examples; it must give one number for each, finite and not negative"
            )
        return weights


WHOLE = (Phase("train"),)


def phases_of(model: Any, parameters: TrainingParameters, network: "keras.Model") -> tuple[Phase, ...]:
    """The phases of `model.phases`, or one without it. Raises PipelineError for what is none."""
    given = getattr(model, "phases", None)
    if given is None:
        return WHOLE
    try:
        phases = given(hyperparameters(parameters), network)
    # Anything at all: it is the team's code.
    except Exception as error:
        raise raised("model.phases", error) from error
    fault = _fault(phases)
    if fault:
        raise PipelineError(f"model.phases: {fault}")
    return tuple(phases)


def _fault(phases: Any) -> str:
    """What is wrong with what the team's function returned; empty if nothing is."""
    if not isinstance(phases, Sequence) or not phases or not all(isinstance(phase, Phase) for phase in phases):
        return f"it returns {phases!r}; return a list of Phase(name, prepare, epochs)"
    names = [phase.name for phase in phases]
    twice = [name for place, name in enumerate(names) if name in names[:place]]
    if twice:
        return f"two phases are called {twice[0]!r}; rename one"
    for phase in phases:
        if phase.epochs is not None and (not isinstance(phase.epochs, int) or phase.epochs < 1):
            return f"phase {phase.name!r} has epochs = {phase.epochs!r}; give at least 1, or leave the phase out"
        if not _are_callbacks(phase.callbacks):
            return f"phase {phase.name!r} has callbacks = {phase.callbacks!r}; give a list of Keras's callbacks"
    return ""


def _are_callbacks(given: Any) -> bool:
    # The team's function has a network, so Keras is there.
    from keras.callbacks import Callback

    return isinstance(given, Sequence) and all(isinstance(callback, Callback) for callback in given)
