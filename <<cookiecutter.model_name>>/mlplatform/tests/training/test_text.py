"""A text classifier from its records to answers: what is published with an accuracy of 1.0 can be served."""

import json
import os
from pathlib import Path

import numpy as np

from mlplatform.store.manifest import read_directory
from mlplatform.tests import conftest
from mlplatform.tests.model_contract import protocols
from mlplatform.tests.serving.running import NAME, serving

MODEL = Path(__file__).parent / "text"
WORDS = {"ham": ("hello", "meeting", "lunch"), "spam": ("free", "win", "money")}


def test_what_is_published_is_served_by_every_protocol(tmp_path: Path) -> None:
    (tmp_path / "service.toml").write_text(f'[service]\nname = "{NAME}"\n')
    (tmp_path / "data").mkdir()
    rows = [
        {"id": f"m{number}-{word}", "text": f"{word} {word} {number}", "label": label}
        for number in range(60)
        for label, words in WORDS.items()
        for word in words
    ]
    (tmp_path / "data" / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    trained = conftest.run(
        *(tmp_path, "train", "--source", "data", "--epochs", "4", "--litert", "false"),
        PYTHONPATH=os.pathsep.join([str(MODEL), str(conftest.ROOT)]),
    )
    assert trained.returncode == 0, trained.stdout + trained.stderr
    assert "accuracy 1.0000" in trained.stdout
    (version,) = (tmp_path / "store" / "models").iterdir()
    samples = read_directory(version)[0].properties["samples"]
    instances = [sample["instance"] for sample in samples]
    expected = [["ham", "spam"].index(sample["label"]) for sample in samples]
    with serving(tmp_path / "service.toml") as running:
        running.wait_for(200, seconds=300)
        for ask in (protocols.v1_rows, protocols.v1_columns, protocols.v2_json, protocols.v2_binary):
            predicted = ask(running, instances)["probabilities"]
            np.testing.assert_array_equal(predicted.argmax(axis=1), expected, err_msg=ask.__name__)
