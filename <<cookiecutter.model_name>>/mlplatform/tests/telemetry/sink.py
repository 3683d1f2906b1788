"""A DogStatsD sink and Datadog's test agent: what a process has really sent."""

import json
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mlplatform.tests.serving.running import free_port

KINDS = {"c": "count", "g": "gauge", "d": "distribution"}
T = TypeVar("T")


@dataclass(frozen=True)
class Line:
    """One line of DogStatsD: name, kind, values, rate, and tags by name."""

    name: str
    kind: str
    values: tuple[float, ...]
    rate: float
    tags: dict[str, str]

    @classmethod
    def parse(cls, text: str) -> "Line":
        """`name:1:2|d|@0.5|#tag:value`, https://docs.datadoghq.com/developers/dogstatsd/datagram_shell."""
        head, kind, *rest = text.split("|")
        name, *values = head.split(":")
        marked = {part[0]: part[1:] for part in rest}
        tags = dict(tag.split(":", 1) for tag in marked.get("#", "").split(",") if tag)
        return cls(name, KINDS[kind], tuple(map(float, values)), float(marked.get("@", 1)), tags)


@dataclass
class Sink:
    """An agent's socket: UDP at `port` (0: any), or a Unix one at `path`. Reads while it is `reading`."""

    path: Path | None = None
    port: int = 0
    packets: list[str] = field(default_factory=list)

    @contextmanager
    def open(self, reading: bool = True) -> Iterator["Sink"]:
        """Listen until left."""
        family = socket.AF_UNIX if self.path else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path) if self.path else ("127.0.0.1", self.port))
        self._socket.settimeout(0.1)
        self._reading = reading
        self._open = True
        thread = threading.Thread(target=self._read)
        thread.start()
        try:
            yield self
        finally:
            self._open = False
            thread.join()
            self._socket.close()
            if self.path:
                self.path.unlink()

    def read_on(self) -> None:
        """Begin to read."""
        self._reading = True

    @property
    def url(self) -> str:
        """For DD_DOGSTATSD_URL."""
        return f"unix://{self.path}" if self.path else f"udp://127.0.0.1:{self._socket.getsockname()[1]}"

    @property
    def lines(self) -> list[Line]:
        """What came, but for the client's own figures and events."""
        texts = [text for packet in list(self.packets) for text in packet.splitlines()]
        return [Line.parse(text) for text in texts if not text.startswith(("datadog.dogstatsd.", "_e{"))]

    def named(self, name: str) -> list[Line]:
        """The lines of a metric."""
        return [line for line in self.lines if line.name == name]

    def total(self, name: str, **tags: str) -> float:
        """Sum of a count over the lines with these tags."""
        return sum(sum(line.values) for line in self.named(name) if tags.items() <= line.tags.items())

    def _read(self) -> None:
        while self._open:
            if not self._reading:
                time.sleep(0.02)
                continue
            with suppress(TimeoutError):
                self.packets.append(self._socket.recv(1 << 16).decode())


@dataclass
class TraceAgent:
    """Datadog's test agent."""

    url: str

    def traces(self) -> list[list[dict[str, Any]]]:
        """The traces received, each a list of spans."""
        with urllib.request.urlopen(f"{self.url}/test/session/traces", timeout=10) as answer:
            traces: list[list[dict[str, Any]]] = json.load(answer)
        return traces

    def spans(self) -> list[dict[str, Any]]:
        """All spans received."""
        return [span for trace in self.traces() for span in trace]


@contextmanager
def trace_agent(directory: Path) -> Iterator[TraceAgent]:
    """The test agent as a process; ended on leaving."""
    port = free_port()
    program = str(Path(sys.executable).with_name("ddapm-test-agent"))
    with (directory / "trace-agent.log").open("wb") as log:
        process = subprocess.Popen([program, "--port", str(port)], stdout=log, stderr=log, cwd=directory)
        try:
            agent = TraceAgent(f"http://127.0.0.1:{port}")
            until(lambda: _answers(agent.url), 30)
            yield agent
        finally:
            process.terminate()
            process.wait(10)


def until(look: Callable[[], T], seconds: float = 60) -> T:
    """Wait for something true, and give it."""
    end = time.monotonic() + seconds
    while not (value := look()):
        if time.monotonic() > end:
            raise AssertionError(f"did not come within {seconds} s")
        time.sleep(0.05)
    return value


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/info", timeout=2):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
