"""One timed training in a process of its own, started by compare.py in a directory with a service.toml.

Prints a line of JSON: `seconds` in the training loop with its validation, `first_step`: time of the monotonic clock at
the end of the first training step, `steps`, `accuracy` on the validation split. All variants train the same network on
the same arrays with the same batch size, and validate after each epoch.
"""

import json
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import keras
import numpy as np

import model
from mlplatform.contract.parameters import TrainingParameters
from mlplatform.contract.stopping import Stop
from mlplatform.contract.targets import of_model
from mlplatform.data.dataset import SPLITS, Schema, Split
from mlplatform.data.parts import check_files, known_files, parts_of
from mlplatform.data.sources import list_source
from mlplatform.data.splitting import SplitRule
from mlplatform.data.versions import prepare
from mlplatform.store.manifest import fetch
from mlplatform.store.storage import Storage, open_storage
from mlplatform.training import devices
from mlplatform.training.checkpoints import Checkpoints
from mlplatform.training.export import input_specs
from mlplatform.training.fitting import Fitting

BATCH_SIZE = 64


class FirstStep:
    """When the first training step of a network was done, on the monotonic clock."""

    def __init__(self, network: keras.Model) -> None:
        self.seconds = 0.0
        step = network.train_function

        def timed(iterator: Any) -> Any:
            found = step(iterator)
            self.seconds = self.seconds or time.monotonic()
            return found

        network.train_function = timed


def splits(storage: Storage, hyperparameters: model.Hyperparameters) -> tuple[Split, Split]:
    """The train and validation split of the bundled data."""
    target = of_model(model)
    schema = Schema(model.RECORD, input_specs(model.build(hyperparameters), target), target)
    files, work = list_source(str(model.DATA), ["README*"]).files, Path(tempfile.mkdtemp())
    list(check_files(storage, files, lambda file: nullcontext(model.DATA / file.key), schema, work))
    parts = parts_of(known_files(storage, schema), [file.name for file in files])
    prepared = prepare(storage, parts, schema, SplitRule(0.15, 0.15), work)
    _, local = fetch(storage, f"datasets/{prepared.id}", Path())
    inputs = [spec.name for spec in schema.inputs]
    train, validation, _ = (Split(local, split, inputs) for split in SPLITS)
    return train, validation


def plain(network: keras.Model, train: Split, validation: Split, epochs: int) -> tuple[float, FirstStep, float]:
    """What a script on keras.Model.fit does: everything in memory, nothing kept on the way."""
    arrays = [split.take(np.arange(len(split))) for split in (train, validation)]
    network.make_train_function()
    first = FirstStep(network)
    started = time.monotonic()
    history = network.fit(
        *arrays[0], batch_size=BATCH_SIZE, epochs=epochs, validation_data=arrays[1], verbose=0, shuffle=True
    )
    return time.monotonic() - started, first, history.history["val_accuracy"][-1]


def ours(
    network: keras.Model, train: Split, validation: Split, parameters: TrainingParameters, storage: Storage
) -> tuple[float, FirstStep, float]:
    """The pipeline's loop, with its checkpoints into a store."""
    checkpoints = Checkpoints(storage, "benchmark")
    started = time.monotonic()
    fitting = Fitting(network, (train, validation), parameters)
    first = FirstStep(network)
    reached = fitting.run(checkpoints, Stop())
    seconds = time.monotonic() - started
    checkpoints.clear()
    return seconds, first, reached.history[-1]["val_accuracy"]


def main(name: str, epochs: int, filters: int, interval: float, store: str) -> None:
    """Train as one of: keras, keras-deterministic, off, local, s3."""
    parameters = TrainingParameters(
        epochs=epochs,
        batch_size=BATCH_SIZE,
        deterministic=name != "keras",
        checkpoint_seconds=0 if name == "off" else interval,
        progress_seconds=1e6,
    )
    devices.configure(parameters)
    hyperparameters = model.Hyperparameters(filters=filters)
    train, validation = splits(open_storage("store"), hyperparameters)
    devices.seed(parameters)
    network = model.build(hyperparameters)
    if name.startswith("keras"):
        seconds, first, accuracy = plain(network, train, validation, epochs)
    else:
        seconds, first, accuracy = ours(network, train, validation, parameters, open_storage(store))
    size = sum(variable.numpy().nbytes for variable in [*network.variables, *network.optimizer.variables])
    steps = epochs * -(-len(train) // BATCH_SIZE)
    print(
        json.dumps(
            {
                "variant": name,
                "seconds": seconds,
                "first_step": first.seconds,
                "steps": steps,
                "accuracy": accuracy,
                "checkpoint_bytes": size,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5])
