"""Where this service's models are stored, built, trained and run."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from mlplatform.config.settings import Section


class DeliverySettings(Section, section="delivery"):
    """Section [delivery] of service.toml."""

    former: ClassVar[Mapping[str, str | None]] = {"log_seconds": None}

    aws_region: str = Field(description="AWS region of the store, the registry and the job queue")
    storage_url: str = Field(min_length=1, description="root of the store of all releases; jobs in AWS need s3://")
    container_registry: str = Field(min_length=1, description="registry and path before the image's name")
    batch_job_queue: str = Field(min_length=1, description="AWS Batch queue that training jobs are submitted to")
    kubernetes_namespace: str = Field(min_length=1, description="namespace the service runs in")
    datadog_site: str = Field(min_length=1, description="Datadog site that metrics and traces go to")
    datadog_url: str = Field(default="", description="address of Datadog's API; empty: that of the site")
    training_device: str = Field(pattern="^(cpu|gpu)$", description="what training jobs run on")
    builder: str = Field(
        default="docker",
        pattern="^(docker|buildah)$",
        description="what builds images; buildah needs no daemon",
    )
    base_image: str = Field(
        default="", description="image that the Dockerfiles start from; empty: the one they name themselves"
    )
    job_definition: str = Field(
        default="deploy/aws/job-definition.json", min_length=1, description="file with the job definition for AWS Batch"
    )
    training_hours: float = Field(
        default=24, gt=0, description="time that one attempt of a training job may take before AWS Batch ends it"
    )
    poll_seconds: float = Field(default=5, gt=0, description="seconds between two polls")
    rollout_seconds: int = Field(
        default=600, ge=1, description="time in which a deployed version must be ready, or it is taken back"
    )
