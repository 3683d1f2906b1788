"""`train` and `attach`: the pipeline as a job of AWS Batch, followed until it ends."""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from mlplatform.config.settings import ServiceSettings, load
from mlplatform.delivery.console import Console
from mlplatform.delivery.errors import BadRequestError, DeliveryError, ExitCode, RefusedError
from mlplatform.delivery.images import build
from mlplatform.delivery.images.registry import Image, Registry
from mlplatform.delivery.jobs.batch import BAD_PARAMETERS, GATE_CLOSED, Batch, Ended, Submission
from mlplatform.delivery.jobs.parameters import given, read_parameters
from mlplatform.delivery.options import console_option, dry_run_option, store_option
from mlplatform.delivery.settings import DeliverySettings
from mlplatform.store import manifest
from mlplatform.store.storage import Storage, StorageError

# What the pipeline prints last.
_VERSION = re.compile(r"model version ([0-9a-f]{12}), accuracy")
_REPORT = re.compile(r"^\s+report\s+(\S+)")


class _Training(click.Command):
    """A command with an option for each parameter of the training, read when they are needed."""

    def get_params(self, context: click.Context) -> list[click.Parameter]:
        """Its own options, then the training's."""
        parameters = [
            click.Option(
                [f"--{each.name.replace('_', '-')}", each.name],
                metavar="VALUE",
                help=f"{each.description}  [default: {each.default!r}, or as in service.toml]",
            )
            for each in read_parameters()
        ]
        return [*super().get_params(context), *parameters]


report_option = click.option(
    "--report", type=click.Path(path_type=Path), help="Also fetch report.html and metrics.json into a directory."
)


@click.command(cls=_Training)
@click.option("--image", metavar="REF", help="Training image, by digest.  [default: the one of this code]")
@click.option("--detach", is_flag=True, help="Do not wait: print the job's id, for `attach`.")
@report_option
@store_option
@dry_run_option
@console_option
def train(
    image: str | None,
    detach: bool,
    report: Path | None,
    store: Storage,
    dry_run: bool,
    console: Console,
    **parameters: str | None,
) -> None:
    """Train as a job of AWS Batch, follow it, and print the model version, its metrics and its report's place.

    Each parameter of the training is an option, and a variable TRAINING_... of the environment; what is not given is as
    in service.toml. Ctrl-C asks whether the job is to go on. A job that loses its Spot instance is started again by
    Batch and goes on from its last checkpoint. Exit code 3: the gate is closed, the model is not published.
    """
    settings = load(DeliverySettings)
    chosen = given(read_parameters(), {name: value for name, value in parameters.items() if value is not None})
    if not store.url.startswith("s3://"):
        raise BadRequestError(
            f"delivery.storage_url = {store.url!r}: a job in AWS reaches no directory; must be s3://..."
        )
    found = _training_image(image, settings)
    batch = Batch(settings, console)
    batch.check_queue()
    environment = {f"TRAINING_{name.upper()}": value for name, value in chosen.items()}
    submission = Submission(load(ServiceSettings).name, found, {"STORAGE_URL": store.url, **environment})
    shown = " ".join(f"{name}={value}" for name, value in chosen.items()) or "as in service.toml"
    console.say(f"train: image {found}\ntrain: parameters {shown}")
    if dry_run:
        definition = batch.definition(found)
        text = f"would register {definition['jobDefinitionName']} and submit to {settings.batch_job_queue}"
        console.result(text, {"definition": definition, "environment": dict(submission.environment)})
        return
    job = batch.submit(submission)
    console.say(f"train: job {job} in {settings.batch_job_queue}")
    if detach:
        console.result(f"{job}\nfollow it: python -m mlplatform.delivery attach {job}", {"job": job})
        return
    _follow(batch, job, report, store, console)


@click.command()
@click.argument("job_id")
@report_option
@store_option
@console_option
def attach(job_id: str, report: Path | None, store: Storage, console: Console) -> None:
    """Follow a job that was submitted before, from its first line on, as `train` does."""
    _follow(Batch(load(DeliverySettings), console), job_id, report, store, console)


@dataclass(frozen=True)
class _Trained:
    """What a log says came out: model version if it was published, and the report's place."""

    version: str | None
    report: str | None


