"""The base of the pipeline's Luigi tasks, and the context of a run.

Every task's output is a file or artifact of the store, so a run resumes at the first unfinished task, on this or
another machine. Outputs are named by what they are made from, so the same request finds them again.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import luigi

from mlplatform.config.settings import ServiceSettings
from mlplatform.contract.criteria import Criteria
from mlplatform.contract.parameters import TrainingParameters
from mlplatform.contract.stopping import Stop
from mlplatform.data.dataset import Schema
from mlplatform.store.storage import Storage
from mlplatform.training.litert import Converter
from mlplatform.training.metrics import TrainingMetrics


@dataclass(frozen=True, eq=False)
class Context:
    """The settings and services that every task of a run shares.

    `failures` collects exceptions, for the exit code; `steps` the tasks that ran, with their seconds.
    """

    service: ServiceSettings
    storage: Storage
    work: Path
    parameters: TrainingParameters
    schema: Schema
    code: str
    stop: Stop
    criteria: Criteria = field(default_factory=Criteria)
    metrics: TrainingMetrics = field(default_factory=TrainingMetrics)
    converter: Converter = field(default_factory=Converter)
    failures: list[BaseException] = field(default_factory=list)
    steps: list[tuple[str, float]] = field(default_factory=list)


class StoredTarget(luigi.Target):  # type: ignore[misc]
    """A key of the store."""

    def __init__(self, storage: Storage, key: str) -> None:
        self.storage = storage
        self.key = key

    def exists(self) -> bool:
        """Whether the key is there."""
        return self.storage.exists(self.key)

    def read(self) -> Any:
        """The key's content as JSON."""
        return json.loads(self.storage.read(self.key))

    def write(self, value: Any) -> None:
        """Replace the key's content by JSON."""
        self.storage.write(self.key, json.dumps(value, indent=1, ensure_ascii=False).encode())


class ObjectParameter(luigi.Parameter):  # type: ignore[misc]
    """A parameter that is an object and no part of the task's id; Luigi warns of such a value in a plain Parameter."""

    def __init__(self) -> None:
        super().__init__(significant=False, visibility=luigi.parameter.ParameterVisibility.PRIVATE)


class Task(luigi.Task):  # type: ignore[misc]
    """A step of the pipeline."""

    context: Context = ObjectParameter()

    def target(self, key: str) -> StoredTarget:
        """A key of the run's store."""
        return StoredTarget(self.context.storage, key)

    def complete(self) -> bool:
        """Whether the output is there. Keeps an exception of the check: Luigi only says that scheduling failed."""
        try:
            return bool(super().complete())
        except Exception as error:
            self.context.failures.append(error)
            raise

    def on_failure(self, exception: BaseException) -> str:
        """Keep the exception for the exit code; Luigi itself forgets it."""
        self.context.failures.append(exception)
        return str(exception)


@Task.event_handler(luigi.Event.PROCESSING_TIME)  # type: ignore[untyped-decorator]
def _note_time(task: Task, seconds: float) -> None:
    task.context.steps.append((task.get_task_family().lower(), seconds))
