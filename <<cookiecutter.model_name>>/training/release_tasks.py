"""From a trained network to a published model: evaluate -> publish."""

import json
import logging
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import luigi
import numpy as np

from artifacts import manifest
from training import dataset, evaluation, export
from training.errors import GateError
from training.parameters import run_id
from training.task import Context, StoredTarget, Task
from training.train_task import Train

log = logging.getLogger(__name__)
SAMPLES = 5


class Evaluate(Task):
    """Measure the exported model on the test split."""

    dataset: str = luigi.Parameter()
    run_id: str = luigi.Parameter()

    def requires(self) -> Train:
        """The exported model."""
        return Train(context=self.context, dataset=self.dataset, run_id=self.run_id)

    def output(self) -> StoredTarget:
        """The metrics."""
        return self.target(f"runs/{self.run_id}/evaluation/{manifest.MANIFEST}")

    def run(self) -> None:
        """See the class. Raises GateError if the exported model does not predict what the trained one does."""
        context = self.context
        _, content = manifest.fetch(context.storage, f"datasets/{self.dataset}", context.work)
        _, trained = manifest.fetch(context.storage, f"runs/{self.run_id}/training", context.work)
        test = dataset.Split(content, "test", [spec.name for spec in context.schema.inputs])
        exported = export.predict(trained / "saved_model", test, context.parameters.batch_size)
        # Float32 through another graph: sums in another order. 1e-4 is a hundred times what that changes here.
        difference = float(np.abs(exported - np.load(trained / "predictions.npy")).max())
        if difference > 1e-4:
            raise GateError(f"the exported model's probabilities differ from the trained model's by {difference:.2g}")
        labels = test.column("label", np.arange(len(test)))
        found = evaluation.metrics(exported, labels, context.schema.labels)
        with TemporaryDirectory(dir=context.work) as temporary:
            (Path(temporary) / "metrics.json").write_text(json.dumps(found, indent=1))
            manifest.publish(
                context.storage, f"runs/{self.run_id}/evaluation", Path(temporary), "evaluation", self.run_id, found
            )


class Publish(Task):
    """Publish the model if it is good enough."""

    dataset: str = luigi.Parameter()
    run_id: str = luigi.Parameter()

    def requires(self) -> tuple[Train, Evaluate]:
        """The exported model and its metrics."""
        arguments = {"context": self.context, "dataset": self.dataset, "run_id": self.run_id}
        return Train(**arguments), Evaluate(**arguments)

    def output(self) -> StoredTarget:
        """The model version, named like its run."""
        return self.target(f"models/{self.run_id}/{manifest.MANIFEST}")

    def run(self) -> None:
        """See the class. Raises GateError."""
        context = self.context
        evaluated = manifest.read(context.storage, f"runs/{self.run_id}/evaluation").properties
        accuracy, minimum = evaluated["accuracy"], context.parameters.minimum_accuracy
        if accuracy < minimum:
            raise GateError(
                f"accuracy {accuracy:.4f} on the test split is below minimum_accuracy {minimum:g}; nothing is "
                f"published, metrics are in {context.storage.url}/runs/{self.run_id}/evaluation"
            )
        trained, content = manifest.fetch(context.storage, f"runs/{self.run_id}/training", context.work)
        with TemporaryDirectory(dir=context.work) as temporary:
            shutil.copytree(content / "saved_model", Path(temporary) / "saved_model")
            properties = {
                "name": context.service.name,
                **trained.properties,
                "run": self.run_id,
                "metrics": evaluated,
                "samples": self._samples(),
                "runtimes": {"tensorflow": {"path": "saved_model", "valid": True}},
            }
            published = manifest.publish(
                context.storage, f"models/{self.run_id}", Path(temporary), "model", self.run_id, properties
            )
        log.info("publish: model version %s, accuracy %.4f on the test split", published.id, accuracy)

    def _samples(self) -> list[dict[str, Any]]:
        """A few examples of the test split, to try the service with."""
        context = self.context
        _, content = manifest.fetch(context.storage, f"datasets/{self.dataset}", context.work)
        test = dataset.Split(content, "test", [spec.name for spec in context.schema.inputs])
        inputs, labels = test.take(np.arange(min(SAMPLES, len(test))))
        return [
            {
                "instance": {name: _json_value(array[i]) for name, array in inputs.items()},
                "label": context.schema.labels[label],
            }
            for i, label in enumerate(labels)
        ]


def publish_task(context: Context, version: str) -> Publish:
    """The task that leads from a dataset version to a published model."""
    return Publish(context=context, dataset=version, run_id=run_id(version, context.parameters, context.code))


def _json_value(array: Any) -> Any:
    value = array.tolist() if hasattr(array, "tolist") else array
    return value.decode() if isinstance(value, bytes) else value
