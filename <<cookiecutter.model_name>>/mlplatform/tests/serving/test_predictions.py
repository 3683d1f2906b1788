"""What is compared of a model's answers: labels and scores, for many requests at once."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mlplatform.contract.targets import Number, Tags, Vector, of_manifest
from mlplatform.contract.targets.vector_notes import of_texts
from mlplatform.serving.model.signature import Array, Tensor
from mlplatform.serving.observability.predictions import Predicted, predicted

NAMES = ["cat", "dog", "owl"]


def model(*dtypes: str, labels: list[str] | None = None) -> Any:
    """As much of a served model as is asked: labels, and what type its outputs have."""
    outputs = [Tensor(f"output{n}", (None,), dtype) for n, dtype in enumerate(dtypes)]
    return SimpleNamespace(target=of_manifest({"labels": labels}), signature=SimpleNamespace(outputs=outputs))


def scores(said: Predicted) -> list[float]:
    assert said.scores is not None
    return [float(score) for score in said.scores]


def rows(*values: list[float]) -> tuple[Array]:
    return (np.array(values, np.float32),)


def test_every_row_gets_the_label_of_its_highest_value() -> None:
    said = predicted(
        model("float32", labels=NAMES), [rows([0.1, 0.7, 0.2]), rows([0.5, 0.25, 0.25], [0.0, 0.25, 0.75])]
    )
    assert (said.rows, said.labels) == ([1, 2], ["dog", "cat", "owl"])
    assert scores(said) == pytest.approx([0.7, 0.5, 0.75])


def test_of_several_highest_values_the_first_counts() -> None:
    assert predicted(model("float32", labels=NAMES), [rows([0.0, 0.5, 0.5])]).labels == ["dog"]


def test_requests_that_failed_have_no_rows() -> None:
    said = predicted(model("float32", labels=NAMES), [(), rows([0.1, 0.7, 0.2]), ()])
    assert (said.rows, said.labels) == ([0, 1, 0], ["dog"])
    assert predicted(model("float32", labels=NAMES), [(), ()]) == Predicted([0, 0], None, None)


def test_a_score_that_is_not_finite_counts_as_0() -> None:
    answers = [rows([math.nan] * 3), rows([0.0, math.inf, 0.0]), rows([0, 0, 1])]
    said = predicted(model("float32", labels=NAMES), answers)
    assert scores(said) == [0, 0, 1]


def test_a_model_without_labels_is_compared_by_its_first_output_of_one_value_a_row() -> None:
    wide, texts, whole = np.ones((2, 3), np.float32), np.array(["a", "b"], object), np.array([[3], [4]])
    said = predicted(model("float32", "string", "int64"), [(wide, texts, whole)])
    assert (said.rows, said.labels, scores(said)) == ([2], None, [3, 4])


def test_without_such_an_output_there_is_nothing_to_compare() -> None:
    assert predicted(model("float32"), [rows([1.0, 2.0])]) == Predicted([0], None, None)


def test_nor_if_its_shape_differs_between_the_requests() -> None:
    assert predicted(model("float32"), [rows([1.0]), rows([1.0, 2.0])]) == Predicted([0, 0], None, None)


def test_of_a_model_of_numbers_the_values_are_noted() -> None:
    served = model("float32")
    served.target = Number("price")
    said = predicted(served, [(np.array([1.5, -3], np.float32),), (), (np.array([1e6], np.float32),)])
    assert (said.rows, said.labels, scores(said)) == ([2, 0, 1], None, [1.5, -3, 1e6])


def test_of_a_model_of_tags_those_are_noted_that_reach_their_thresholds() -> None:
    served = model("float32")
    served.target = Tags("traits", ("prime", "even"), (0.5, 0.1))
    said = predicted(served, [rows([0.6, 0.2], [0.4, 0.0]), (), rows([0.5, 0.0])])
    assert (said.rows, said.labels) == ([2, 0, 1], ['["even", "prime"]', "[]", '["prime"]'])
    assert scores(said) == pytest.approx([0.4, 0.2, 0.25])
    assert said.labels is not None
    assert served.target.label_values(said.labels) == [["even", "prime"], [], ["prime"]]


def test_of_a_model_of_vectors_those_are_noted_and_are_no_labels_of_an_answer() -> None:
    served = model("float32")
    served.target = Vector("person", 2, centre=(1.0, 0.0))
    said = predicted(served, [rows([1, 0], [0, 2]), (), rows([0, 0])])
    assert said.rows == [2, 0, 1]
    assert scores(said) == pytest.approx([1, 0, 0])
    assert said.labels is not None
    np.testing.assert_allclose(of_texts(np.array(said.labels[:2], object)), [[1, 0], [0, 2]], rtol=1e-6)
    assert said.labels[2] == ""
    assert not served.target.has_labels
