"""The training's parameters as options of a command: of `train` on this machine, and of `submit` for a job."""

from collections.abc import Mapping
from typing import Any

import click

from mlplatform.config.settings import Section, SettingsError, load, origin

METAVARS: Mapping[Any, str] = {int: "N", float: "X", str: "TEXT", bool: "true|false"}


def parameter_options(parameters: type[Section]) -> list[click.Parameter]:
    """An option for each field; its help shows the value in effect without it, and where that comes from."""
    try:
        effective: Mapping[str, Any] = load(parameters).model_dump()
    except SettingsError:
        # The command itself reports what is wrong.
        effective = {}
    options: list[click.Parameter] = []
    for name, field in parameters.model_fields.items():
        options.append(
            click.Option(
                [f"--{name.replace('_', '-')}", name],
                metavar=METAVARS.get(field.annotation, "VALUE"),
                help=f"{field.description or name}  [{_default(parameters, name, effective.get(name, field.default))}]",
            )
        )
    return options


def _default(parameters: type[Section], name: str, value: Any) -> str:
    """What an option's help says of the value that holds without it."""
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    source = origin(parameters, name)
    return f"default: {shown or 'empty'}" + (f", {source}" if source else "")
