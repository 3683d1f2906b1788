"""Settings: service.toml read once, overridden by environment variables, into typed objects.

Each package declares the section it needs as a subclass of `Section` and calls `load` where a command begins. For a
field `port` of the section `serving` the order is: argument of `load`, environment variable SERVING_PORT, `port` in
`[serving]`, default.
"""

import logging
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

log = logging.getLogger(__name__)


class SettingsError(ValueError):
    """One or more settings are wrong; the message has a line for each: field, value, where it was set, allowed form."""


class Section(BaseSettings):
    """One section of service.toml.

    Subclasses name it: `class ServingSettings(Section, section="serving")`. With `closed=True` an environment variable
    with the section's prefix that names no field is an error instead of being left alone.

    former: names that settings had in earlier releases, with the field that now takes such a value, or None if nothing
    needs it any more. Either logs a warning that says what to change.
    """

    model_config = SettingsConfigDict(extra="forbid", frozen=True, env_ignore_empty=True)
    section: ClassVar[str]
    closed: ClassVar[bool] = False
    former: ClassVar[Mapping[str, str | None]] = {}

    def __init_subclass__(cls, section: str | None = None, closed: bool = False, **kwargs: Any) -> None:
        if section is not None:
            cls.section = section
            cls.closed = closed
            cls.model_config = SettingsConfigDict(**{**cls.model_config, "env_prefix": f"{section}_"})
        super().__init_subclass__(**kwargs)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments before environment before service.toml; no .env file and no secrets directory."""
        file, former = _renamed(cls, read_section(cls.section))
        return (
            init_settings,
            env_settings,
            InitSettingsSource(settings_cls, former),
            InitSettingsSource(settings_cls, file),
        )


class ServiceSettings(Section, section="service"):
    """Identity of this service."""

    name: str = Field(
        pattern=r"^[a-z]([a-z0-9-]*[a-z0-9])?$", max_length=40, description="name of the model and of its service"
    )
    description: str = Field(default="", description="what the model does, one line")
    team: str = Field(default="", description="the team that owns it")


class TemplateSettings(Section, section="template"):
    """The template that this repository was rendered from."""

    version: str = Field(default="", description="version of the template, as its changelog has it")
    example: str = Field(default="digits", description="the example of the template that model/ started from")


class StorageSettings(Section, section="storage"):
    """Where datasets, runs and models are kept."""

    url: str = Field(
        default="store",
        min_length=1,
        description="root of the store: a directory, file:///directory or s3://bucket/prefix",
    )


S = TypeVar("S", bound=Section)


def load(settings: type[S], arguments: Mapping[str, Any] | None = None) -> S:
    """Read one section.

    `arguments` (field name to value, text or typed) override the environment and service.toml.
    Raises SettingsError with a line for every wrong or unknown setting.
    """
    given = dict(arguments or {})
    faults = _unknown_variables(settings) if settings.closed else []
    try:
        loaded = settings(**given)
    except ValidationError as error:
        faults += [_describe(settings, given, fault) for fault in error.errors()]
    if faults:
        raise SettingsError("\n".join(faults))
    return loaded


def origin(settings: type[Section], field: str) -> str:
    """Where the value of a field comes from without arguments, `from service.toml`; empty if it is the default."""
    if os.environ.get(_variable(settings, field)):
        return f"from {_variable(settings, field)}"
    try:
        in_file = field in read_section(settings.section)
    except SettingsError:
        in_file = False
    return f"from {settings_file()}" if in_file else ""


def settings_file() -> Path:
    """Path of service.toml: $SERVICE_TOML, or in the working directory."""
    return Path(os.environ.get("SERVICE_TOML", "service.toml"))


def read_section(section: str) -> dict[str, Any]:
    """A section of service.toml as it stands there; empty if there is none. Raises SettingsError."""
    path = settings_file()
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(
            f"{path}: no such file; run from the repository's root or set SERVICE_TOML to its path"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from None
    values = content.get(section, {})
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: {section} = {values!r} must be a section, [{section}]")
    return values


def _renamed(settings: type[Section], file: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Values of service.toml, and those of the environment that come by a former name, both by the names of today."""
    file, environment = dict(file), {}
    for old, new in settings.former.items():
        instead = f"it is called {new} now; rename it there" if new else "nothing reads it any more; remove it"
        if old in file:
            log.warning("%s: [%s] %s: %s", settings_file(), settings.section, old, instead)
            value = file.pop(old)
            if new:
                file.setdefault(new, value)
        variable = _variable(settings, old)
        if os.environ.get(variable):
            now = f"it is called {_variable(settings, new)} now; rename it there" if new else instead
            log.warning("environment variable %s: %s", variable, now)
            if new:
                environment[new] = os.environ[variable]
    return file, environment


def _variable(settings: type[Section], field: str) -> str:
    return f"{settings.section}_{field}".upper()


def _names(settings: type[Section]) -> str:
    return ", ".join(settings.model_fields)


def _unknown_variables(settings: type[Section]) -> list[str]:
    known = {_variable(settings, field) for field in (*settings.model_fields, *settings.former)}
    prefix = f"{settings.section}_".upper()
    return [
        f"environment variable {name}: no such setting; [{settings.section}] has: {_names(settings)}"
        for name in sorted(os.environ)
        if name.startswith(prefix) and name not in known
    ]


def _describe(settings: type[Section], given: Mapping[str, Any], fault: ErrorDetails) -> str:
    field = str(fault["loc"][0]) if fault["loc"] else ""
    variable = _variable(settings, field)
    if field in given:
        source = "argument"
    elif variable in {name.upper() for name in os.environ}:
        source = f"environment variable {variable}"
    else:
        source = str(settings_file())
    if fault["type"] == "extra_forbidden":
        return f"{settings.section}.{field} ({source}): no such setting; [{settings.section}] has: {_names(settings)}"
    if fault["type"] == "missing":
        return f"{settings.section}.{field}: missing; set it in {settings_file()} [{settings.section}] or as {variable}"
    place = ".".join([settings.section, *(str(part) for part in fault["loc"])])
    reason = fault["msg"].removeprefix("Value error, ")
    return f"{place} = {fault['input']!r} ({source}): {reason[0].lower()}{reason[1:]}"
