"""`datadog`: create, compare or remove the dashboard, monitors and SLO of deploy/datadog."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from mlplatform.delivery.console import Console
from mlplatform.delivery.options import console_option, dry_run_option
from mlplatform.telemetry.registry import METRICS

if TYPE_CHECKING:
    from mlplatform.delivery.datadog.resources import Change

# The module `resources` is imported late: Datadog's client takes a second to import, and other commands do not need it.


@click.group()
def datadog() -> None:
    """Dashboard, monitors and SLO of deploy/datadog. Needs DD_API_KEY and DD_APP_KEY in the environment."""


@datadog.command("apply")
@dry_run_option
@console_option
def apply_command(dry_run: bool, console: Console) -> None:
    """Create or update the resources of the files in Datadog; a second run changes nothing."""
    from mlplatform.delivery.datadog.resources import apply, connected, plan, read_resources

    resources = read_resources()
    with connected() as api:
        changes = plan(api, resources)
        if not dry_run:
            apply(api, changes, console)
            unknown = [metric.name for metric in METRICS.values() if not api.describe_metric(metric)]
            if unknown:
                console.say(f"unknown to Datadog yet, apply again once they have been sent: {', '.join(unknown)}")
    _show(changes, console)


@datadog.command("diff")
@console_option
def diff_command(console: Console) -> None:
    """Show where Datadog differs from the files."""
    from mlplatform.delivery.datadog.resources import connected, plan, read_resources

    resources = read_resources()
    with connected() as api:
        _show(plan(api, resources), console)


@datadog.command("delete")
@dry_run_option
@console_option
def delete_command(dry_run: bool, console: Console) -> None:
    """Remove from Datadog what `apply` made for this service."""
    from mlplatform.delivery.datadog.resources import Change, Resource, apply, connected, read_resources

    with connected() as api:
        existing = api.existing(read_resources())
        # The SLO last: Datadog keeps one that a monitor or a dashboard needs.
        order = sorted(existing, key=lambda key: key[0] == "slo")
        changes = [Change(Resource(*key, existing[key]), "delete", str(existing[key]["id"])) for key in order]
        if not dry_run:
            apply(api, changes, console)
    _show(changes, console)


def _show(changes: Sequence["Change"], console: Console) -> None:
    text = "\n".join(change.describe() for change in changes) or "nothing there"
    value = [
        {"kind": c.resource.kind, "name": c.resource.name, "action": c.action, "differences": list(c.differences)}
        for c in changes
    ]
    console.result(text, value)
