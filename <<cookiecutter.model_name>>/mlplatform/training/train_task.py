"""From a dataset version to a trained and exported network."""

import json
import logging

import luigi
import numpy as np

import model
from mlplatform.contract.parameters import identity
from mlplatform.data.dataset import SPLITS, Split
from mlplatform.store import manifest
from mlplatform.training import devices, export, fitting, gate, preflight, provenance
from mlplatform.training.checkpoints import Checkpoints
from mlplatform.training.fitting import fit
from mlplatform.training.phases import phases_of
from mlplatform.training.task import StoredTarget, Task
from mlplatform.training.work import temporary

log = logging.getLogger(__name__)


class Train(Task):
    """Train the network on a dataset version and export it."""

    dataset: str = luigi.Parameter()
    run_id: str = luigi.Parameter()

    def output(self) -> StoredTarget:
        """The run's exported model, with the training's history and predictions for the test split."""
        return self.target(f"runs/{self.run_id}/training/{manifest.MANIFEST}")

    def run(self) -> None:
        """See the class."""
        context, parameters = self.context, self.context.parameters
        gate.check_labels(manifest.read(context.storage, f"datasets/{self.dataset}"), context.criteria)
        prepared, content = manifest.fetch(context.storage, f"datasets/{self.dataset}", context.work)
        inputs = [spec.name for spec in context.schema.inputs]
        train, validation, test = (Split(content, split, inputs) for split in SPLITS)
        log.info("train: run %s on dataset %s, %d examples", self.run_id, prepared.id, len(train))
        checkpoints = Checkpoints(context.storage, self.run_id)
        with devices.strategy().scope():
            if not checkpoints.exist():
                preflight.check(train, validation, parameters, context.schema.target, context.work)
            devices.seed(parameters)
            network = preflight.build(parameters)
            phases = phases_of(model, parameters, network)
            data = (train, validation)
            reached = fit(network, phases, data, parameters, checkpoints, context.stop, context.metrics)
        with temporary(context.work) as directory:
            signature = export.export(network, context.schema.target, directory / "saved_model")
            np.save(directory / "predictions.npy", fitting.predict(network, test, parameters.batch_size))
            (directory / "history.json").write_text(json.dumps(reached.history, indent=1))
            properties = {
                "dataset": self.dataset,
                "trained": {"epochs": reached.epoch, "seconds": round(reached.seconds, 1), "resumed": reached.resumed},
                "parameters": identity(parameters),
                "code": context.code,
                "git_commit": provenance.git_commit(),
                "packages": provenance.package_versions(),
                "signature": signature,
                "labels": list(context.schema.target.labels),
                "targets": [context.schema.target.to_json()],
            }
            manifest.publish(
                context.storage, f"runs/{self.run_id}/training", directory, "training", self.run_id, properties
            )
        checkpoints.clear()
