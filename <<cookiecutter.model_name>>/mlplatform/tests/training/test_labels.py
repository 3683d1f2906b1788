"""Labels that are numbers or booleans: text from the dataset on, whatever format the records come in."""

import json
import random
from pathlib import Path
from typing import Any

import keras
import pytest

import model
from mlplatform.cli import main
from mlplatform.store.manifest import read
from mlplatform.store.storage import LocalStorage


def network(hyperparameters: Any) -> keras.Model:
    x = keras.Input((), name="x")
    hidden = keras.layers.Reshape((1,))(x)
    built = keras.Model(inputs={"x": x}, outputs=keras.layers.Dense(2, activation="softmax")(hidden))
    built.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return built


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
@pytest.mark.parametrize(("labels", "texts"), [((0, 1), ["0", "1"]), ((False, True), ["false", "true"])])
def test_numbers_and_booleans_become_text(
    suffix: str,
    labels: tuple[Any, ...],
    texts: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    chance = random.Random(0)
    rows = [(chance.random(), label) for _ in range(50) for label in labels]
    if suffix == "csv":
        lines = ["x,label", *(f"{x},{json.dumps(label)}" for x, label in rows)]
    else:
        lines = [json.dumps({"x": x, "label": label}) for x, label in rows]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / f"rows.{suffix}").write_text("\n".join(lines) + "\n")
    (tmp_path / "service.toml").write_text('[service]\nname = "under-test"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(model, "LABELS", labels)
    properties = {"x": {"type": "number"}, "label": {"enum": list(labels)}}
    monkeypatch.setattr(model, "RECORD", {"type": "object", "properties": properties, "required": ["x", "label"]})
    monkeypatch.setattr(model, "build", network)
    assert main(["gather", "--source", "data"]) == 0, capfd.readouterr().err
    version = capfd.readouterr().out.split()[-1]
    dataset = read(LocalStorage(tmp_path / "store"), f"datasets/{version}").properties
    assert dataset["labels"] == texts
    assert {label for split in dataset["splits"].values() for label in split["classes"]} == set(texts)
    assert sum(split["examples"] for split in dataset["splits"].values()) == len(rows)
