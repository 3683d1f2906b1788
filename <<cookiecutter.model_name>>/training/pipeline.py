"""The pipeline as Luigi tasks: gather -> validate -> prepare -> train -> evaluate -> publish.

Every task's output is a file or artifact of the store, so a run goes on with the first task whose output is missing:
on this machine or another. Names of outputs follow from what they are made of; the same request finds them again.
"""

import hashlib
import json
import logging
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import luigi
import numpy as np

import model
from artifacts import manifest
from artifacts.settings import ServiceSettings
from artifacts.storage import MissingKeyError, Storage
from training import dataset, evaluation, export, fitting, provenance
from training.devices import prepare_tensorflow
from training.errors import BadDataError, GateError
from training.parameters import TrainingParameters, hyperparameters, identity, run_id
from training.records import SUFFIXES

log = logging.getLogger(__name__)
# How many wrong records are shown; all of them are in the store.
SHOWN_PROBLEMS = 10
SAMPLES = 5


@dataclass(frozen=True, eq=False)
class Context:
    """What every task of a run shares; `failures` collects what went wrong, for the exit code."""

    service: ServiceSettings
    storage: Storage
    work: Path
    parameters: TrainingParameters
    schema: dataset.Schema
    code: str
    failures: list[BaseException] = field(default_factory=list)


@dataclass(frozen=True)
class SourceFile:
    """A file of records: its name below the source, and what identifies its content."""

    name: str
    identity: str


class StoredTarget(luigi.Target):  # type: ignore[misc]
    """A key of the store."""

    def __init__(self, storage: Storage, key: str) -> None:
        self.storage = storage
        self.key = key

    def exists(self) -> bool:
        """Whether the key is there."""
        try:
            self.storage.read(self.key)
        except MissingKeyError:
            return False
        return True

    def read(self) -> Any:
        """The key's content as JSON."""
        return json.loads(self.storage.read(self.key))

    def write(self, value: Any) -> None:
        """Replace the key's content by JSON."""
        self.storage.write(self.key, json.dumps(value, indent=1, ensure_ascii=False).encode())


class ContextParameter(luigi.Parameter):  # type: ignore[misc]
    """Luigi warns of a plain Parameter whose value is not text."""


class Task(luigi.Task):  # type: ignore[misc]
    """A step of the pipeline."""

    context: Context = ContextParameter(significant=False, visibility=luigi.parameter.ParameterVisibility.PRIVATE)

    def target(self, key: str) -> StoredTarget:
        """A key of the run's store."""
        return StoredTarget(self.context.storage, key)

    def on_failure(self, exception: BaseException) -> str:
        """Keep the exception for the exit code; Luigi itself forgets it."""
        self.context.failures.append(exception)
        return str(exception)


class Gather(Task):
    """Write down which files the source holds."""

    source: str = luigi.Parameter(significant=False)
    snapshot: str = luigi.Parameter()

    def output(self) -> StoredTarget:
        """The list of files, by name and identity."""
        return self.target(f"gathered/{self.snapshot}/files.json")

    def run(self) -> None:
        """See the class."""
        files = list_source(self.source)
        self.output().write([{"name": file.name, "identity": file.identity} for file in files])
        log.info("gather: %d files in %s", len(files), self.source)


class Validate(Task):
    """Check every record; files checked before are not read again."""

    source: str = luigi.Parameter(significant=False)
    snapshot: str = luigi.Parameter()
    schema: str = luigi.Parameter()

    def requires(self) -> Gather:
        """The list of files."""
        return Gather(context=self.context, source=self.source, snapshot=self.snapshot)

    def output(self) -> StoredTarget:
        """The checked parts, one a file."""
        return self.target(f"gathered/{self.snapshot}/parts-{self.schema}.json")

    def run(self) -> None:
        """See the class. Raises BadDataError."""
        context = self.context
        parts = []
        for file in self.input().read():
            prefix = dataset.part_prefix(file["identity"], context.schema)
            checked = dataset.check_file(context.storage, Path(self.source) / file["name"], prefix, context.schema)
            parts.append({"name": file["name"], "prefix": prefix, **checked.properties})
        bad, good = (sum(part[key] for part in parts) for key in ("problems", "rows"))
        log.info("validate: %d records fit, %d do not", good, bad)
        if bad:
            raise BadDataError(self._explain(parts, bad))
        self.output().write(parts)

    def _explain(self, parts: list[dict[str, Any]], bad: int) -> str:
        lines = [f"{bad} records do not fit model.RECORD:"]
        for part in parts:
            for row, reason in dataset.read_problems(self.context.storage, part["prefix"], self.context.work):
                lines.append(f"  {part['name']} row {row}: {reason}")
                if len(lines) > SHOWN_PROBLEMS:
                    return "\n".join([*lines, "  ..."])
        return "\n".join(lines)


