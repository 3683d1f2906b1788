"""What metrics, traces and logs cost the server: the same server with more and more of it on, in turn.

    python telemetry.py --work WORK [--starts 3] [--rounds 40] [--seconds 0.25] [--keep]

WORK is that of `nox -s bench_serving`; its model `small` is made if it is not there. Run it with a Python that has the
packages of the template's requirements/serving.txt and ai-edge-litert. The servers share a core and are asked one after
another, round by round, from the other core; what they send is taken by this process, and counted. `--keep` puts the
tables into README.md.

The machine's speed changes within seconds, and a process keeps what luck it had with its place in memory. So turns are
short, all are started anew several times, and there are two servers without telemetry: their mean in a round is what
the others are compared with in that round, and how far they are apart is what the machine does by itself. The most
trustworthy figure is the processor time of a request: what others take from the machine counts in requests/s at once.
"""

import argparse
import json
import math
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cpu import cpu_seconds, processes
from load import Load, compiled

HERE = Path(__file__).resolve().parent
TEMPLATE = HERE.parents[1] / "<<cookiecutter.model_name>>"
README = HERE / "README.md"
BEGIN, END = "<!-- telemetry -->", "<!-- end of telemetry -->"
OFF, CONTROL = "off", "off, a second server"
ALONE_EVERY = 4
CALLER = "x-datadog-trace-id: 123\r\nx-datadog-parent-id: 456\r\nx-datadog-sampling-priority: 1\r\n"


@dataclass
class Turns:
    """What a kind of server did, turn by turn. alone: p50 of one connection in ms; cold: seconds until it was ready."""

    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    cold: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)


class Agent:
    """Takes metrics by UDP and traces by HTTP, and throws them away. bytes, traces: bytes of each so far."""

    def __init__(self) -> None:
        self.bytes = self.traces = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        agent = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                agent.traces += len(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            do_POST = do_GET = do_PUT  # noqa: N815

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        threading.Thread(target=self._read, daemon=True).start()

    def environment(self, traces: bool) -> dict[str, str]:
        """What makes a server send to it."""
        found = {"DD_DOGSTATSD_URL": f"udp://127.0.0.1:{self._socket.getsockname()[1]}", "DD_ENV": "bench"}
        return found | ({"DD_TRACE_AGENT_URL": f"http://127.0.0.1:{self._server.server_port}"} if traces else {})

    def _read(self) -> None:
        while True:
            self.bytes += len(self._socket.recv(1 << 16))


def main() -> None:
    """Measure, and print a table for each runtime."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--work", type=Path, default=HERE / ".work")
    parser.add_argument("--starts", type=int, default=3, help="how often the servers are started anew")
    parser.add_argument("--rounds", type=int, default=40, help="turns of each server after a start")
    parser.add_argument("--seconds", type=float, default=0.25, help="of a turn")
    parser.add_argument("--runtimes", nargs="+", default=["tensorflow", "litert"])
    parser.add_argument("--keep", action="store_true", help="put the tables into README.md")
    options = parser.parse_args()
    work = options.work.resolve()
    model = work / "models" / "small"
    if not (model / "examples.json").is_file():
        model.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, HERE / "make_models.py", "small", model], check=True)
    # What receives runs beside the load, away from the servers.
    os.sched_setaffinity(0, {1})
    load, agent = compiled(work, 1), Agent()
    variants: dict[str, dict[str, str]] = {
        OFF: {},
        "metrics, JSON logs": agent.environment(traces=False),
        "and traces of 1 %": agent.environment(traces=True),
        "and every caller traces": agent.environment(traces=True),
        CONTROL: {},
    }
    tables = [
        f"{options.starts} starts of each server, {options.rounds} turns of {options.seconds:g} s after each. Changes: "
        "median over the rounds, in brackets where it lies with 95 % certainty."
    ]
    for runtime in options.runtimes:
        found: dict[str, Turns] = {name: Turns() for name in variants}
        for number in range(options.starts):
            with ExitStack() as stack:
                # Not always in the same order: the first one has the cold files.
                names = _turned(list(variants), number)
                servers = {
                    name: stack.enter_context(running(model, runtime, variants[name], work / f"telemetry-{n}.log"))
                    for n, name in enumerate(names)
                }
                measure(servers, load, model, options, found)
        title = {"tensorflow": "TensorFlow", "litert": "LiteRT"}[runtime]
        tables.append(f"{title}:\n\n{table(found)}")
        print(f"\n{tables[-1]}", flush=True)
    tables.append(f"Received: {agent.bytes:,} bytes of metrics, {agent.traces:,} of traces.")
    print(f"\n{tables[-1]}")
    if options.keep:
        before, _, rest = README.read_text().partition(BEGIN)
        README.write_text(f"{before}{BEGIN}\n\n" + "\n\n".join(tables) + f"\n\n{END}{rest.partition(END)[2]}")


@contextmanager
def running(model: Path, runtime: str, variables: Mapping[str, str], log: Path) -> Iterator[tuple[int, int, float]]:
    """A server on core 0: its port, its process id, and the seconds until it was ready. Ended on leaving."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DD_", "SERVING_"))}
    environment |= {
        "PYTHONPATH": str(TEMPLATE),
        "SERVICE_TOML": str(model / "service.toml"),
        "SERVING_MODEL": str(model / "served" / "model"),
        "SERVING_RUNTIME": runtime,
        "SERVING_DRAIN_SECONDS": "0",
        # Otherwise measured at the start, when the others start as well: two servers would not be the same.
        "SERVING_MAX_BATCH_ROWS": "64",
        **variables,
    }
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["taskset", "-c", "0", sys.executable, "-m", "mlplatform", "serve", "--port", str(port)],
            env=environment, cwd=model, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
        try:
            while not _ready(port):
                if process.poll() is not None or time.monotonic() > started + 120:
                    raise RuntimeError(f"no server: {log.read_text()[-2000:]}")
                time.sleep(0.02)
            yield port, process.pid, time.monotonic() - started
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def measure(
    servers: Mapping[str, tuple[int, int, float]],
    load: Load,
    model: Path,
    options: argparse.Namespace,
    found: Mapping[str, Turns],
) -> None:
    """Round by round, each server in turn, the first one moving on by one. What is measured is added to `found`."""
    rows = json.loads((model / "examples.json").read_text())["inputs"]
    requests = {
        name: _requests(options.work.resolve() / "telemetry-requests" / str(port), rows, port, "every caller" in name)
        for name, (port, _, _) in servers.items()
    }
    # The first turns are the servers' warming up.
    for number in range(-2, options.rounds):
        for name in _turned(list(servers), number):
            port, pid, _ = servers[name]
            before = cpu_seconds(pid)
            busy = load.closed(port, options.seconds, 64, Path("-"), requests[name])
            cpu = 1e6 * (cpu_seconds(pid) - before) / busy["accepted"]["count"]
            if number < 0:
                continue
            turns = found[name]
            turns.rates.append(busy["goodput"])
            turns.cpu.append(cpu)
            turns.p99.append(busy["accepted"]["p99"])
            if number % ALONE_EVERY == 0:
                alone = load.closed(port, options.seconds, 1, Path("-"), requests[name])
                turns.alone.append(alone["accepted"]["p50"])
    for name, (_, pid, cold) in servers.items():
        found[name].cold.append(cold)
        found[name].megabytes.append(_megabytes(pid))


