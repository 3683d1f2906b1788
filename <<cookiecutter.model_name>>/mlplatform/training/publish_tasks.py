"""From a trained network to a published model: evaluate -> publish, with the gate between them."""

import base64
import json
import logging
import math
import shutil
from pathlib import Path
from typing import Any

import luigi
import numpy as np

from mlplatform.contract.errors import GateError
from mlplatform.contract.parameters import run_id
from mlplatform.contract.runtimes import EXPORTS, exported_for
from mlplatform.store import manifest
from mlplatform.store.manifest import Manifest
from mlplatform.training import evaluation, gate, litert
from mlplatform.training.baseline import baseline
from mlplatform.training.export import Exported, predict_split
from mlplatform.training.gate import Judged
from mlplatform.training.results import TARGET, VALIDATION, Results, write_json
from mlplatform.training.task import Context, StoredTarget, Task
from mlplatform.training.train_task import Train
from mlplatform.training.work import temporary

log = logging.getLogger(__name__)
SAMPLES = 5
# Files, such as photographs, may be large, and every list of models reads the manifest: none is added beyond this.
SAMPLE_BYTES = 256 << 10
# With more classes the confusion matrix is too large for a manifest, which every list of models reads.
LISTED_CLASSES = 100


class Evaluate(Task):
    """Measure the exported model by itself on the test split: `metrics.json` and `predictions.npy`; and decide by the
    validation split what the target leaves open, such as thresholds: `target.json`.
    """

    dataset: str = luigi.Parameter()
    run_id: str = luigi.Parameter()

    def requires(self) -> Train:
        """The exported model."""
        return Train(context=self.context, dataset=self.dataset, run_id=self.run_id)

    def output(self) -> StoredTarget:
        """The metrics."""
        return self.target(f"runs/{self.run_id}/evaluation/{manifest.MANIFEST}")

    def run(self) -> None:
        """See the class."""
        context = self.context
        results = Results(context, self.dataset, self.run_id)
        test = results.split("test")
        about, trained = results.trained()
        exported = Exported.of(trained, about.properties)
        predictions = predict_split(exported, test, context.parameters.batch_size)
        target, validation = context.schema.target, None
        if target.has_threshold:
            validation = predict_split(exported, results.split("validation"), context.parameters.batch_size)
            target = target.decided(results.truth("validation"), validation)
        difference = target.difference(predictions, np.load(trained / "predictions.npy").reshape(predictions.shape))
        metrics = {
            **target.metrics(target.rows(results.truth("test"), predictions)),
            "export_difference": difference if np.isfinite(difference) else None,
            "inference_ms": evaluation.inference_ms(exported, test),
            "bytes": evaluation.size(trained / EXPORTS[exported_for(about.properties)]),
        }
        with temporary(context.work) as directory:
            write_json(directory / "metrics.json", metrics)
            np.save(directory / "predictions.npy", predictions)
            write_json(directory / TARGET, target.to_json())
            if validation is not None:
                np.save(directory / VALIDATION, validation)
            prefix = f"{results.prefix}/evaluation"
            manifest.publish(context.storage, prefix, directory, "evaluation", self.run_id, _listed(metrics))
        log.info("evaluate: %s, on %d test examples", target.said(metrics), metrics["examples"])


