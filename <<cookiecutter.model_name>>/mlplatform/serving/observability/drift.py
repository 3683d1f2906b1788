"""How far the traffic has moved away from the training data: PSI of inputs and predictions against the baseline."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlplatform.contract.drift import bin_shares, bins, psi, shares
from mlplatform.contract.lengths import Length
from mlplatform.contract.targets import Target
from mlplatform.serving.model.signature import Array

INPUT, LENGTH = "input.", "length."
"""What the signals of inputs, and of the lengths of lists, begin with."""
HALF = 500
"""Rows after which the older half of a window is dropped. PSI of n rows of unchanged data is about 10 / n."""
VALUES = 1000
"""Values of a row that are counted, of inputs that have more."""


class Window:
    """Counts of the last HALF to 2 * HALF rows, by bins of the baseline."""

    def __init__(self, shares: Sequence[float] | Array) -> None:
        self._shares = np.asarray(shares, dtype=np.float64)
        self._older = self._newer = np.zeros(len(shares))
        self._older_rows = self._newer_rows = 0

    @property
    def size(self) -> int:
        """Bins."""
        return len(self._shares)

    def add(self, bins: Array, rows: int) -> None:
        """bins: the bin of each value of these rows, int, any shape."""
        self._newer = self._newer + np.bincount(bins.reshape(-1), minlength=len(self._shares))
        self._newer_rows += rows
        if self._newer_rows >= HALF:
            self._older, self._older_rows = self._newer, self._newer_rows
            self._newer, self._newer_rows = np.zeros(len(self._shares)), 0

    def psi(self) -> float | None:
        """None until there are HALF rows."""
        return psi(shares(self._older + self._newer), self._shares) if self._older_rows else None


class Drift:
    """Windows over everything that the baseline has; mlplatform/training/baseline.py describes its form.

    names: of the inputs that are watched, in the order of the arrays. target: says what is watched of the predictions.
    lengths: of the inputs that are lists of several lengths, of which also that is watched.
    """

    def __init__(
        self,
        baseline: Mapping[str, Any],
        names: Sequence[str],
        target: Target,
        lengths: Mapping[str, Length] | None = None,
    ) -> None:
        histograms: Mapping[str, Any] = baseline["inputs"] if names else {}
        self._inputs = {
            position: (name, np.asarray(histograms[name]["edges"]), Window(bin_shares(histograms[name])))
            for position, name in enumerate(names)
            if name in histograms
        }
        self._lists = {
            name: (length, np.asarray(histogram["edges"]), Window(histogram["shares"]))
            for name, length in (lengths or {}).items()
            if (histogram := baseline.get("lengths", {}).get(name)) and name in histograms
        }
        self._places: dict[int, Array] = {}
        self._signals = {signal: (edges, Window(shares)) for signal, (edges, shares) in target.edges(baseline).items()}

    def add_inputs(self, arrays: Sequence[Array]) -> None:
        """Arrays of (rows, ...), one for each input."""
        for position, (name, edges, window) in self._inputs.items():
            array = arrays[position]
            values = self._of_lists(name, array) if name in self._lists else self._of_rows(array)
            window.add(bins(values, edges, window.size), len(array))

    def _of_rows(self, array: Array) -> Array:
        """Values (rows, n), of large rows some of them."""
        values = array.reshape(len(array), -1)
        return values[:, self._places_of(values.shape[1])] if values.shape[1] > VALUES else values

    def _of_lists(self, name: str, array: Array) -> Array:
        """Values (n,) of rows that were filled up, without what fills them up; their lengths are counted."""
        length, edges, window = self._lists[name]
        held = length.held(array)
        window.add(np.searchsorted(edges, np.count_nonzero(held, axis=1), side="left"), len(array))
        values = array[held].reshape(-1)
        # As many of each row, on the average, as of other large rows.
        return values[:: 1 + len(values) // (VALUES * len(array))]

    def add_predictions(self, signals: Mapping[str, Array]) -> None:
        """What the target watches of the predictions, a value or several of each row."""
        for signal, (edges, window) in self._signals.items():
            values = signals[signal]
            window.add(values if edges is None else np.searchsorted(edges, values, side="left"), len(values))

    def psi(self) -> dict[str, float]:
        """PSI by signal, input.<name>, length.<name> and those of the target: of those that have seen enough rows."""
        signals = {f"{INPUT}{name}": window.psi() for name, _, window in self._inputs.values()}
        signals |= {f"{LENGTH}{name}": window.psi() for name, (_, _, window) in self._lists.items()}
        signals |= {name: window.psi() for name, (_, window) in self._signals.items()}
        return {signal: value for signal, value in signals.items() if value is not None}

    def _places_of(self, size: int) -> Array:
        """Which values of a large row are counted: a random choice, the same for all rows."""
        if size not in self._places:
            self._places[size] = np.sort(np.random.default_rng(0).choice(size, VALUES, replace=False))
        return self._places[size]