def table(found: Mapping[str, Turns]) -> str:
    """Markdown: medians, and changes against the servers without telemetry, round by round."""
    columns = ["telemetry", "CPU us a request", "requests/s, 64 connections", "p99 ms", "p50 ms, 1 connection"]
    columns += ["MB", "start s"]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for name, turns in found.items():
        cells = [
            name,
            f"{statistics.median(turns.cpu):.0f}{_change(found, name, lambda each: each.cpu)}",
            f"{statistics.median(turns.rates):,.0f}{_change(found, name, lambda each: each.rates)}",
            f"{statistics.median(turns.p99):.1f}",
            f"{statistics.median(turns.alone):.2f}",
            f"{statistics.median(turns.megabytes):.0f}",
            f"{statistics.median(turns.cold):.1f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _change(found: Mapping[str, Turns], name: str, of: Callable[[Turns], Sequence[float]]) -> str:
    """` (+1.0 % [+0.2, +1.7])`: the median of the ratios to both servers without telemetry in the same round."""
    if name == OFF:
        return ""
    # The two without telemetry are compared with each other.
    base = [
        one if name == CONTROL else (one + other) / 2
        for one, other in zip(of(found[OFF]), of(found[CONTROL]), strict=True)
    ]
    ratios = sorted(100 * (value / off - 1) for value, off in zip(of(found[name]), base, strict=True))
    # Of a median by its order statistics, with the normal distribution for the binomial one.
    half = 0.98 * math.sqrt(len(ratios))
    low = ratios[max(0, math.floor(len(ratios) / 2 - half))]
    high = ratios[min(len(ratios) - 1, math.ceil(len(ratios) / 2 + half))]
    return f" ({statistics.median(ratios):+.1f} % [{low:+.1f}, {high:+.1f}])"


def _turned(names: list[str], number: int) -> list[str]:
    """The names, another one first."""
    first = number % len(names)
    return names[first:] + names[:first]


def _requests(directory: Path, rows: Sequence[Any], port: int, traced: bool) -> list[Path]:
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, row in enumerate(rows):
        body = json.dumps({"instances": [row]}, separators=(",", ":"))
        path = directory / f"{number}.http"
        path.write_text(
            f"POST /v1/models/small:predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n{CALLER if traced else ''}\r\n{body}"
        )
        paths.append(path)
    return paths


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=5):
            return True
    except OSError:
        return False


def _megabytes(pid: int) -> float:
    pages = sum(int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in processes(pid))
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