class Publish(Task):
    """Publish the model, its report and its metrics if the gate is open."""

    dataset: str = luigi.Parameter()
    run_id: str = luigi.Parameter()

    def requires(self) -> tuple[Train, Evaluate]:
        """The exported model and its metrics."""
        arguments = {"context": self.context, "dataset": self.dataset, "run_id": self.run_id}
        return Train(**arguments), Evaluate(**arguments)

    def output(self) -> StoredTarget:
        """The model version, named like its run."""
        return self.target(f"models/{self.run_id}/{manifest.MANIFEST}")

    def complete(self) -> bool:
        """Whether the model is published, and the gate is open for it with today's thresholds and production."""
        return super().complete() and gate.is_open(Results(self.context, self.dataset, self.run_id))

    def run(self) -> None:
        """See the class. Raises GateError."""
        results = Results(self.context, self.dataset, self.run_id)
        judged = gate.judge(results)
        verdict = judged.manifest.properties
        if verdict["skipped"]:
            log.info("gate: not compared with production: %s", verdict["skipped"])
        before = manifest.find(self.context.storage, f"models/{self.run_id}")
        if not judged.passed:
            outcome = (
                f"model version {before.id}, published before, stays as it is" if before else "nothing is published"
            )
            raise GateError(verdict["reasons"], outcome, judged.report, judged.report_url)
        log.info("gate: open")
        if before is None:
            self._publish(results, judged)

    def _publish(self, results: Results, judged: Judged) -> None:
        context = self.context
        trained, content = results.trained()
        with temporary(context.work) as directory:
            for source in (content / name for name in EXPORTS.values()):
                if source.is_dir():
                    shutil.copytree(source, directory / source.name)
                elif source.is_file():
                    shutil.copyfile(source, directory / source.name)
            for name in ("report.html", "metrics.json"):
                shutil.copyfile(judged.content / name, directory / name)
            target, inputs = results.target, context.schema.inputs
            properties = {
                "name": context.service.name,
                **trained.properties,
                "targets": [part.to_json() for part in target.parts],
                "run": self.run_id,
                "metrics": _listed(results.metrics()),
                "gate": dict(judged.manifest.properties),
                "report": "report.html",
                "baseline": baseline(results.split("train"), inputs, results.predictions(), target),
                "samples": _samples(results),
                "runtimes": self._runtimes(results, trained, content, directory),
            }
            published = manifest.publish(
                context.storage, f"models/{self.run_id}", directory, "model", self.run_id, properties
            )
        log.info("publish: model version %s", published.id)

    def _runtimes(self, results: Results, trained: Manifest, content: Path, directory: Path) -> dict[str, Any]:
        """What can compute the model; a copy for LiteRT is written into `directory`."""
        exported = exported_for(trained.properties)
        runtimes: dict[str, Any] = {exported: {"path": EXPORTS[exported], "valid": True}}
        if exported == "tensorflow":
            return {**runtimes, "litert": self._litert(results, content / EXPORTS[exported], directory)}
        reason = {"valid": False, "reason": "it is an ONNX model"}
        return {**runtimes, "tensorflow": reason, "litert": reason}

    def _litert(self, results: Results, saved_model: Path, directory: Path) -> dict[str, Any]:
        context = self.context
        if not context.parameters.litert:
            return litert.switched_off()
        entry = litert.runtime(
            saved_model,
            directory,
            results.split("test"),
            results.predictions(),
            context.parameters.batch_size,
            context.work,
            results.target,
            context.converter,
        )
        if entry["valid"]:
            log.info("publish: LiteRT predicts the same, the largest difference is %.1e", entry["difference"])
        else:
            log.info("publish: not for LiteRT: %s", entry["reason"])
        return entry


def publish_task(context: Context, version: str) -> Publish:
    """The task that leads from a dataset version to a published model."""
    return Publish(context=context, dataset=version, run_id=run_id(version, context.parameters, context.code))


def _samples(results: Results) -> list[dict[str, Any]]:
    """A few examples of the test split, to try the service with."""
    test = results.split("test")
    target = results.target
    as_bytes = {spec.name for spec in results.context.schema.inputs if spec.media_type}
    first = np.arange(min(SAMPLES, len(test)))
    inputs = {name: test.rows(name, first) for name in test.inputs}
    _, truth = test.take(first)
    samples: list[dict[str, Any]] = []
    for i, true in enumerate(truth):
        instance = {name: _json_value(rows[i], name in as_bytes) for name, rows in inputs.items()}
        samples.append({"instance": instance, "label": target.decode(true)})
        if as_bytes and len(json.dumps(samples)) > SAMPLE_BYTES:
            break
    return samples


def _listed(metrics: dict[str, Any]) -> dict[str, Any]:
    """The metrics as a manifest holds them."""
    too_many = len(metrics.get("classes", ())) > LISTED_CLASSES
    kept = {name: value for name, value in metrics.items() if not (too_many and name == "confusion")}
    if "targets" in kept:
        kept["targets"] = {name: _listed(of) for name, of in kept["targets"].items()}
    return kept


def _json_value(array: Any, as_bytes: bool) -> Any:
    """An input as a request of V1 has it."""
    value = array.tolist() if hasattr(array, "tolist") else array
    if isinstance(value, list):
        return [_json_value(item, as_bytes) for item in value]
    if isinstance(value, float) and math.isnan(value):
        # An input that is missing.
        return None
    if as_bytes:
        return {"b64": base64.b64encode(value).decode()}
    return value.decode() if isinstance(value, bytes) else value
