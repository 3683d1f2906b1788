"""Settings of `[data]`: what is looked for in a new dataset version, and what of it stops the build."""

from typing import Annotated, Any

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from mlplatform.config.settings import Section

KINDS = (
    "missing class",
    "contradiction",
    "leak",
    "group across splits",
    "across splits",
    "repetition",
    "constant",
    "changed unit",
    "outlier",
    "null",
    "drift",
)
"""Of findings, the worst first."""


class DataSettings(Section, section="data"):
    """What is done with source data before anything learns from it. In the environment, commas separate kinds."""

    look_for: Annotated[tuple[str, ...], NoDecode] = Field(
        default=KINDS, description="kinds of findings that every build of a dataset version looks for"
    )
    refuse: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="kinds of findings that stop a build, and the training after it"
    )

    traffic_consent: bool = Field(
        default=False, description="those who send requests have agreed that models learn from them"
    )
    traffic_sample: float = Field(
        default=1.0, gt=0, le=1, description="share of the requests of which `data add traffic` makes records"
    )
    traffic_days: int = Field(
        default=0, ge=0, description="days after which what came from requests leaves the sources; 0: it stays"
    )

    @field_validator("look_for", "refuse", mode="before")
    @classmethod
    def _separated(cls, value: Any) -> Any:
        return tuple(kind.strip() for kind in value.split(",") if kind.strip()) if isinstance(value, str) else value

    @field_validator("look_for", "refuse")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [kind for kind in value if kind not in KINDS]:
            raise ValueError(f"{unknown[0]!r} is no kind of finding; there are: {', '.join(KINDS)}")
        return value
