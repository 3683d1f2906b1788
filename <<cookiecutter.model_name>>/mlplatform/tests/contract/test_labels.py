"""Labels are text from the dataset on, whatever they are in `model/` and in the data."""

import pytest

from mlplatform.config.settings import SettingsError
from mlplatform.contract.labels import label_text, label_texts


@pytest.mark.parametrize(
    ("label", "text"), [("cat", "cat"), (1, "1"), (1.0, "1"), (0.5, "0.5"), (True, "true"), (False, "false")]
)
def test_a_label_is_what_json_writes_and_a_whole_number_has_no_point(label: object, text: str) -> None:
    assert label_text(label) == text


def test_labels_that_become_the_same_are_refused() -> None:
    with pytest.raises(
        SettingsError, match=r"model\.LABELS: '1' is there twice; labels are compared as text, so rename"
    ):
        label_texts((1, "1"))


def test_one_label_is_no_task() -> None:
    with pytest.raises(SettingsError, match="name two classes at least"):
        label_texts(("only",))
