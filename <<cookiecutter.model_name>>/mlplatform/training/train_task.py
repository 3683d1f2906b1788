"""From a dataset version to a trained and exported model."""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import luigi
import numpy as np

import model
from mlplatform.contract.parameters import identity
from mlplatform.data.dataset import SPLITS, Split
from mlplatform.store import manifest
from mlplatform.training import devices, export, fitting, gate, onnx_checks, onnx_model, preflight, provenance
from mlplatform.training.checkpoints import Checkpoints
from mlplatform.training.fitting import fit
from mlplatform.training.phases import phases_of
from mlplatform.training.task import Context, StoredTarget, Task
from mlplatform.training.work import temporary

log = logging.getLogger(__name__)
# Writes what was trained into a directory, and returns what the manifest says of it.
Write = Callable[[Path], dict[str, Any]]
# Of those that model.train may use, the versions of what it has imported are kept.
FRAMEWORKS = ("sklearn", "skl2onnx", "onnxmltools", "xgboost", "lightgbm", "catboost", "torch")


class Train(Task):
    """Train the model on a dataset version and export it."""

    dataset: str = luigi.Parameter()
    run_id: str = luigi.Parameter()

    def output(self) -> StoredTarget:
        """The run's exported model, with the training's history and predictions for the test split."""
        return self.target(f"runs/{self.run_id}/training/{manifest.MANIFEST}")

    def run(self) -> None:
        """See the class."""
        context = self.context
        dataset = manifest.read(context.storage, f"datasets/{self.dataset}")
        gate.check_labels(dataset, context.schema.target, context.criteria)
        prepared, content = manifest.fetch(context.storage, f"datasets/{self.dataset}", context.work)
        described = (context.schema.inputs, context.schema.target)
        train, validation, test = (Split.of(content, split, *described) for split in SPLITS)
        log.info("train: run %s on dataset %s, %d examples", self.run_id, prepared.id, len(train))
        checkpoints = Checkpoints(context.storage, self.run_id)
        if onnx_model.is_given():
            write = _train_onnx(context, train, validation, test)
        else:
            write = _train_network(context, checkpoints, train, validation, test)
        with temporary(context.work) as directory:
            properties = {
                "dataset": self.dataset,
                **write(directory),
                "parameters": identity(context.parameters),
                "code": context.code,
                "git_commit": provenance.git_commit(),
                "labels": list(context.schema.target.labels),
                "targets": [part.to_json() for part in context.schema.target.parts],
            }
            manifest.publish(
                context.storage, f"runs/{self.run_id}/training", directory, "training", self.run_id, properties
            )
        checkpoints.clear()


def _train_network(context: Context, checkpoints: Checkpoints, train: Split, validation: Split, test: Split) -> Write:
    """Train the network of model.build, from the last checkpoint on if there is one."""
    parameters, target = context.parameters, context.schema.target
    with devices.strategy().scope():
        if not checkpoints.exist():
            preflight.check(train, validation, parameters, target, context.work, context.converter)
            splits = dict(zip(SPLITS, (train, validation, test), strict=True))
            preflight.check_files(splits, parameters, context.schema.inputs)
        devices.seed(parameters)
        network = preflight.build(parameters, train)
        phases = phases_of(model, parameters, network)
        data = (train, validation)
        reached = fit(network, phases, data, parameters, checkpoints, context.stop, context.metrics)

    def write(directory: Path) -> dict[str, Any]:
        signature = export.export(network, target, directory / "saved_model", context.schema.inputs)
        np.save(directory / "predictions.npy", target.joined(fitting.predict(network, test, parameters.batch_size)))
        (directory / "history.json").write_text(json.dumps(reached.history, indent=1))
        return {
            "trained": {"epochs": reached.epoch, "seconds": round(reached.seconds, 1), "resumed": reached.resumed},
            "packages": provenance.package_versions(("tensorflow", "keras", "numpy")),
            "signature": signature,
        }

    return write


def _train_onnx(context: Context, train: Split, validation: Split, test: Split) -> Write:
    """Have model.train make a model. It has no checkpoints: a run that is stopped within begins it again."""
    parameters, schema = context.parameters, context.schema
    onnx_model.check(train, validation, parameters, schema.inputs, schema.target, context.work)
    log.info("train: on %d examples, by model.train", len(train))
    started = time.monotonic()
    made = onnx_model.made(parameters, onnx_model.examples(train), onnx_model.examples(validation))
    seconds = time.monotonic() - started

    def write(directory: Path) -> dict[str, Any]:
        path = directory / onnx_model.FILE
        path.write_bytes(made.content)
        exported = export.predict_split(
            onnx_checks.opened(path, schema.inputs, schema.target), test, parameters.batch_size
        )
        before = made.predictions(onnx_model.examples(test).inputs, schema.target)
        np.save(directory / "predictions.npy", exported if before is None else before)
        (directory / "history.json").write_text("[]")
        return {
            "trained": {"epochs": 0, "seconds": round(seconds, 1), "resumed": 0},
            "packages": provenance.package_versions(("onnxruntime", "numpy", *FRAMEWORKS)),
            "signature": export.signature(schema.inputs, schema.target),
            "runtimes": {"onnx": {"path": onnx_model.FILE, "valid": True}},
        }

    return write
