"""`metrics`: the page of all metrics, deploy/datadog/METRICS.md."""

import click

from mlplatform.telemetry.registry import COMMON_TAGS, table


@click.command()
def metrics() -> None:
    """Print the page of all metrics, as deploy/datadog/METRICS.md holds it."""
    click.echo("# Metrics\n")
    click.echo("Made by `python -m mlplatform metrics` from mlplatform/telemetry/registry.py.")
    click.echo(f"All carry {', '.join(COMMON_TAGS)}.\n")
    click.echo(table(), nl=False)