def _training_image(reference: str | None, settings: DeliverySettings) -> str:
    """The image by digest: that which is named, or that of this code. Raises BadRequestError or RefusedError."""
    if reference is not None:
        if Image.parse(reference) is None:
            raise BadRequestError(f"--image {reference!r}: must name its digest, registry/name@sha256:...")
        return reference
    made_of = build.training_recipe(settings)
    host, repository = build.repository("training", settings)
    found = build.look_up(Registry(host), repository, made_of.tag())
    if found is None:
        raise RefusedError(
            f"no image of this code in {host}/{repository} yet; "
            "build it first: python -m mlplatform.delivery image training"
        )
    return found.reference


def _follow(batch: Batch, job: str, report: Path | None, store: Storage, console: Console) -> None:
    try:
        ended = batch.follow(job, _is_complete)
    except KeyboardInterrupt:
        _leave_or_terminate(batch, job, console)
        raise click.exceptions.Exit(ExitCode.INTERRUPTED) from None
    trained = _trained(ended)
    if report and trained.report:
        _fetch_report(trained.report, report, store, console)
    if not ended.succeeded:
        raise _failure(ended, trained)
    if trained.version is None:
        raise DeliveryError(
            f"job {job} ended well, and its log names no model version; "
            f"if its last lines are still to come: python -m mlplatform.delivery attach {job}"
        )
    model = manifest.read(store, f"models/{trained.version}")
    metrics: Mapping[str, Any] = model.properties.get("metrics", {})
    place = f"{store.url}/models/{model.id}/{model.content}/{model.properties.get('report', 'report.html')}"
    figures = "".join(
        f"\n  {name:12}{metrics[name]:.4f}" for name in ("accuracy", "macro_f1", "log_loss") if name in metrics
    )
    dataset = model.properties.get("dataset")
    text = f"model version {model.id}{figures}\n  dataset     {dataset}\n  report      {place}"
    console.result(
        f"{text}\nnext: python -m mlplatform.delivery gate {model.id}",
        {
            "job": job,
            "model": model.id,
            "metrics": metrics,
            "report": place,
            "dataset": dataset,
        },
    )


def _leave_or_terminate(batch: Batch, job: str, console: Console) -> None:
    leaves = f"job {job} goes on; follow it: python -m mlplatform.delivery attach {job}"
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
    console.say(f"job {job} is being terminated; submitted again, it goes on from its last checkpoint")


def _trained(ended: Ended) -> _Trained:
    text = "\n".join(ended.lines)
    versions, reports = _VERSION.findall(text), [found[1] for line in ended.lines if (found := _REPORT.search(line))]
    return _Trained(versions[-1] if versions else None, reports[-1] if reports else None)


def _is_complete(ended: Ended) -> bool:
    """Whether what the pipeline says last is in the log: the report, which follows the version or the gate's reason."""
    says_a_report = ended.succeeded or ended.exit_code == GATE_CLOSED
    return not says_a_report or _trained(ended).report is not None


def _failure(ended: Ended, trained: _Trained) -> DeliveryError:
    place = f"\nreport: {trained.report}" if trained.report else ""
    if ended.exit_code == GATE_CLOSED:
        said = [line.removeprefix("training: ") for line in ended.lines if line.startswith("training: ")]
        reason = said[-1] if said else ended.explain()
        return RefusedError(f"the gate is closed: {reason}{place}")
    log = "".join(f"\n  {line}" for line in ended.lines) or "\n  (nothing)"
    message = f"job {ended.job['jobId']} failed: {ended.explain()}\nthe end of its log:{log}"
    return BadRequestError(message) if ended.exit_code == BAD_PARAMETERS else DeliveryError(message)


def _fetch_report(url: str, directory: Path, store: Storage, console: Console) -> None:
    """Fetch the page and the metrics beside it."""
    key = url.removeprefix(f"{store.url}/")
    for name in ("report.html", "metrics.json"):
        try:
            store.download(f"{key.rpartition('/')[0]}/{name}", directory / name)
        except StorageError as error:
            console.say(f"train: {error}")
            return
    console.say(f"train: report and metrics are in {directory}")
