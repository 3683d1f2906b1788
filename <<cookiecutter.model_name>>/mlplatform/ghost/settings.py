"""What a ghost has to show before it is promoted, besides the gate's tables."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from mlplatform.config.settings import Section
from mlplatform.contract.criteria import Criteria, with_former


class GhostSettings(Section, section="ghost"):
    """Section [ghost] of service.toml. Shares are 0 to 1."""

    former: ClassVar[Mapping[str, str | None]] = {"minimum_accuracy": "reject_below_accuracy"}

    # What [ghost] calls by another name than the gate's tables.
    also_of_the_gate: ClassVar[tuple[str, ...]] = ("reject_below_accuracy", "maximum_regression")

    minimum_requests: int = Field(
        default=200, ge=1, description="requests answered by both; with fewer there is no verdict"
    )
    minimum_labels: int = Field(
        default=100, ge=1, description="rows with a known label; with fewer accuracy is not judged by them"
    )
    reject_below_accuracy: float | None = Field(
        default=None, ge=0, le=1, description="another name of minimum of [gate.accuracy], for the ghost alone"
    )
    maximum_regression: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="another name of maximum_regression of [gate.accuracy], for the ghost alone",
    )
    maximum_latency_ratio: float = Field(
        default=1.25, ge=1, description="p95 of the ghost's latency, divided by that of the live model"
    )
    tolerated_latency_ms: float = Field(
        default=5, ge=0, description="a p95 that is higher by no more than this is never too high"
    )
    maximum_error_rate: float = Field(
        default=0.001, ge=0, le=1, description="answers of 5xx, as a share beyond that of the live model"
    )
    minimum_coverage: float = Field(
        default=0.9, ge=0, le=1, description="mirrored requests of which the ghost's answer must be known"
    )
    sample_requests: int = Field(
        default=200_000, ge=1000, description="requests held in memory; of more, a sample by request id is judged"
    )
    report_days: float = Field(default=7, gt=0, description="age beyond which a report no longer lets promote")


def of_ghost(criteria: Criteria, settings: GhostSettings) -> Criteria:
    """The gate's criteria, with what stands in [ghost] under its old name, with a warning."""
    former = {
        "minimum": ("reject_below_accuracy", settings.reject_below_accuracy),
        "maximum_regression": ("maximum_regression", settings.maximum_regression),
    }
    return with_former(criteria, "ghost", former)
