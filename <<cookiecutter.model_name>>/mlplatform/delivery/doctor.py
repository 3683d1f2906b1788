"""`doctor`: check that this machine has what the commands need, and say what to do where it has not."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import requests

from mlplatform.config.hints import hint
from mlplatform.config.settings import ServiceSettings, SettingsError, StorageSettings, load
from mlplatform.delivery import aws, programs
from mlplatform.delivery.cluster import Cluster
from mlplatform.delivery.console import Console
from mlplatform.delivery.errors import DeliveryError
from mlplatform.delivery.images import build
from mlplatform.delivery.images.builders import builder
from mlplatform.delivery.images.registry import Registry
from mlplatform.delivery.jobs.batch import Batch
from mlplatform.delivery.options import console_option
from mlplatform.delivery.settings import DeliverySettings
from mlplatform.store.manifest import ArtifactError
from mlplatform.store.models import columns, list_models
from mlplatform.store.storage import StorageError, open_storage

JENKINS_SECONDS = 60


@dataclass(frozen=True)
class Check:
    """Something that is needed. find: says what is there, or raises. after: what it cannot be looked for without."""

    name: str
    find: Callable[[], str]
    after: str = ""


@dataclass(frozen=True)
class Finding:
    """The result of one check. group: what one wants to do. waits_for: the check that has to be good first."""

    group: str
    check: str
    good: bool
    said: str
    waits_for: str = ""


@click.command()
@click.option("--jenkins", metavar="URL", help="Instead: let this Jenkins check the Jenkinsfile.")
@console_option
def doctor(jenkins: str | None, console: Console) -> None:
    """Check programs, credentials, bucket, job queue, registry, cluster and keys, and say how to get what is missing.

    Exit code 1 if anything is missing. Nothing is changed. --jenkins asks the validator of a Jenkins, as the user in
    JENKINS_USER with the API token in JENKINS_TOKEN: whether it, with its plugins, accepts the Jenkinsfile.
    """
    if jenkins is not None:
        said = validated(jenkins, Path("Jenkinsfile"))
        console.result(said, {"jenkins": jenkins, "said": said})
        return
    findings = found(checks(load(DeliverySettings), load(ServiceSettings).name, console))
    console.result(_table(findings), [asdict(finding) for finding in findings])
    missing = [finding.check for finding in findings if not finding.good and not finding.waits_for]
    if missing:
        raise DeliveryError(f"missing: {', '.join(missing)}; the table says what to do")


def checks(settings: DeliverySettings, service: str, console: Console) -> dict[str, list[Check]]:
    """What is needed, by what one wants to do."""
    cluster = Cluster(settings.kubernetes_namespace, service)
    host, _ = build.repository("training", settings)
    in_aws = "AWS credentials"
    return {
        "train on this machine": [
            Check("store here", lambda: _store(load(StorageSettings).url, "train")),
        ],
        "train and keep models in AWS": [
            Check(in_aws, lambda: _caller(settings)),
            Check(
                "store",
                lambda: _store(settings.storage_url, "submit"),
                in_aws if settings.storage_url.startswith("s3:") else "",
            ),
            Check("job queue", lambda: _queue(settings, console), in_aws),
            Check("job definition", lambda: _file(settings.job_definition)),
        ],
        "build images": [
            Check(settings.builder, builder(settings).check),
            Check("git", lambda: f"commit {build.revision()[:10] or _no_commit()}"),
            Check("registry", lambda: _registry(host), in_aws if ".dkr.ecr." in host else ""),
        ],
        "release to a cluster": [
            Check("kubectl", lambda: _server(cluster)),
            Check("namespace", lambda: _namespace(cluster), "kubectl"),
            Check("rights in it", lambda: _rights(cluster), "namespace"),
        ],
        "watch in Datadog": [Check("Datadog key", _datadog)],
    }


def found(wanted: Mapping[str, Sequence[Check]]) -> list[Finding]:
    """The results, in order. What waits for something that is not good is not looked for."""
    findings: dict[str, Finding] = {}
    for group, group_checks in wanted.items():
        for check in group_checks:
            before = findings.get(check.after)
            if before and not before.good:
                first = before.waits_for or before.check
                findings[check.name] = Finding(group, check.name, False, f"not looked for without {first}", first)
            else:
                findings[check.name] = _finding(group, check)
    return list(findings.values())


def _table(findings: Sequence[Finding]) -> str:
    """The findings as text, below what each group is for."""
    states = {True: "ok", False: "MISSING"}
    rows = [("-" if finding.waits_for else states[finding.good], finding.check, finding.said) for finding in findings]
    lines, group = [], ""
    for finding, line in zip(findings, columns(rows).splitlines(), strict=True):
        if finding.group != group:
            group = finding.group
            lines.append(f"to {group}")
        lines.append(f"  {line}")
    return "\n".join(lines)


def validated(jenkins: str, jenkinsfile: Path) -> str:
    """What a Jenkins says of a Jenkinsfile that it accepts.

    Raises DeliveryError with its complaints, or if it does not answer.
    https://www.jenkins.io/doc/book/pipeline/development/#linter
    """
    user, token = os.environ.get("JENKINS_USER"), os.environ.get("JENKINS_TOKEN")
    try:
        answer = requests.post(
            f"{jenkins.rstrip('/')}/pipeline-model-converter/validate",
            data={"jenkinsfile": jenkinsfile.read_text(encoding="utf-8")},
            auth=(user, token) if user and token else None,
            timeout=JENKINS_SECONDS,
        )
    except OSError as error:
        # requests' exceptions are OSErrors as well.
        raise DeliveryError(f"{jenkins}: {jenkinsfile} was not checked: {error}") from None
    if answer.status_code in (401, 403):
        raise DeliveryError(
            f"{jenkins}: refuses with {answer.status_code}; set JENKINS_USER, and JENKINS_TOKEN to a token of that user"
        )
    if answer.status_code == 404:
        raise DeliveryError(
            f"{jenkins}: has no validator; is that its URL, and is the plugin Pipeline: Declarative there?"
        )
    said = answer.text.strip()
    if not answer.ok or "successfully validated" not in said:
        raise DeliveryError(f"{jenkins}: {said or answer.status_code}")
    return f"{jenkins}: {said}"


def _finding(group: str, check: Check) -> Finding:
    try:
        return Finding(group, check.name, True, check.find())
    except (DeliveryError, StorageError, ArtifactError, SettingsError) as error:
        return Finding(group, check.name, False, " ".join(str(error).split()))


def _no_commit() -> str:
    raise DeliveryError("no git repository here, so an image could not name its commit; git init, git commit")


def _caller(settings: DeliverySettings) -> str:
    with aws.told("AWS"):
        return str(aws.client("sts", settings.aws_region).get_caller_identity()["Arn"])


def _store(url: str, command: str) -> str:
    store = open_storage(url)
    models = len(list_models(store))
    return f"{store.url}, {models} models" if models else f"{store.url}, no model yet: {hint(command)}"


def _registry(host: str) -> str:
    Registry(host).check()
    return host


def _queue(settings: DeliverySettings, console: Console) -> str:
    Batch(settings, console).check_queue()
    return settings.batch_job_queue


def _file(path: str) -> str:
    if not Path(path).is_file():
        raise DeliveryError(f"{path}: no such file; run from the repository's root, or correct it in [delivery]")
    return path


def _server(cluster: Cluster) -> str:
    context = programs.output("kubectl", "config", "current-context").strip()
    programs.output("kubectl", "version", "--request-timeout=10s")
    return f"context {context}"


def _namespace(cluster: Cluster) -> str:
    if cluster.get("namespace", cluster.namespace) is None:
        raise DeliveryError(f"not in the cluster; kubectl create namespace {cluster.namespace}")
    return cluster.namespace


def _rights(cluster: Cluster) -> str:
    wanted = (("patch", "deployments"), ("list", "pods"), ("get", "pods/log"), ("create", "pods/portforward"))
    refused = []
    for verb, what in wanted:
        try:
            cluster.kubectl("auth", "can-i", verb, what)
        except programs.ProgramError:
            refused.append(f"{verb} {what}")
    if refused:
        raise DeliveryError(f"this user may not {', '.join(refused)}; ask whoever runs the cluster for these rights")
    return "deployments, pods, logs, port-forward"


def _datadog() -> str:
    missing = [name for name in ("DD_API_KEY", "DD_APP_KEY") if not os.environ.get(name)]
    if missing:
        raise DeliveryError(f"{' and '.join(missing)} not set; Datadog, Organization Settings, has them")
    return "DD_API_KEY and DD_APP_KEY are set"
