"""`ghost sample-rate` and `ghost stop`: adjust and end a trial; the live pods stay as they are."""

import json

import click

from mlplatform.config.settings import ServiceSettings, load
from mlplatform.delivery.cluster import Cluster
from mlplatform.delivery.console import Console
from mlplatform.delivery.datadog import events
from mlplatform.delivery.options import console_option, dry_run_option, store_option
from mlplatform.delivery.releases.history import DONE, STOP, Entry, now, person, record
from mlplatform.delivery.releases.release import Releaser
from mlplatform.delivery.settings import DeliverySettings
from mlplatform.store.storage import Storage

# The Deployment first: an autoscaler without pods does no harm; pods without an autoscaler stay.
KINDS = "deployment,horizontalpodautoscaler,poddisruptionbudget,service,networkpolicy,serviceaccount,configmap"


@click.group()
def ghost() -> None:
    """Adjust or stop a ghost."""


@ghost.command("sample-rate")
@click.argument("share", type=click.FloatRange(0, 1))
@dry_run_option
@console_option
def sample_rate(share: float, dry_run: bool, console: Console) -> None:
    """Copy this SHARE of the live requests to the ghost, 0 to 1. No pod is restarted; they follow in a minute or two.

    It holds until `ghost stop`; then it is again what the overlay production says.
    """
    value = {"sample_rate": share, "dry_run": dry_run}
    if dry_run:
        console.result(f"would copy {share:g} of the live requests to the ghost", value)
        return
    set_sample_rate(Cluster(load(DeliverySettings).kubernetes_namespace, load(ServiceSettings).name), share)
    console.result(f"copies of {share:g} of the live requests go to the ghost, in a minute or two", value)


def set_sample_rate(cluster: Cluster, share: float) -> None:
    """Write the share into the ConfigMap that the live pods of production have as a file. Raises DeliveryError."""
    ghost = cluster.name("ghost")
    wanted = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        # The label by which `ghost stop` finds it.
        "metadata": {"name": f"{ghost}-sample-rate", "labels": {"app.kubernetes.io/instance": ghost}},
        "data": {"sample-rate": f"{share:g}"},
    }
    cluster.kubectl("apply", "--filename=-", stdin=json.dumps(wanted))


@ghost.command()
@store_option
@dry_run_option
@console_option
def stop(store: Storage, dry_run: bool, console: Console) -> None:
    """Remove the ghost from the cluster, and record that in the history.

    The live service then only tries to send one copy every 30 seconds; its answers are unaffected.
    """
    releaser = Releaser(store, console)
    if not dry_run:
        releaser.settle()
    settings, name, cluster = releaser.settings, releaser.service, releaser.cluster
    ran = cluster.running("ghost")
    removed = cluster.kubectl(
        "delete",
        KINDS,
        f"--selector=app.kubernetes.io/instance={cluster.name('ghost')}",
        "--ignore-not-found",
        "--output=name",
        *(["--dry-run=client"] if dry_run else []),
        seconds=120,
    ).split()
    if not removed:
        console.result(f"no ghost of {name} runs in {settings.kubernetes_namespace}", {"removed": []})
        return
    if ran and not dry_run:
        model, _, commit = ran.version.partition("-")
        entry = Entry(now(), person(), "ghost", STOP, ran.image, model, commit, DONE)
        record(store, entry)
        events.tell(entry, name, settings, console)
    lines = [f"{'would remove' if dry_run else 'removed'} {resource}" for resource in removed]
    console.result("\n".join(lines), {"removed": removed, "dry_run": dry_run})
