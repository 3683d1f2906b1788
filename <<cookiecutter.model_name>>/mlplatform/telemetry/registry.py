"""Every metric that this service sends, by name. Nothing else is sent, and a name keeps its kind for ever.

Datadog adds the tags env, service and version to all of them, and `role` (live or ghost) tells the two deployments
of a service apart.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["count", "gauge", "distribution"]
COMMON_TAGS = ("env", "service", "version", "role")
TARGET = "target"


@dataclass(frozen=True)
class Metric:
    """One metric. unit: as Datadog calls it, empty for a bare number. tags: beyond COMMON_TAGS. of_target: whether it
    has the tag TARGET as well where a model has several targets.

    sender: the package that sends it. percentiles: whether Datadog is asked to keep p50 to p99 of a distribution, which
    it bills.
    """

    name: str
    kind: Kind
    unit: str
    tags: tuple[str, ...]
    meaning: str
    sender: str = "serving"
    percentiles: bool = False
    of_target: bool = False

    @property
    def all_tags(self) -> tuple[str, ...]:
        """Those that it may have, beyond COMMON_TAGS."""
        return (*self.tags, TARGET) if self.of_target else self.tags


REQUESTS = Metric(
    "ml.requests",
    "count",
    "request",
    ("protocol", "status", "outcome"),
    "Predict requests answered. outcome: ok; refused (4xx: the client's fault); shed (503 because of overload, nothing "
    "computed); failed (any other 5xx).",
)
REQUEST_SECONDS = Metric(
    "ml.request.seconds",
    "distribution",
    "second",
    ("outcome",),
    "From a request's headers to its answer, in the server; the network and the client's time are not in it.",
    percentiles=True,
)
REQUEST_PART_SECONDS = Metric(
    "ml.request.part.seconds",
    "distribution",
    "second",
    ("part",),
    "Parts of the time of requests that were computed. part: parse (body read, decoded, checked), queue (until the "
    "model began), model (its calls, others' rows included), answer (until the answer was made).",
    percentiles=True,
)
BATCH_ROWS = Metric("ml.batch.rows", "distribution", "", (), "Rows in one model call.", percentiles=True)
BATCH_REQUESTS = Metric("ml.batch.requests", "distribution", "request", (), "Requests that shared one model call.")
QUEUE_ROWS = Metric("ml.queue.rows", "gauge", "", (), "Most rows that waited for the model since the last report.")
MODEL_BUSY = Metric("ml.model.busy", "gauge", "fraction", (), "Share of the time in which a model call was running.")
MODEL_AGE = Metric("ml.model.age", "gauge", "second", ("model_version",), "Time since the served model was made.")
PREDICTIONS = Metric(
    "ml.predictions",
    "count",
    "",
    ("class",),
    "Rows by the class, or each tag, predicted for them; `other` are those beyond the hundred first labels.",
    of_target=True,
)
CONFIDENCE = Metric(
    "ml.confidence",
    "distribution",
    "fraction",
    (),
    "Probability of the predicted class.",
    percentiles=True,
    of_target=True,
)
PREDICTED_VALUES = Metric(
    "ml.prediction.values",
    "distribution",
    "",
    (),
    "What is predicted, of a model of numbers.",
    percentiles=True,
    of_target=True,
)
DRIFT = Metric(
    "ml.drift.psi",
    "gauge",
    "",
    ("signal",),
    "Population stability index of the last 500 to 1,000 rows looked at, against the baseline in the model's manifest; "
    "0 is equal, above 0.2 is commonly called a shift. signal: input.<name>, "
    "of lists of several lengths also length.<name>; "
    "classes and confidence, tags and probability, values, or similarity (to the mean vector).",
    of_target=True,
)
PROCESS_CPU = Metric("ml.process.cpu", "gauge", "core", (), "CPU time of the worker process per second.")
PROCESS_MEMORY = Metric("ml.process.memory", "gauge", "byte", (), "Resident memory of the worker process.")
DROPPED = Metric("ml.telemetry.dropped", "count", "packet", (), "Packets the agent did not take; sent once it does.")
GHOST_COPIES = Metric(
    "ml.ghost.copies",
    "count",
    "request",
    ("result",),
    "Requests copied to the ghost by the live service. result: sent (the ghost took it), refused (it answered with "
    "another status), failed (no answer), skipped (not tried: it had failed), dropped (the queue was full). role "
    "ghost: those it took and lost, as it is too slow (dropped: the queue was full, failed: not answered in time).",
    sender="ghost",
)
GHOST_COPY_SECONDS = Metric(
    "ml.ghost.copy.seconds",
    "distribution",
    "second",
    (),
    "From the sending of copies to the ghost's answer that it has them, in the live service.",
    sender="ghost",
    percentiles=True,
)
GHOST_COMPARISONS = Metric(
    "ml.ghost.comparisons",
    "count",
    "",
    ("agreement",),
    "Rows of which the ghost knows what the live service predicted. agreement: same or different.",
    sender="ghost",
)
EVENTS_DROPPED = Metric(
    "ml.events.dropped",
    "count",
    "",
    (),
    "Prediction events that were thrown away because their directory or queue was full.",
    sender="ghost",
)
TRAINING_PROGRESS = Metric(
    "ml.training.progress", "gauge", "fraction", (), "Share of the steps that are done.", sender="training"
)
TRAINING_METRIC = Metric(
    "ml.training.metric",
    "gauge",
    "",
    ("metric",),
    "A metric at the end of an epoch, by the name that training gives it.",
    sender="training",
)
TRAINING_SECONDS = Metric(
    "ml.training.seconds", "gauge", "second", ("outcome",), "How long a training command took.", sender="training"
)
TRAINING_RUNS = Metric(
    "ml.training.runs",
    "count",
    "",
    ("outcome",),
    "Training commands that ended. outcome: published, refused (the gate is closed), stopped or failed.",
    sender="training",
)

DATADOG_METRICS = (
    "kubernetes.containers.restarts",
    "kubernetes.containers.last_state.terminated",
    "kubernetes.cpu.cfs.periods",
    "kubernetes.cpu.cfs.throttled.periods",
    "kubernetes_state.deployment.replicas_available",
    "kubernetes_state.hpa.max_replicas",
)
"""Datadog's own metrics that deploy/datadog asks for, as it documents them.

https://docs.datadoghq.com/integrations/kubelet, https://docs.datadoghq.com/integrations/kubernetes_state_core
"""

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        REQUESTS,
        REQUEST_SECONDS,
        REQUEST_PART_SECONDS,
        BATCH_ROWS,
        BATCH_REQUESTS,
        QUEUE_ROWS,
        MODEL_BUSY,
        MODEL_AGE,
        PREDICTIONS,
        CONFIDENCE,
        PREDICTED_VALUES,
        DRIFT,
        PROCESS_CPU,
        PROCESS_MEMORY,
        DROPPED,
        GHOST_COPIES,
        GHOST_COPY_SECONDS,
        GHOST_COMPARISONS,
        EVENTS_DROPPED,
        TRAINING_PROGRESS,
        TRAINING_METRIC,
        TRAINING_SECONDS,
        TRAINING_RUNS,
    )
}


def table() -> str:
    """The registry as Markdown."""
    lines = ["| metric | kind | unit | tags | meaning |", "|---|---|---|---|---|"]
    for metric in METRICS.values():
        tags = ", ".join([*metric.tags, *([f"{TARGET} of several"] if metric.of_target else [])])
        lines.append(f"| `{metric.name}` | {metric.kind} | {metric.unit} | {tags} | {metric.meaning} |")
    return "\n".join(lines) + "\n"
