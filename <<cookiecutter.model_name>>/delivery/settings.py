"""Where this service's models are stored, built, trained and run."""

from pydantic import Field

from artifacts.settings import Section


class DeliverySettings(Section, section="delivery"):
    """Section [delivery] of service.toml."""

    aws_region: str = Field(description="AWS region of the store, the registry and the job queue")
    storage_url: str = Field(pattern=r"^s3://.+", description="root of the store that jobs in AWS use")
    container_registry: str = Field(min_length=1, description="registry and path before the image's name")
    batch_job_queue: str = Field(min_length=1, description="AWS Batch queue that training jobs are submitted to")
    kubernetes_namespace: str = Field(min_length=1, description="namespace the service runs in")
    datadog_site: str = Field(min_length=1, description="Datadog site that metrics and traces go to")
    training_device: str = Field(pattern="^(cpu|gpu)$", description="what training jobs run on")
