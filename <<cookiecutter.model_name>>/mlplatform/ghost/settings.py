"""What a ghost has to show before it is promoted."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from mlplatform.config.settings import Section


class GhostSettings(Section, section="ghost"):
    """Section [ghost] of service.toml. Shares are 0 to 1."""

    # The [training] section has a minimum_accuracy, which is the gate's and means the test split.
    former: ClassVar[Mapping[str, str | None]] = {"minimum_accuracy": "reject_below_accuracy"}

    minimum_requests: int = Field(
        default=200, ge=1, description="requests answered by both; with fewer there is no verdict"
    )
    minimum_labels: int = Field(
        default=100, ge=1, description="rows with a known label; with fewer accuracy is not judged by them"
    )
    reject_below_accuracy: float = Field(
        default=0,
        ge=0,
        le=1,
        description="a ghost whose accuracy on labelled traffic is certainly below this is rejected",
    )
    maximum_regression: float = Field(
        default=0.01, ge=0, le=1, description="accuracy that may be lost against the live model"
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
