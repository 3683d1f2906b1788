"""What an operator may set for the server: `[serving]` in service.toml, or SERVING_... in the environment."""

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from mlplatform.config.settings import Section
from mlplatform.contract.runtimes import Runtime

_ADDRESS = re.compile(r"http://[^/?#@\s]+/?")


class ServingSettings(Section, section="serving", closed=True):
    """Settings of the server. Durations are seconds unless the name says otherwise; 0 means "decide by yourself"."""

    model: str = Field(
        default="latest",
        min_length=1,
        description="latest, a version in the store, or the path of a directory that holds manifest.json",
    )
    host: str = Field(default="127.0.0.1", min_length=1, description="address to listen on; 0.0.0.0 in a container")
    port: int = Field(default=8080, ge=1, le=65535)
    runtime: Runtime = Field(default="tensorflow", description="what computes the model")

    frozen: str = Field(
        default="", description="directory of the model's frozen graph, made by verify --frozen; empty: it is made here"
    )
    hooks: str = Field(
        default="",
        pattern=r"^$|^\w+(\.\w+)*:\w+$",
        description="module:function that gets the Flask application and may register hooks; empty: none",
    )

    workers: int = Field(default=1, ge=1, le=64, description="processes; each holds its own copy of the model")
    threads: int = Field(default=0, ge=0, le=256, description="threads of one model call; 0: the CPU quota / workers")

    max_batch_rows: int = Field(default=0, ge=0, le=4096, description="rows in one model call; 0: measured at start")
    queue_ms: int = Field(
        default=0,
        ge=0,
        le=60_000,
        description="longest wait for the model before a 503, in ms; 0: 50, or longer where 16 rows take longer",
    )
    deadline_ms: int = Field(default=10_000, ge=1, le=600_000, description="longest time for one answer, in ms")

    max_body_bytes: int = Field(default=8 << 20, ge=1024, le=1 << 30, description="body of a request, decompressed")
    compress_bytes: int = Field(
        default=65_536, ge=0, le=1 << 30, description="smallest answer that is gzipped for who accepts it; 0: none is"
    )
    max_instances: int = Field(default=1024, ge=1, le=1_000_000, description="instances in one request")

    keepalive_seconds: float = Field(
        default=75, gt=0, le=3600, description="idle time of a connection; must exceed the load balancer's own"
    )
    keepalive_max_seconds: float = Field(
        default=60, gt=0, le=86_400, description="longest life of a connection; some end after half of it"
    )
    keepalive_max_requests: int = Field(
        default=100_000,
        ge=1,
        le=1_000_000_000,
        description="most requests of one; some end after half of them",
    )
    read_seconds: float = Field(
        default=10, gt=0, le=600, description="time a client has to send its request, the first also to begin with it"
    )
    write_seconds: float = Field(default=10, gt=0, le=600, description="time a client has to take its answer")
    max_connections: int = Field(
        default=1000, ge=1, le=100_000, description="open connections per worker; at more the longest idle is closed"
    )
    max_connections_per_address: int = Field(
        default=0, ge=0, le=100_000, description="of these from one client address; 0: as many as there may be"
    )

    drain_seconds: float = Field(
        default=10, ge=0, le=600, description="after SIGTERM: time of serving on while load balancers look away"
    )
    finish_seconds: float = Field(
        default=20, gt=0, le=600, description="after that: time for requests in flight before they are cut"
    )
    load_seconds: float = Field(default=600, gt=0, le=86_400, description="time for loading before liveness fails")
    stuck_seconds: float = Field(default=60, gt=0, le=3600, description="one model call; longer and liveness fails")

    role: Literal["live", "ghost"] = Field(default="live", description="ghost: predictions are noted, and not returned")
    ghost_url: str = Field(default="", description="where copies of requests go, http://HOST:PORT; empty: nowhere")
    ghost_sample_rate: float = Field(default=0, ge=0, le=1, description="share of requests copied to the ghost")
    ghost_sample_rate_file: str = Field(
        default="",
        description="a file that holds this share, if it is there; followed without a restart",
    )
    ghost_timeout_ms: int = Field(
        default=2000, ge=10, le=60_000, description="time of the ghost to take copies, and for each answer, in ms"
    )
    ghost_connections: int = Field(default=16, ge=1, le=256, description="copies that a ghost answers at once")
    ghost_queue: int = Field(
        default=10_000, ge=1, le=100_000, description="copies that wait on either side; the oldest are dropped"
    )
    ghost_queue_bytes: int = Field(default=16 << 20, ge=65_536, le=1 << 30, description="memory of those that wait")

    events: str = Field(
        default="",
        description="directory for notes of each request, which mlplatform.ghost.spool ships; empty: none are taken",
    )
    events_bytes: int = Field(default=64 << 20, ge=1 << 20, le=1 << 40, description="bound of that directory")
    events_bodies: bool = Field(default=False, description="keep what was asked, too; mind whose data it is")

    report_seconds: float = Field(
        default=10, gt=0, le=3600, description="time between reports of metrics, to Datadog's agent and to /metrics"
    )
    prometheus: bool = Field(default=False, description="answer GET /metrics, for Prometheus, in OpenMetrics' format")
    trace_rate: float = Field(default=0.01, ge=0, le=1, description="share of requests traced, whatever they are")
    trace_slow_ms: int = Field(default=1000, ge=1, le=600_000, description="a request that takes longer is traced, ms")
    traces_per_second: int = Field(default=10, ge=1, le=10_000, description="most requests traced in a second")
    log_rate: float = Field(default=0, ge=0, le=1, description="share of good requests that get a log line")

    @field_validator("ghost_url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        try:
            split = urlsplit(url)
            good = url.isprintable() and _ADDRESS.fullmatch(url) and split.hostname and split.port != 0
        except ValueError:
            good = None
        if url and not good:
            raise ValueError("expected http://HOST or http://HOST:PORT")
        return url
