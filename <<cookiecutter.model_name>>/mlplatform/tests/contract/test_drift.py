"""The population stability index: one figure and one threshold for server, monitor and the report on a ghost."""

import json
import re

import numpy as np
import pytest

from mlplatform.contract.drift import SHIFTED, STABLE, describe, psi, shares
from mlplatform.tests.conftest import ROOT


def test_it_is_the_sum_over_the_bins() -> None:
    expected = 0.3 * np.log(0.8 / 0.5) - 0.3 * np.log(0.2 / 0.5)
    assert psi(np.array([0.8, 0.2]), np.array([0.5, 0.5])) == pytest.approx(expected)


def test_equal_histograms_have_none() -> None:
    assert psi(shares(np.array([7, 0, 3])), shares(np.array([7, 0, 3]))) == 0


def test_it_is_finite_where_a_bin_is_empty() -> None:
    assert np.isfinite(psi(shares(np.array([10, 0])), np.array([0.5, 0.5])))
    assert np.isfinite(psi(np.array([0.5, 0.5]), np.array([1.0, 0.0])))


def test_an_empty_bin_counts_as_half_a_value() -> None:
    assert shares(np.array([9, 0])).tolist() == pytest.approx([9 / 9.5, 0.5 / 9.5])


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0, "stable"), (0.0999, "stable"), (0.1, "some shift"), (0.2, "some shift"), (0.21, "a shift")],
)
def test_the_thresholds_in_words(value: float, words: str) -> None:
    assert describe(value) == words


def test_the_monitor_has_the_same_thresholds() -> None:
    monitor = json.loads((ROOT / "deploy" / "datadog" / "monitors" / "drift.json").read_text(encoding="utf-8"))
    assert monitor["options"]["thresholds"] == {"critical": SHIFTED, "warning": STABLE}
    assert float(re.findall(r"> ([\d.]+)$", monitor["query"])[0]) == SHIFTED
