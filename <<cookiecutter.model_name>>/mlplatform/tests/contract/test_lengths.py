"""Lists of several lengths as one array: what fills up the shorter ones, and what of a row is no filling."""

import numpy as np
import pytest

from mlplatform.contract.lengths import Length


def test_shorter_rows_are_filled_up_behind_their_items() -> None:
    one, two = np.array([[[1, 2]]], np.float32), np.array([[[3, 4], [5, 6]], [[7, 8], [9, 0]]], np.float32)
    joined = Length(1, 5, -1).joined([one, two])
    assert joined.dtype == np.float32
    assert joined.tolist() == [[[1, 2], [-1, -1]], [[3, 4], [5, 6]], [[7, 8], [9, 0]]]


def test_rows_without_items_are_filled_up_to_one() -> None:
    assert Length(0, 5).joined([np.empty((2, 0, 3), np.int64)]).tolist() == [[[0, 0, 0]], [[0, 0, 0]]]


@pytest.mark.parametrize("padding", [0, -1])
def test_what_a_row_holds_ends_with_its_last_item_that_is_not_all_padding(padding: float) -> None:
    p = padding
    rows = np.array([[[1, p], [p, p], [p, 2], [p, p]], [[p, p]] * 4, [[p, p], [3, 3], [3, 3], [3, 3]]], np.float32)
    held = Length(0, 4, padding).held(rows)
    assert held.tolist() == [[True, True, True, False], [False] * 4, [True] * 4]


def test_a_value_that_is_missing_is_no_padding() -> None:
    assert Length(1, 2).held(np.array([[np.nan, 0]], np.float32)).tolist() == [[True, False]]


def test_it_comes_back_from_a_manifest() -> None:
    assert Length.of_json(Length(1, 5, -1).to_json()) == Length(1, 5, -1)
    assert Length.of_json(None) is None