class Prepare(Task):
    """Merge, deduplicate and divide the records into a dataset version."""

    source: str = luigi.Parameter(significant=False)
    snapshot: str = luigi.Parameter()
    schema: str = luigi.Parameter()
    validation_fraction: float = luigi.FloatParameter()
    test_fraction: float = luigi.FloatParameter()

    def requires(self) -> Validate:
        """The checked parts."""
        return Validate(context=self.context, source=self.source, snapshot=self.snapshot, schema=self.schema)

    def output(self) -> StoredTarget:
        """The dataset's version."""
        options = f"{self.schema}-{self.validation_fraction:g}-{self.test_fraction:g}"
        return self.target(f"gathered/{self.snapshot}/dataset-{options}.json")

    def run(self) -> None:
        """See the class. Raises BadDataError."""
        prepared = dataset.prepare(
            self.context.storage,
            [part["prefix"] for part in self.input().read()],
            self.context.schema,
            dataset.Options(self.validation_fraction, self.test_fraction),
            self.context.work,
        )
        splits = ", ".join(f"{split['examples']} {name}" for name, split in prepared.properties["splits"].items())
        log.info("prepare: dataset %s with %s examples", prepared.id, splits)
        self.output().write({"version": prepared.id})


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
        prepared, content = manifest.fetch(context.storage, f"datasets/{self.dataset}", context.work)
        inputs = [spec.name for spec in context.schema.inputs]
        train, validation, test = (dataset.Split(content, split, inputs) for split in dataset.SPLITS)
        log.info("train: run %s on dataset %s, %d examples", self.run_id, prepared.id, len(train))
        prepare_tensorflow(parameters.seed)
        network = model.build(hyperparameters(parameters))
        history = fitting.fit(network, train, validation, parameters.epochs, parameters.batch_size, parameters.seed)
        with TemporaryDirectory(dir=context.work) as temporary:
            directory = Path(temporary)
            signature = export.export(network, directory / "saved_model")
            np.save(directory / "predictions.npy", fitting.predict(network, test, parameters.batch_size))
            (directory / "history.json").write_text(json.dumps(history, indent=1))
            properties = {
                "dataset": self.dataset,
                "parameters": identity(parameters),
                "code": context.code,
                "git_commit": provenance.git_commit(),
                "packages": provenance.package_versions(),
                "signature": signature,
                "labels": list(context.schema.labels),
            }
            manifest.publish(
                context.storage, f"runs/{self.run_id}/training", directory, "training", self.run_id, properties
            )


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


def prepare_task(context: Context, source: str) -> Prepare:
    """The task that turns a source into a dataset version. Raises BadDataError if the source holds no records."""
    return Prepare(
        context=context,
        source=source,
        snapshot=snapshot_id(list_source(source)),
        schema=context.schema.fingerprint(),
        validation_fraction=context.parameters.validation_fraction,
        test_fraction=context.parameters.test_fraction,
    )


def publish_task(context: Context, version: str) -> Publish:
    """The task that leads from a dataset version to a published model."""
    return Publish(context=context, dataset=version, run_id=run_id(version, context.parameters, context.code))


def list_source(source: str) -> list[SourceFile]:
    """Every file of records below a directory, by name. Raises BadDataError if there is none."""
    directory = Path(source)
    if not directory.is_dir():
        raise BadDataError(f"source {source!r}: must be a directory that exists")
    paths = sorted(path for path in directory.rglob("*") if path.is_file() and path.name.endswith(SUFFIXES))
    if not paths:
        raise BadDataError(f"source {source!r}: holds no file of records; they end in {', '.join(SUFFIXES)}")
    return [SourceFile(path.relative_to(directory).as_posix(), manifest.file_sha256(path)) for path in paths]


def snapshot_id(files: list[SourceFile]) -> str:
    """16 hex digits that follow from the content of the files, whatever their names and order."""
    return hashlib.sha256("\n".join(sorted(file.identity for file in files)).encode()).hexdigest()[:16]


def _json_value(array: Any) -> Any:
    value = array.tolist() if hasattr(array, "tolist") else array
    return value.decode() if isinstance(value, bytes) else value
