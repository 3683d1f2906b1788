"""Memory that a serving container needs, derived from what loading its model took while the image was built.

`verify --memory-file FILE` writes the figure; docker/serving.Dockerfile keeps it in the image as FILE, and delivery
makes it the image's label LABEL, so that whoever deploys the image can compare it with the container's limit.
"""

from collections.abc import Mapping

FILE = "/measured/memory-bytes"
LABEL = "ml-service-template.memory-bytes"

# gunicorn's master, and what is written to /tmp and /dev/shm.
_CONTAINER_BYTES = 96 << 20
# HTTP, the requests that wait and their bodies, telemetry.
_WORKER_BYTES = 96 << 20
# Of what was measured: other rows than the samples, and a heap that is fragmented after days.
_HEADROOM = 1.2


def container_bytes(peak: int, workers: int = 1) -> int:
    """What a container needs, in bytes. peak: of a process that loads the model and computes its largest batch."""
    return int(_CONTAINER_BYTES + workers * (_WORKER_BYTES + _HEADROOM * peak))


def measured_bytes(labels: Mapping[str, str]) -> int | None:
    """The peak that an image's labels hold, in bytes; None for an image that was built without."""
    value = labels.get(LABEL, "")
    return int(value) if value.isascii() and value.isdigit() else None
