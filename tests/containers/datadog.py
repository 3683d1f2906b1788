"""What the stand-in for Datadog's agent received; services/compose.yaml says what it is."""

from dataclasses import dataclass, field
from typing import Any
from urllib.request import Request, urlopen

from rendered import get


@dataclass(frozen=True)
class Datadog:
    """The agent: the ports of this machine that answer for traces and for metrics, and the network that it is on.

    forgotten: packets that were received before `forget`.
    """

    traces_port: int
    metrics_port: int
    network: str
    forgotten: list[str] = field(default_factory=list)

    @property
    def options(self) -> tuple[str, str]:
        """Options of `docker run` for a container that is to report to it."""
        return f"--network={self.network}", "--env=DD_AGENT_HOST=datadog"

    @property
    def answers(self) -> bool:
        """Whether both sides are there."""
        try:
            return get(f"{self._traces}/info")[0] == get(f"{self._metrics}/packets")[0] == 200
        except (OSError, ValueError):
            return False

    def traces(self) -> list[list[dict[str, Any]]]:
        """The spans of every trace, as the test agent has them."""
        found: list[list[dict[str, Any]]] = get(f"{self._traces}/test/traces")[1]
        return found

    def packets(self) -> list[str]:
        """DogStatsD packets, oldest first; one may hold several metrics, a line each."""
        found: list[str] = get(f"{self._metrics}/packets")[1]
        return found

    def forget(self) -> None:
        """Forget what was received, but for `forgotten`."""
        self.forgotten.extend(self.packets())
        urlopen(f"{self._traces}/test/session/clear").close()
        urlopen(Request(f"{self._metrics}/packets", method="DELETE")).close()

    @property
    def _traces(self) -> str:
        return f"http://127.0.0.1:{self.traces_port}"

    @property
    def _metrics(self) -> str:
        return f"http://127.0.0.1:{self.metrics_port}"
