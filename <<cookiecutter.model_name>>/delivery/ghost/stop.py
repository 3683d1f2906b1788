"""`ghost stop`: the ghost is taken out of the cluster; the live service and what was noted stay as they are."""

import click

from artifacts.settings import ServiceSettings, load
from delivery import programs
from delivery.console import Console
from delivery.options import console_option, dry_run_option
from delivery.settings import DeliverySettings

# The Deployment first: an autoscaler that is left alone does no harm, one that is gone leaves the pods.
KINDS = "deployment,horizontalpodautoscaler,poddisruptionbudget,service,networkpolicy,serviceaccount,configmap"


@click.group()
def ghost() -> None:
    """What is done with a ghost beside deploying, reporting and promoting it."""


@ghost.command()
@dry_run_option
@console_option
def stop(dry_run: bool, console: Console) -> None:
    """Remove the ghost from the cluster. The live service then tries one copy every 30 seconds, and nobody notices."""
    name, namespace = load(ServiceSettings).name, load(DeliverySettings).kubernetes_namespace
    removed = programs.output(
        "kubectl",
        "delete",
        KINDS,
        f"--namespace={namespace}",
        f"--selector=app.kubernetes.io/instance={name}-ghost",
        "--ignore-not-found",
        "--output=name",
        *(["--dry-run=client"] if dry_run else []),
    ).split()
    if not removed:
        console.result(f"no ghost of {name} runs in {namespace}", {"removed": []})
        return
    lines = [f"{'would remove' if dry_run else 'removed'} {each}" for each in removed]
    console.result("\n".join(lines), {"removed": removed, "dry_run": dry_run})
