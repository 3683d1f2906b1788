"""Whether Datadog's agent can be reached. Without one, nothing is sent and no client is loaded."""

from collections.abc import Mapping
from pathlib import Path

# Where Datadog's CSI driver and admission controller mount the agent's sockets.
METRICS_SOCKET = Path("/var/run/datadog/dsd.socket")
TRACES_SOCKET = Path("/var/run/datadog/apm.socket")


def takes_metrics(environment: Mapping[str, str]) -> bool:
    """Whether DD_DOGSTATSD_URL or DD_AGENT_HOST names an agent, or its socket is mounted."""
    if environment.get("DD_DOGSTATSD_DISABLE", "").strip().lower() in ("true", "yes", "1"):
        return False
    return bool(environment.get("DD_DOGSTATSD_URL") or environment.get("DD_AGENT_HOST")) or METRICS_SOCKET.is_socket()


def takes_traces(environment: Mapping[str, str]) -> bool:
    """What DD_TRACE_ENABLED says; else whether DD_TRACE_AGENT_URL or DD_AGENT_HOST is set or a socket mounted."""
    chosen = environment.get("DD_TRACE_ENABLED", "").strip().lower()
    if chosen:
        return chosen in ("true", "1")
    return bool(environment.get("DD_TRACE_AGENT_URL") or environment.get("DD_AGENT_HOST")) or TRACES_SOCKET.is_socket()
