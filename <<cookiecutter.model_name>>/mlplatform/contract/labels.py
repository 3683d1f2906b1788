"""Labels are text from the dataset on: the one place where those of `model.LABELS` and of a record become it."""

from collections.abc import Sequence

from mlplatform.config.settings import SettingsError


def label_text(label: object) -> str:
    """A label as text: JSON's for a number or a boolean, so that 1, 1.0 and "1" are one label, and True is `true`."""
    if isinstance(label, bool):
        return "true" if label else "false"
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    return str(label)


def label_texts(labels: Sequence[object]) -> tuple[str, ...]:
    """`model.LABELS` as text. Raises SettingsError if there are fewer than two, or two become the same."""
    texts = tuple(label_text(label) for label in labels)
    if len(texts) < 2:
        raise SettingsError(f"model.LABELS = {labels!r}: name two classes at least")
    twice = [text for place, text in enumerate(texts) if text in texts[:place]]
    if twice:
        raise SettingsError(f"model.LABELS: {twice[0]!r} is there twice; labels are compared as text, so rename one")
    return texts
