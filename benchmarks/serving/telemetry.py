"""What metrics, traces and logs cost the server: the same server with more and more of it on, in turn.

    python telemetry.py --work WORK [--rounds 20] [--seconds 0.6]

WORK is that of `nox -s bench_serving`; its model `small` is made if it is not there. Run it with a Python that has the
packages of the template's requirements/serving.txt and ai-edge-litert. The servers share a core and are asked one after
another, round by round, from the other core; what they send is taken by this process, and counted.
"""

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from load import Load, compiled

HERE = Path(__file__).resolve().parent
TEMPLATE = HERE.parents[1] / "<<cookiecutter.model_name>>"
CALLER = "x-datadog-trace-id: 123\r\nx-datadog-parent-id: 456\r\nx-datadog-sampling-priority: 1\r\n"


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
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.6, help="of one measurement; short, so that turns are close")
    parser.add_argument("--runtimes", nargs="+", default=["tensorflow", "litert"])
    options = parser.parse_args()
    model = options.work.resolve() / "models" / "small"
    if not (model / "examples.json").is_file():
        model.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, HERE / "make_models.py", "small", model], check=True)
    # What receives runs beside the load, away from the servers.
    os.sched_setaffinity(0, {1})
    load, agent = compiled(options.work.resolve(), 1), Agent()
    variants: dict[str, dict[str, str]] = {
        "off": {},
        "metrics, JSON logs": agent.environment(traces=False),
        "and traces of 1 %": agent.environment(traces=True),
        "and every caller traces": agent.environment(traces=True),
    }
    for runtime in options.runtimes:
        with ExitStack() as stack:
            servers = {
                name: stack.enter_context(
                    running(model, runtime, variables, options.work.resolve() / f"telemetry-{n}.log")
                )
                for n, (name, variables) in enumerate(variants.items())
            }
            show(runtime, measure(servers, load, model, options), agent)


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
            ["taskset", "-c", "0", sys.executable, "-m", "serving", "--port", str(port)],
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
    servers: Mapping[str, tuple[int, int, float]], load: Load, model: Path, options: argparse.Namespace
) -> dict[str, dict[str, Any]]:
    """Round by round, each server in turn, the first one moving on by one."""
    rows = json.loads((model / "examples.json").read_text())["inputs"]
    found: dict[str, dict[str, Any]] = {name: {"busy": [], "alone": []} for name in servers}
    names = list(servers)
    for number in range(options.rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            port, pid, cold = servers[name]
            requests = _requests(options.work.resolve() / "telemetry-requests", rows, port, "every caller" in name)
            before = _cpu_seconds(pid)
            busy = load.closed(port, options.seconds, 64, Path("-"), requests)
            found[name]["busy"].append(busy | {"cpu": 1e6 * (_cpu_seconds(pid) - before) / busy["accepted"]["count"]})
            found[name]["alone"].append(load.closed(port, options.seconds / 2, 1, Path("-"), requests))
            found[name] |= {"cold": cold, "rss": _megabytes(pid)}
    return found


def show(runtime: str, found: Mapping[str, Mapping[str, Any]], agent: Agent) -> None:
    """A Markdown table: medians, lowest and highest of the rounds, and changes against `off`, round by round."""
    print(f"\n{runtime}\n")
    columns = ["telemetry", "requests/s, 64 connections", "p99 ms", "CPU us a request"]
    columns += ["requests/s, 1 connection", "p50 ms", "MB", "start s"]
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for name, each in found.items():
        rates = sorted(run["goodput"] for run in each["busy"])
        print(
            f"| {name} | {_median(each['busy'], 'goodput'):,.0f} [{rates[0]:,.0f}-{rates[-1]:,.0f}] "
            f"({_against(found, name, 'goodput'):+.1%}) | {_median(each['busy'], 'p99'):.1f} "
            f"| {_median(each['busy'], 'cpu'):.0f} ({_against(found, name, 'cpu'):+.1%}) "
            f"| {_median(each['alone'], 'goodput'):,.0f} | {_median(each['alone'], 'p50'):.2f} "
            f"| {each['rss']:.0f} | {each['cold']:.1f} |"
        )
    print(f"\nreceived: {agent.bytes:,} bytes of metrics, {agent.traces:,} of traces", flush=True)


def _median(runs: Sequence[Mapping[str, Any]], field: str) -> float:
    return statistics.median(_read(run, field) for run in runs)


def _against(found: Mapping[str, Mapping[str, Any]], name: str, field: str) -> float:
    """Median over the rounds of the change against `off` in the same round: what else the machine does hits both."""
    pairs = zip(found[name]["busy"], found["off"]["busy"], strict=True)
    return statistics.median(_read(one, field) / _read(other, field) for one, other in pairs) - 1


def _read(run: Mapping[str, Any], field: str) -> float:
    return float(run[field] if field in run else run["accepted"][field])


def _cpu_seconds(pid: int) -> float:
    """Processor time of a server and its workers so far."""
    fields = [Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split() for each in _processes(pid)]
    return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")


def _processes(pid: int) -> list[str]:
    return [str(pid), *Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _requests(directory: Path, rows: Sequence[Any], port: int, traced: bool) -> list[Path]:
    directory.mkdir(exist_ok=True)
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
    pages = sum(int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in _processes(pid))
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
