"""`submit`, `attach` and `stop-training`: the pipeline as a job of AWS Batch, followed until it ends."""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any

import click

from mlplatform.config.hints import hint
from mlplatform.config.settings import ServiceSettings, load
from mlplatform.contract.errors import ExitCode
from mlplatform.contract.options import parameter_options
from mlplatform.contract.parameters import TrainingParameters
from mlplatform.contract.result import JobResult, read_result, result_key
from mlplatform.delivery.console import Console
from mlplatform.delivery.errors import BadRequestError, DeliveryError, GateClosedError, RefusedError
from mlplatform.delivery.images import build
from mlplatform.delivery.images.registry import Image, Registry
from mlplatform.delivery.jobs.batch import ENDED, Batch, Ended, Running, Submission
from mlplatform.delivery.jobs.need import RetrainingSettings, needed
from mlplatform.delivery.jobs.parameters import given, known_parameters
from mlplatform.delivery.options import console_option, dry_run_option, store_option
from mlplatform.delivery.settings import DeliverySettings
from mlplatform.store import manifest
from mlplatform.store.manifest import ArtifactError
from mlplatform.store.storage import Storage, StorageError

# AWS Batch takes no larger array jobs.
MOST_MACHINES = 10_000


class _Training(click.Command):
    """A command with an option for each parameter of the training, read when they are needed."""

    def get_params(self, context: click.Context) -> list[click.Parameter]:
        """Its own options, then the training's."""
        return [*super().get_params(context), *parameter_options(known_parameters()[0])]

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Hyperparameters that cannot be known here are taken as `--name value`, for the job to check."""
        if not known_parameters()[1]:
            return super().parse_args(context, args)
        context.ignore_unknown_options = context.allow_extra_args = True
        super().parse_args(context, args)
        rest = [word for argument in context.args for word in argument.split("=", 1)]
        for option, value in zip_longest(rest[::2], rest[1::2]):
            if not option.startswith("--") or value is None:
                raise click.UsageError(f"No such option {option!r}", context)
            context.params[option.removeprefix("--").replace("-", "_")] = value
        context.args = []
        return []


report_option = click.option(
    "--report", type=click.Path(path_type=Path), help="Also fetch report.html and metrics.json into a directory."
)


@click.command(cls=_Training)
@click.option("--image", metavar="REF", help="Training image, by digest.  [default: the one of this code]")
@click.option("--detach", is_flag=True, help="Print the job's id for `attach` instead of waiting.")
@click.option(
    "--machines", type=click.IntRange(2, MOST_MACHINES), help="Check the source's files on so many machines first."
)
@click.option("--if-needed", is_flag=True, help="Only for new data, an old model or drift; say why not.")
@report_option
@store_option
@dry_run_option
@console_option
def submit(
    image: str | None,
    detach: bool,
    machines: int | None,
    if_needed: bool,
    report: Path | None,
    store: Storage,
    dry_run: bool,
    console: Console,
    **parameters: str | None,
) -> None:
    """Train as a job of AWS Batch, follow it, and print the model version, its metrics and its report's place.

    Each parameter of the training is an option, and a variable TRAINING_... of the environment; the others are as in
    service.toml. Ctrl-C asks whether to leave the job running. Batch starts a job again that loses its Spot instance,
    and the job resumes from its last checkpoint. Exit code 4: the gate is closed, the model is not published.
    A job of the same image and parameters that has not ended is followed instead; `stop-training` ends it.
    --machines: an array job checks the files, each machine its share, and the training begins when all are checked.
    --if-needed looks first, by [retraining] of service.toml: without a reason to train nothing is submitted.
    """
    settings = load(DeliverySettings)
    known, unchecked = known_parameters()
    chosen = given(known, {name: value for name, value in parameters.items() if value is not None})
    if unchecked:
        console.say(f"submit: {unchecked}")
    if not store.url.startswith("s3://"):
        raise BadRequestError(
            f"delivery.storage_url = {store.url!r}: a job in AWS reaches no directory; must be s3://..."
        )
    if machines:
        _check_worth(machines, load(known, chosen))
    reference = _training_image(image, settings)
    batch = Batch(settings, console)
    batch.check_queue()
    environment = {f"TRAINING_{name.upper()}": value for name, value in chosen.items()}
    submission = Submission(load(ServiceSettings).name, reference, {"STORAGE_URL": store.url, **environment})
    shown = " ".join(f"{name}={value}" for name, value in chosen.items()) or "as in service.toml"
    console.say(f"submit: image {reference}\nsubmit: parameters {shown}")
    why = ""
    if if_needed:
        need = needed(
            store, load(ServiceSettings).name, load(known, chosen), load(RetrainingSettings), datetime.now(UTC)
        )
        if not need.reasons:
            said = f"not trained: {'; '.join(need.against)}"
            console.result(said, {"job": None, "said": said})
            return
        why = f"{'; '.join(need.reasons)}; "
        console.say(f"submit: {'; '.join(need.reasons)}")
    if dry_run:
        definition = batch.definition(reference)
        text = f"would register {definition['jobDefinitionName']} and submit to {settings.batch_job_queue}"
        text += f", after {machines} jobs that check the source" if machines else ""
        console.result(text, {"definition": definition, "environment": dict(submission.environment)})
        return
    if job := batch.under_way(submission):
        console.say(f"job: {job} is this training and has not ended; it is followed instead of a second one")
    else:
        job = batch.submit(submission, machines or 0)
        console.say(f"job: {job} in {settings.batch_job_queue}")
    if detach:
        console.result(f"{job}\nfollow it: {hint(f'attach {job}')}", {"job": job, "said": f"{why}job {job}"})
        return
    _follow(batch, job, report, store, console)


@click.command()
@click.argument("job_id")
@click.option("--minutes", type=click.FloatRange(0), help="Follow it so long at most.  [default: until it ends]")
@click.option("--log-from", type=click.IntRange(0), default=0, metavar="MS", help="Leave out what is older in its log.")
@report_option
@store_option
@console_option
def attach(
    job_id: str, minutes: float | None, log_from: int, report: Path | None, store: Storage, console: Console
) -> None:
    """Follow a job that was submitted before, from its first line on, as `submit` does.

    With --minutes, a job that has not ended by then is no failure: with --json the result says "ended": false, and as
    log_from where --log-from goes on, so that a long job can be followed in slices, each with fresh credentials.
    """
    seconds = None if minutes is None else 60 * minutes
    _follow(Batch(load(DeliverySettings), console), job_id, report, store, console, seconds, log_from)


@click.command("stop-training")
@click.argument("job_id")
@dry_run_option
@console_option
def stop_training(job_id: str, dry_run: bool, console: Console) -> None:
    """End a job that was submitted before, wherever it is. Submitted again, it resumes from its last checkpoint."""
    batch, name = Batch(load(DeliverySettings), console), load(ServiceSettings).name
    job = batch.describe(job_id)
    if job["jobName"] != name:
        raise RefusedError(f"job {job_id} is of {job['jobName']}, not of {name}")
    ended = job["status"] in ENDED
    if not dry_run and not ended:
        batch.terminate(job_id, "terminated by stop-training")
    text = "has ended already" if ended else "would be terminated" if dry_run else "is being terminated"
    console.result(f"job {job_id} {text}", {"job": job_id, "stopped": not ended and not dry_run})


def _check_worth(machines: int, parameters: TrainingParameters) -> None:
    """Raises BadRequestError if there is no source whose files several machines could check."""
    for name, wrong in (("source", not parameters.source), ("dataset", bool(parameters.dataset))):
        if wrong:
            said = f"{name} = {getattr(parameters, name)!r}"
            raise BadRequestError(
                f"--machines {machines}: {said}, so there are no files to be checked; give --source "
                "s3://bucket/prefix, or leave --machines out"
            )


def _training_image(reference: str | None, settings: DeliverySettings) -> str:
    """The image by digest: that which is named, or that of this code. Raises BadRequestError or RefusedError."""
    if reference is not None:
        if Image.parse(reference) is None:
            raise BadRequestError(f"--image {reference!r}: must name its digest, registry/name@sha256:...")
        return reference
    made_of = build.training_recipe(settings)
    host, repository = build.repository("training", settings)
    there = build.look_up(Registry(host), repository, made_of.tag())
    if there is None:
        raise RefusedError(
            f"no image of this code in {host}/{repository} yet; build it first: {hint('image training')}"
        )
    return there.reference


def _follow(
    batch: Batch,
    job: str,
    report: Path | None,
    store: Storage,
    console: Console,
    seconds: float | None = None,
    log_from: int = 0,
) -> None:
    try:
        ended = batch.follow(job, seconds, log_from)
    except KeyboardInterrupt:
        _leave_or_terminate(batch, job, console)
        raise click.exceptions.Exit(ExitCode.INTERRUPTED) from None
    if isinstance(ended, Running):
        value = {"job": job, "ended": False, "status": ended.job["status"], "log_from": ended.log_from}
        console.result(f"job {job} has not ended; follow it: {hint(f'attach {job}')}", value)
        return
    result = _result(ended, store, console)
    if report and result and result.report:
        _fetch_report(result.report, report, store, console)
    if not ended.succeeded:
        raise _failure(ended, result, store)
    if result is None or result.model is None:
        raise DeliveryError(
            f"job {job} ended well, and its result, {store.url}/{result_key(job)}, is not there; an image of an older "
            f"version of the template writes none. The published models: {hint('models')}"
        )
    model = manifest.read(store, f"models/{result.model}")
    metrics: Mapping[str, Any] = model.properties.get("metrics", {})
    place = f"{store.url}/{result.report}"
    figures = "".join(
        f"\n  {name:12}{metrics[name]:.4f}" for name in ("accuracy", "macro_f1", "log_loss") if name in metrics
    )
    dataset = model.properties.get("dataset")
    text = f"model version {model.id}{figures}\n  dataset     {dataset}\n  report      {place}"
    console.result(
        f"{text}\nnext: {hint(f'gate {model.id}')}",
        {
            "job": job,
            "ended": True,
            "model": model.id,
            "metrics": metrics,
            "report": place,
            "dataset": dataset,
        },
    )


def _result(ended: Ended, store: Storage, console: Console) -> JobResult | None:
    """What the job wrote before it ended; None if it was stopped or killed, whatever an earlier attempt wrote."""
    try:
        result = read_result(store, ended.job["jobId"])
    except (StorageError, ArtifactError) as error:
        if ended.succeeded:
            raise
        # Batch and the log say why the job failed, too.
        console.say(f"train: {error}")
        return None
    code = ExitCode.DONE if ended.succeeded else ended.exit_code
    return result if result and result.exit_code == code else None


def _leave_or_terminate(batch: Batch, job: str, console: Console) -> None:
    leaves = f"job {job} keeps running; follow it: {hint(f'attach {job}')}"
    if not sys.stdin.isatty():
        console.say(leaves)
        return
    answer = click.prompt(
        "leave the job running, or terminate it?", type=click.Choice(["leave", "terminate"]), default="leave", err=True
    )
    if answer == "leave":
        console.say(leaves)
        return
    batch.terminate(job, "terminated by the person who followed it")
    console.say(f"job {job} is being terminated; submitted again, it resumes from its last checkpoint")


def _failure(ended: Ended, result: JobResult | None, store: Storage) -> DeliveryError:
    if result and result.exit_code is ExitCode.GATE_CLOSED:
        place = f"\nreport: {store.url}/{result.report}" if result.report else ""
        return GateClosedError(f"the gate is closed: {result.message}{place}")
    log = "".join(f"\n  {line}" for line in ended.lines) or "\n  (nothing)"
    why = ended.explain()
    if result:
        why = result.message if result.exit_code is ExitCode.FAILED else f"{why}: {result.message}"
    message = f"job {ended.job['jobId']} failed: {why}\nthe end of its log:{log}"
    if ended.exit_code == ExitCode.GATE_CLOSED:
        return GateClosedError(message)
    return BadRequestError(message) if ended.exit_code == ExitCode.BAD_REQUEST else DeliveryError(message)


def _fetch_report(key: str, directory: Path, store: Storage, console: Console) -> None:
    """Fetch the page and the metrics beside it."""
    for name in ("report.html", "metrics.json"):
        try:
            store.download(f"{key.rpartition('/')[0]}/{name}", directory / name)
        except StorageError as error:
            console.say(f"job: {error}")
            return
    console.say(f"job: report and metrics are in {directory}")
