"""What a ghost costs the live service: latency with ghost mode off and on, and with ghosts that do not work.

    nox -s bench_ghost -- store/models/VERSION --write

Live servers on one core, one for each way; the load generator of benchmarks/serving and the ghosts on another. The
generator goes first (SCHED_FIFO, which takes a privilege), so that no ghost takes time from the clock. In each server
ghost mode is on in one of two phases of half a second and off in the other, under a load that goes on, over connections
that stay open: two processes of the same server differ by up to 20 % from start to end, one process does not from
itself. A phase is held against its neighbour; the interval is that of the median of these ratios (order statistics, 95
%). Open: requests come at the times of a Poisson process, the same ones in both phases, and latency counts from the
time a request was due. Closed: 16 connections ask as fast as they are answered, so that the server has no time to
spare. The ways are asked in turn, the others frozen meanwhile (SIGSTOP). CPU is that of the event loop. A ghost
elsewhere is one that answers at once: what is left when its model computes on another machine, and not on the second
thread of the live service's core. --write puts the table into README.md.
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
import tempfile
import threading
import time
import urllib.request
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phases import LEFT_OUT, is_on

HERE = Path(__file__).resolve().parent
TEMPLATE = HERE.parents[1] / "<<cookiecutter.model_name>>"
sys.path.insert(0, str(HERE.parent / "serving"))

from load import Load, compiled  # noqa: E402

NAME = "measured"
LIVE_CORE, OTHER_CORE = 0, 1
MARK = "## Figures"
WAYS = {
    "nothing": "neither events nor copies: what chance alone makes",
    "events": "events of every request, and no copies",
    "sampled": "a tenth of the requests copied, and events",
    "all": "every request copied, and events",
    "sampled elsewhere": "the same, and the ghost computes nothing here",
    "all elsewhere": "every request, and the ghost computes nothing here",
    "slow": "every request; the ghost answers after 100 ms",
    "garbage": "every request; the ghost answers what is no HTTP",
    "frozen": "every request; the ghost takes connections and says nothing",
    "gone": "every request; there is no ghost",
}
CLOSED_CONNECTIONS = 16
# Of fewer no interval holds the median with 95 %.
FEWEST_PAIRS = 6
WAKE_SECONDS = 0.1
SETTLE_SECONDS = 0.5
# Of a visit; its first part fills caches and opens connections.
WARM_SECONDS = 0.5
# Wherever a visit begins and ends among phases.
PHASES_FOR_A_PAIR = 6
STAND_IN = """
import asyncio, sys
async def handle(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            length = head.lower().partition(b"content-length:")[2].split(b"\\r")[0]
            await reader.readexactly(int(length))
            if sys.argv[1] != "garbage":
                await asyncio.sleep(0.1 if sys.argv[1] == "slow" else 0)
                writer.write(b"HTTP/1.1 202 Accepted\\r\\nContent-Length: 0\\r\\n\\r\\n")
            else:
                writer.write(b"\\x00\\xff" * 1000)
    except (asyncio.IncompleteReadError, OSError):
        writer.close()
async def main():
    await (await asyncio.start_server(handle, "127.0.0.1", int(sys.argv[2]))).serve_forever()
asyncio.run(main())
"""


@dataclass(frozen=True)
class Live:
    """A server's port, and the group of its processes."""

    port: int
    group: int

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Let it run, and stop it again once the copies that wait have had time to leave."""
        os.killpg(self.group, signal.SIGCONT)
        wait(self.port)
        time.sleep(WAKE_SECONDS)
        yield
        time.sleep(SETTLE_SECONDS)
        os.killpg(self.group, signal.SIGSTOP)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="directory of a published model, with manifest.json")
    parser.add_argument("--rounds", type=int, default=6, help="visits to each server, at each load")
    parser.add_argument("--seconds", type=float, default=10, help="of a visit")
    parser.add_argument(
        "--loads", type=float, nargs="+", default=[0.4], help="shares of the capacity, ghost mode being off; 1: closed"
    )
    parser.add_argument("--phase", type=float, default=0.5, help="seconds; a hundred requests or more should fit")
    parser.add_argument(
        "--examples", type=Path, help="of benchmarks/serving/make_models.py, sent as bytes of protocol V2"
    )
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=[*WAYS], help="those to be measured")
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    parser.add_argument("--runtime", default="litert")
    options = parser.parse_args()
    if not (options.model / "manifest.json").is_file():
        parser.error(f"model is {options.model}, which holds no manifest.json; expected store/models/VERSION")
    shortest = WARM_SECONDS + PHASES_FOR_A_PAIR * options.phase
    if options.seconds < shortest:
        parser.error(
            f"--seconds is {options.seconds:g}; expected {shortest:g} or more with a --phase of {options.phase:g}"
        )
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as running:
        work = Path(temporary)
        load = compiled(work, OTHER_CORE, alone=False)
        (work / "service.toml").write_text(f'[service]\nname = "{NAME}"\n[template]\nversion = "0"\n')
        settings = {"model": options.model.resolve(), "runtime": options.runtime, "drain_seconds": 0}
        # A server that waits for its turn, frozen, is not one that hangs.
        settings["stuck_seconds"] = 3600

        def serve(way: str, **more: object) -> Live:
            switched = [str(HERE / "switched.py"), str(work / f"{way}.cpu"), str(options.phase)]
            changed = {**settings, "events": work / way, **more}
            return running.enter_context(server(work, LIVE_CORE, changed, switched))

        ghost_settings = {**settings, "events": work / "ghost", "role": "ghost"}
        ghost = running.enter_context(server(work, OTHER_CORE, ghost_settings)).port
        frozen = running.enter_context(silent())
        elsewhere = running.enter_context(stand_in("elsewhere"))
        copying = {"ghost_url": f"http://127.0.0.1:{ghost}", "ghost_sample_rate": 1}
        ways: dict[str, dict[str, object]] = {
            "nothing": {"events": ""},
            "events": {},
            "sampled": {**copying, "ghost_sample_rate": 0.1},
            "all": copying,
            "sampled elsewhere": {**copying, "ghost_url": elsewhere, "ghost_sample_rate": 0.1},
            "all elsewhere": {**copying, "ghost_url": elsewhere},
            "slow": {**copying, "ghost_url": running.enter_context(stand_in("slow"))},
            "garbage": {**copying, "ghost_url": running.enter_context(stand_in("garbage"))},
            "frozen": {**copying, "ghost_url": f"http://127.0.0.1:{frozen}"},
            "gone": {**copying, "ghost_url": f"http://127.0.0.1:{free_port()}"},
        }
        servers = {way: serve(way, **ways[way]) for way in options.ways}
        wait(ghost)
        requests = {
            way: write_requests(work, options.model, way, each.port, options.examples) for way, each in servers.items()
        }
        found = measure(options, load, servers, requests, work)
        found["copies"] = {way: copies(work / way) for way in servers if "ghost_url" in ways[way]}
    found["machine"] = machine()
    print(table(found))
    if options.write:
        readme = HERE / "README.md"
        readme.write_text(readme.read_text().partition(MARK)[0] + MARK + "\n\n" + table(found) + "\n")
    return 0


@dataclass(frozen=True)
class Pair:
    """Two phases, one after the other: latencies in seconds, and processor time of a request."""

    off: Sequence[float]
    on: Sequence[float]
    off_cpu: float
    on_cpu: float


def measure(
    options: argparse.Namespace, load: Load, servers: Mapping[str, Live], requests: Mapping[str, list[Path]], work: Path
) -> dict[str, Any]:
    none, trace = Path("-"), work / "trace"
    for way, each in servers.items():
        with each.awake():
            load.closed(each.port, 1, 16, none, requests[way])
    way, first = next(iter(servers.items()))
    with first.awake():
        capacity = load.closed(first.port, 2, 64, none, requests[way])["goodput"]
    pairs: dict[float, dict[str, list[Pair]]] = {share: {way: [] for way in servers} for share in options.loads}
    os.environ |= {"LOAD_TRACE": str(trace), "LOAD_REPEAT": str(options.phase)}
    for number in range(options.rounds):
        for share in options.loads:
            print(f"round {number + 1} of {options.rounds}, load {share:g}", file=sys.stderr, flush=True)
            for way, each in servers.items():
                with each.awake():
                    begun = time.monotonic()
                    if share >= 1:
                        load.closed(each.port, options.seconds, CLOSED_CONNECTIONS, none, requests[way])
                    else:
                        load.open(each.port, options.seconds, share * capacity, none, requests[way])
                    ended = time.monotonic()
                answers = array("d", trace.read_bytes())
                cpu = cpu_of(work / f"{way}.cpu")
                pairs[share][way] += paired(answers, cpu, options.phase, begun + WARM_SECONDS, ended)
    return {"capacity": capacity, "pairs": pairs, "phase": options.phase}


def paired(answers: Sequence[float], cpu: Mapping[int, float], phase: float, begun: float, ended: float) -> list[Pair]:
    """answers: when each was due, and how long it took, in turn. cpu: seconds by number of a phase."""
    phases: dict[int, list[float]] = {}
    for due, took in zip(answers[::2], answers[1::2], strict=True):
        number = int(due / phase)
        if due >= (number + LEFT_OUT) * phase:
            phases.setdefault(number, []).append(took)
    first = int(begun / phase) + 1
    found = []
    for number in range(first + first % 2, int(ended / phase) - 1, 2):
        off, on = (number + 1, number) if is_on(number) else (number, number + 1)
        if {off, on} <= phases.keys() & cpu.keys():
            cost = {each: cpu[each] / len(phases[each]) for each in (off, on)}
            found.append(Pair(phases[off], phases[on], cost[off], cost[on]))
    return found


def cpu_of(file: Path) -> dict[int, float]:
    lines = [line.split() for line in file.read_text().splitlines()]
    return {int(number): float(seconds) for number, seconds in lines}


def table(found: Mapping[str, Any]) -> str:
    lines = [f"{found['machine']}. Capacity with ghost mode off: {found['capacity']:.0f} requests/s."]
    for share, ways in found["pairs"].items():
        load = f"{CLOSED_CONNECTIONS} connections in a closed loop" if share >= 1 else f"{share:.0%} of the capacity"
        count = min(len(pairs) for pairs in ways.values())
        lines += ["", f"At {load}, {count} pairs of phases of {found['phase']:g} s each; off and on:", ""]
        lines += ["| | p50, ms | p99, ms | p99 by that of off (95 %) | within 5 %? | CPU of a request, us |"]
        lines += ["|---|---|---|---|---|---|"]
        pairs: Sequence[Pair]
        for way, pairs in ways.items():
            off, on = [took for pair in pairs for took in pair.off], [took for pair in pairs for took in pair.on]
            ratio, low, high = median(quantile(pair.on, 0.99) / quantile(pair.off, 0.99) for pair in pairs)
            decided = len(pairs) >= FEWEST_PAIRS
            verdict = "yes" if decided and high <= 1.05 else "no" if decided and low > 1.05 else "not decided"
            cpu = 1e6 * statistics.median(pair.off_cpu for pair in pairs)
            more, least, most = median(1e6 * (pair.on_cpu - pair.off_cpu) for pair in pairs)
            cells = [
                f"{way}: {WAYS[way]}",
                *(f"{1e3 * quantile(off, point):.2f}, {1e3 * quantile(on, point):.2f}" for point in (0.5, 0.99)),
                f"{ratio:.2f} ({low:.2f} to {high:.2f})",
                verdict,
                f"{cpu:.0f}, {more:+.0f} ({least:.0f} to {most:.0f})",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "What became of the copies, in all rounds:", "", "| | offered | sent | other |", "|---|---|---|---|"]
    for way, counted in found["copies"].items():
        other = ", ".join(f"{name} {n}" for name, n in counted.items() if n and name not in ("offered", "sent"))
        lines.append(f"| {way} | {counted['offered']} | {counted['sent']} | {other} |")
    return "\n".join(lines)


def quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[math.ceil(share * len(values)) - 1]


def median(values: Iterable[float]) -> tuple[float, float, float]:
    """And its interval."""
    ordered = sorted(values)
    return (statistics.median(ordered), *interval(ordered))


def interval(ordered: Sequence[float]) -> tuple[float, float]:
    """Of the median, with at least 95 %: the order statistics below which it lies with a probability of 2.5 %.

    For fewer than six values, their range.
    """
    count, tail, place = len(ordered), 0.0, 0
    while (tail := tail + math.comb(count, place) / 2**count) <= 0.025:
        place += 1
    place = max(place - 1, 0)
    return ordered[place], ordered[count - 1 - place]


def machine() -> str:
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")), "unknown CPU")
    return f"{model}, {os.cpu_count()} CPUs, Linux {os.uname().release.split('-')[0]}, Python {sys.version.split()[0]}"


@contextmanager
def server(
    work: Path, core: int, settings: Mapping[str, object], program: Sequence[str] = ("-m", "mlplatform", "serve")
) -> Iterator[Live]:
    """A server on a core."""
    port = free_port()
    env = {name: value for name, value in os.environ.items() if not name.startswith(("SERVING_", "DD_"))}
    env |= {"SERVICE_TOML": str(work / "service.toml"), "PYTHONPATH": str(TEMPLATE), "PYTHONDONTWRITEBYTECODE": "1"}
    env |= {f"SERVING_{name.upper()}": str(value) for name, value in settings.items()}
    idle = ["chrt", "-i", "0"] if core == OTHER_CORE else []
    command = ["taskset", "-c", str(core), *idle, sys.executable, *program, "--port", str(port)]
    with (work / f"{port}.log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
        try:
            yield Live(port, process.pid)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def stand_in(kind: str) -> Iterator[str]:
    """URL of what answers as a ghost would not."""
    port = free_port()
    command = ["taskset", "-c", str(OTHER_CORE), "chrt", "-i", "0", sys.executable, "-c", STAND_IN, kind, str(port)]
    process = subprocess.Popen(command)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@contextmanager
def silent() -> Iterator[int]:
    """Port of what takes connections and never answers: a frozen ghost."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = []

        def accept() -> None:
            with suppress(OSError):
                while True:
                    taken.append(listener.accept())

        threading.Thread(target=accept, daemon=True).start()
        yield int(listener.getsockname()[1])


def write_requests(work: Path, model: Path, way: str, port: int, examples: Path | None = None) -> list[Path]:
    """Files with one request each: the samples of the model, or examples of images of bytes."""
    posts = []
    if examples is None:
        for sample in json.loads((model / "manifest.json").read_text())["properties"]["samples"][:64]:
            body = json.dumps({"instances": [sample["instance"]]}).encode()
            posts.append((f"/v1/models/{NAME}:predict", "Content-Type: application/json\r\n", body))
    else:
        for row in json.loads(examples.read_text())["inputs"]:
            raw = bytes(value for line in row for pixel in line for value in pixel)
            shape = [1, len(row), len(row[0]), len(row[0][0])]
            tensor = {
                "name": "image",
                "shape": shape,
                "datatype": "UINT8",
                "parameters": {"binary_data_size": len(raw)},
            }
            text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
            fields = f"Content-Type: application/octet-stream\r\nInference-Header-Content-Length: {len(text)}\r\n"
            posts.append((f"/v2/models/{NAME}/infer", fields, text + raw))
    paths = []
    for number, (path, fields, body) in enumerate(posts):
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{fields}Content-Length: {len(body)}\r\n\r\n"
        paths.append(work / f"{way}-{number}.http")
        paths[-1].write_bytes(head.encode() + body)
    return paths


def copies(spool: Path) -> dict[str, int]:
    sys.path.insert(0, str(TEMPLATE))
    from mlplatform.ghost.counters import Counters

    (state,) = spool.glob("*.state")
    return dict(Counters(bytearray(state.read_bytes())).event(0, False)["mirror"])


def wait(port: int) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=5).close()
            return
        time.sleep(0.2)
    raise TimeoutError(f"the server on port {port} is not ready")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
