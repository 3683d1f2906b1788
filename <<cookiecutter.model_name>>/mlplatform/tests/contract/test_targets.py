"""What the team says that its model learns, and how a manifest keeps it."""

from types import ModuleType
from typing import Any

import pytest

from mlplatform.config.settings import SettingsError
from mlplatform.contract.targets import Classes, Number, Ordinal, Tags, Target, of_manifest, of_model


def model(**content: Any) -> ModuleType:
    package = ModuleType("model")
    package.__dict__.update(content)
    return package


def test_labels_alone_are_classes_of_the_property_label() -> None:
    assert of_model(model(LABELS=(0, 1))) == Classes("label", ("0", "1"))


def test_targets_say_what_is_learned() -> None:
    assert of_model(model(TARGETS=(Number("price", "EUR"),))) == Number("price", "EUR")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({}, "model: it has neither LABELS nor TARGETS"),
        ({"TARGETS": ()}, "model.TARGETS = (): it must hold one target, one of Classes, Number, Ordinal, Tags"),
        ({"TARGETS": ("price",)}, "it must hold one target, one of Classes, Number, Ordinal, Tags"),
        ({"TARGETS": (Number("a"), Tags("A", "xy"))}, "model.TARGETS: two targets are called 'A'; rename one"),
        ({"TARGETS": (Number("a"), Number("recall"))}, "of several targets none can be called 'recall'"),
        ({"TARGETS": (Number("a"), Classes("b", "x"))}, "name two classes at least"),
        ({"TARGETS": (Number("two words"),)}, "needs a name that is a property of model.RECORD"),
        ({"TARGETS": (Number("id"),)}, "no target can be called 'id'"),
        ({"LABELS": ("only",)}, "name two classes at least"),
    ],
)
def test_what_cannot_be_learned_is_refused_in_one_sentence(content: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError) as refused:
        of_model(model(**content))
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    "target",
    [
        Classes("label", ("no", "yes")),
        Number("price", "EUR"),
        Ordinal("grade", "abc"),
        Tags("topics", ("art", "sport"), (0.3, 0.6)),
    ],
)
def test_a_manifest_keeps_it(target: Target) -> None:
    assert of_manifest({"targets": [target.to_json()]}) == target


def test_a_manifest_of_before_there_were_targets_has_labels_or_nothing() -> None:
    assert of_manifest({"labels": ["no", "yes"]}) == Classes("label", ("no", "yes"))
    assert of_manifest({"labels": []}) is None


def test_a_kind_of_a_later_version_is_refused() -> None:
    with pytest.raises(ValueError, match="a target of kind 'pose' is not known here: update the repository"):
        of_manifest({"targets": [{"kind": "pose", "name": "arm"}]})
