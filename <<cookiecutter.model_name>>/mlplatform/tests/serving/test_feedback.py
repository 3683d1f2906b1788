"""The body of POST /v1/feedback: labels as the data has them, held against those of the model."""

import pytest

from mlplatform.contract.targets import Classes, Number, Tags, Vector
from mlplatform.serving.api.feedback import decode
from mlplatform.serving.errors import RequestError


@pytest.mark.parametrize(
    ("given", "known", "label"),
    [
        ('"cat"', ("cat", "dog"), "cat"),
        ("1", ("0", "1"), "1"),
        ("1.0", ("0", "1"), "1"),
        ("true", ("false", "true"), "true"),
    ],
)
def test_a_label_that_is_a_number_or_a_boolean_is_the_text_of_it(
    given: str, known: tuple[str, str], label: str
) -> None:
    assert decode(f'{{"request_id": "r", "label": {given}}}'.encode(), Classes("label", known), 8) == ("r", [label])


def test_a_label_of_another_model_is_refused_with_those_that_it_knows() -> None:
    with pytest.raises(RequestError, match="label is 2; the model knows: 0, 1"):
        decode(b'{"request_id": "r", "label": 2}', Classes("label", ("0", "1")), 8)


def test_labels_of_more_rows_than_a_request_may_have_are_refused() -> None:
    with pytest.raises(RequestError, match="labels has 9 entries; a request has at most 8 rows"):
        decode(b'{"request_id": "r", "labels": [0,0,0,0,0,0,0,0,0]}', Classes("label", ("0", "1")), 8)


def test_the_truth_of_a_model_of_numbers_is_a_number() -> None:
    assert decode(b'{"request_id": "r", "labels": [12.5, null, 3]}', Number("price"), 8) == ("r", [12.5, None, 3.0])


@pytest.mark.parametrize("given", ['"12.5"', "true", "[1]", "1e39"])
def test_anything_else_is_none(given: str) -> None:
    with pytest.raises(RequestError, match="expected a number, the true price"):
        decode(f'{{"request_id": "r", "label": {given}}}'.encode(), Number("price"), 8)


TRAITS = Tags("traits", ("even", "prime"))


def test_the_truth_of_a_model_of_tags_is_a_list_of_labels() -> None:
    one = decode(b'{"request_id": "r", "label": ["prime", "even"]}', TRAITS, 8)
    assert one == ("r", ['["even", "prime"]'])
    several = decode(b'{"request_id": "r", "labels": [["even"], null, []]}', TRAITS, 8)
    assert several == ("r", ['["even"]', None, "[]"])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ('"even"', "expected a list of labels; the model knows: even, prime"),
        ('["odd"]', "it names 'odd'; the model knows: even, prime"),
        ("[[]]", r"holds \[\], which is no label"),
    ],
)
def test_other_tags_are_refused_with_those_that_the_model_knows(given: str, told: str) -> None:
    with pytest.raises(RequestError, match=told):
        decode(f'{{"request_id": "r", "label": {given}}}'.encode(), TRAITS, 8)


def test_a_model_of_vectors_is_told_identities_also_new_ones() -> None:
    person = Vector("person", 8)
    assert decode(b'{"request_id": "r", "labels": ["ann", null, 7]}', person, 8) == ("r", ["ann", None, "7"])
    with pytest.raises(RequestError, match="expected the true person, a text or a number of up to 64 bytes"):
        decode(b'{"request_id": "r", "label": {"name": "ann"}}', person, 8)
