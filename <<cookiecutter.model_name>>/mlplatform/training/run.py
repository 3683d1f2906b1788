"""One run of the pipeline, from parameters to an exit code."""

import logging
import os
from pathlib import Path

import luigi
from luigi.execution_summary import LuigiStatusCode

import model
from mlplatform.config.hints import hint
from mlplatform.config.settings import ServiceSettings, load
from mlplatform.contract.criteria import Criteria
from mlplatform.contract.errors import ExitCode, PipelineError
from mlplatform.contract.parameters import TrainingParameters
from mlplatform.contract.result import JobResult
from mlplatform.contract.stopping import Stop
from mlplatform.contract.targets import of_model
from mlplatform.data import team
from mlplatform.data.dataset import Schema
from mlplatform.data.review import check_build
from mlplatform.data.settings import DataSettings
from mlplatform.store import manifest
from mlplatform.store.manifest import Manifest
from mlplatform.store.storage import Storage
from mlplatform.telemetry import logs
from mlplatform.training import devices, job, onnx_model, preflight
from mlplatform.training.data_tasks import check_share, prepare_task
from mlplatform.training.metrics import TrainingMetrics
from mlplatform.training.provenance import code_version
from mlplatform.training.publish_tasks import publish_task
from mlplatform.training.shares import Share
from mlplatform.training.task import Context, Task
from mlplatform.training.work import sweep

log = logging.getLogger(__name__)


def prepare_context(
    service: ServiceSettings,
    storage: Storage,
    parameters: TrainingParameters,
    criteria: Criteria,
    stop: Stop,
    metrics: TrainingMetrics,
) -> Context:
    """Set up TensorFlow for this process, and what the tasks share. Raises PipelineError."""
    work = Path(parameters.work)
    with job.failure_written(storage, stop):
        try:
            work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PipelineError(
                f"training.work = {str(work)!r}: no such directory can be made: {error.strerror}"
            ) from None
        sweep(work)
        devices.configure(parameters)
        inputs = (onnx_model if onnx_model.is_given() else preflight).definition(parameters)
    return Context(
        service=service,
        storage=storage,
        work=work,
        parameters=parameters,
        schema=Schema(model.RECORD, inputs, of_model(model), team.steps()),
        code=code_version(data=Path(model.DATA)),
        stop=stop,
        criteria=criteria,
        metrics=metrics,
    )


def run(context: Context) -> None:
    """Run the steps of the pipeline that are not done yet, and print what came out; a job also writes its result.

    Raises PipelineError or StorageError with the reason it failed, Stopped if a signal stopped the process.
    """
    with job.failure_written(context.storage, context.stop), context.converter:
        published = _run(context)
    report = f"models/{published.id}/{published.content}/{published.properties['report']}"
    job.write(context.storage, JobResult(ExitCode.DONE, model=published.id, report=report))
    _print_summary(context, published, report)


def _run(context: Context) -> Manifest:
    version = context.parameters.dataset or gather(context)
    publish = publish_task(context, version)
    _build(publish, context)
    return manifest.read(context.storage, f"models/{publish.run_id}")


def _print_summary(context: Context, published: Manifest, report: str) -> None:
    if not context.steps:
        log.info("nothing to do: this run is finished")
    url = context.storage.url
    lines = [
        f"model version {published.id}, {context.schema.target.in_words(published.properties['metrics'])}",
        f"  model   {url}/models/{published.id}",
        f"  report  {url}/{report}",
        f"  next    {hint('serve')}",
    ]
    if context.steps:
        lines.append(f"  steps   {', '.join(f'{name} {seconds:.1f} s' for name, seconds in context.steps)}")
    if logs.wants_json(os.environ):
        log.info("\n".join(lines), extra={"model_version": published.id})
    else:
        print("\n" + "\n".join(lines))


def check(context: Context, share: Share) -> None:
    """Check a share of the source's files, for a later run to find them checked. A job that fails writes its result.

    Raises PipelineError or StorageError.
    """
    with job.failure_written(context.storage, context.stop):
        check_share(context, _source(context), share)


def gather(context: Context) -> str:
    """The version of the dataset that the source holds now; prepares it if it is new.

    Raises FindingsError if it has what [data] refuses.
    """
    task = prepare_task(context, _source(context))
    _build(task, context)
    version = str(task.output().read()["version"])
    check_build(context.storage, version, context.work, load(DataSettings))
    return version


def _source(context: Context) -> str:
    return context.parameters.source or str(model.DATA)


def _build(task: Task, context: Context) -> None:
    """Run a task and the tasks that it requires, unless they are done. Raises the first failure."""
    settings = luigi.configuration.get_config()
    # A task that ends without its output has failed.
    settings.set("worker", "check_complete_on_run", "true")
    # The tasks log their work themselves; Luigi would repeat it, with tracebacks for what a person can mend.
    settings.set("core", "no_configure_logging", "true")
    # One worker and no forks: TensorFlow does not survive a fork.
    result = luigi.build([task], local_scheduler=True, workers=1, detailed_summary=True, no_lock=True)
    for failure in context.failures:
        raise failure
    if result.status != LuigiStatusCode.SUCCESS:
        raise PipelineError(f"the pipeline did not finish:\n{result.summary_text}")
