"""What a ghost costs the live service: latency with the mirror off and on, and with ghosts that do not work.

    nox -s bench_ghost -- store/models/VERSION --write

Live servers on one core, one for each way, each with its own sender of copies; the load generator of benchmarks/serving
and the ghosts on another. The ghosts there only run when the generator does not (SCHED_IDLE), so that they take no time
from the clock. Open: requests come at the times of a Poisson process, and latency counts from the time a request was
due. Closed: 16 connections ask as fast as they are answered, so that the server has no time to spare. The ways are
asked in turn in short rounds, the others frozen meanwhile (SIGSTOP), and each is held against off in the same round.
The interval is that of the median (order statistics, 95 %). CPU is that of the live service without its sender, from
the kernel (schedstat). A ghost elsewhere is one that answers at once: what is left when its model computes on another
machine, and not on the second thread of the live service's core. --write puts the table into README.md.
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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TEMPLATE = HERE.parents[1] / "<<cookiecutter.model_name>>"
sys.path.insert(0, str(HERE.parent / "serving"))

from cpu import cpu_seconds  # noqa: E402
from load import Load, compiled  # noqa: E402

NAME = "measured"
LIVE_CORE, OTHER_CORE = 0, 1
MARK = "## Figures"
WAYS = {
    "off": "no ghost, no events",
    "again": "the same once more: what chance alone makes",
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
WAKE_SECONDS = 0.1
SETTLE_SECONDS = 0.3
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
    """A server's port, and the group of its processes, the sender of copies among them."""

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
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument(
        "--loads", type=float, nargs="+", default=[0.4], help="shares of the capacity with it off; 1: closed"
    )
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    parser.add_argument("--runtime", default="litert")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as running:
        work = Path(temporary)
        load = compiled(work, OTHER_CORE)
        (work / "service.toml").write_text(f'[service]\nname = "{NAME}"\n[template]\nversion = "0"\n')
        settings = {"model": options.model.resolve(), "runtime": options.runtime, "drain_seconds": 0}

        def serve(way: str, core: int, **more: object) -> Live:
            spool = work / way
            return running.enter_context(server(work, core, {**settings, "events": spool, **more}))

        ghost = serve("ghost", OTHER_CORE, role="ghost").port
        frozen = running.enter_context(silent())
        elsewhere = running.enter_context(stand_in("elsewhere"))
        copying = {"ghost_url": f"http://127.0.0.1:{ghost}", "ghost_sample_rate": 1}
        servers = {
            # As without ghost mode: no notes are taken either.
            "off": serve("off", LIVE_CORE, events=""),
            "again": serve("again", LIVE_CORE, events=""),
            "sampled": serve("sampled", LIVE_CORE, **{**copying, "ghost_sample_rate": 0.1}),
            "all": serve("all", LIVE_CORE, **copying),
            "sampled elsewhere": serve(
                "sampled elsewhere", LIVE_CORE, **{**copying, "ghost_url": elsewhere, "ghost_sample_rate": 0.1}
            ),
            "all elsewhere": serve("all elsewhere", LIVE_CORE, **{**copying, "ghost_url": elsewhere}),
            "slow": serve("slow", LIVE_CORE, **{**copying, "ghost_url": running.enter_context(stand_in("slow"))}),
            "garbage": serve(
                "garbage", LIVE_CORE, **{**copying, "ghost_url": running.enter_context(stand_in("garbage"))}
            ),
            "frozen": serve("frozen", LIVE_CORE, **{**copying, "ghost_url": f"http://127.0.0.1:{frozen}"}),
            "gone": serve("gone", LIVE_CORE, **{**copying, "ghost_url": f"http://127.0.0.1:{free_port()}"}),
        }
        wait(ghost)
        requests = {way: write_requests(work, options.model, way, each.port) for way, each in servers.items()}
        found = measure(options, load, servers, requests)
        found["copies"] = {way: copies(work / way) for way in WAYS if way not in ("off", "again")}
    print(json.dumps(found, indent=1))
    found["machine"] = machine()
    print(table(found), file=sys.stderr)
    if options.write:
        readme = HERE / "README.md"
        readme.write_text(readme.read_text().partition(MARK)[0] + MARK + "\n\n" + table(found) + "\n")
    return 0


def measure(
    options: argparse.Namespace, load: Load, servers: Mapping[str, Live], requests: Mapping[str, list[Path]]
) -> dict[str, Any]:
    none = Path("-")
    for way, each in servers.items():
        with each.awake():
            load.closed(each.port, 1, 16, none, requests[way])
    with servers["off"].awake():
        capacity = load.closed(servers["off"].port, 2, 64, none, requests["off"])["goodput"]
    visits: list[dict[str, Any]] = []
    for number in range(options.rounds):
        for share in options.loads:
            # Another order every round: what follows what does not matter.
            first = number % len(WAYS)
            for way in [*WAYS][first:] + [*WAYS][:first]:
                port = servers[way].port
                with servers[way].awake():
                    before = cpu_seconds(servers[way].group)
                    if share >= 1:
                        result = load.closed(port, options.seconds, CLOSED_CONNECTIONS, none, requests[way])
                    else:
                        result = load.open(port, options.seconds, share * capacity, none, requests[way])
                    cpu = cpu_seconds(servers[way].group) - before
                visits.append({"round": number, "way": way, "load": share, "result": {**result, "cpu_seconds": cpu}})
    return {"capacity": capacity, "loads": options.loads, "visits": visits}


def table(found: Mapping[str, Any]) -> str:
    lines = [f"{found['machine']}. Capacity with it off: {found['capacity']:.0f} requests/s."]
    for share in found["loads"]:
        rounds: dict[int, dict[str, Any]] = {}
        for visit in found["visits"]:
            if visit["load"] == share:
                rounds.setdefault(visit["round"], {})[visit["way"]] = visit["result"]
        load = f"{CLOSED_CONNECTIONS} connections in a closed loop" if share >= 1 else f"{share:.0%} of the capacity"
        lines += ["", f"At {load}, {len(rounds)} rounds:", ""]
        lines += ["| | p50, ms | p99, ms | p99 by that of off (95 %) | within 5 %? | CPU of a request, us |"]
        lines += ["|---|---|---|---|---|---|"]
        for way, what in WAYS.items():
            p50, p99 = (
                statistics.median(latency(each[way], point) for each in rounds.values()) for point in ("p50", "p99")
            )
            ratios = sorted(latency(each[way], "p99") / latency(each["off"], "p99") for each in rounds.values())
            low, high = interval(ratios)
            verdict = "" if way == "off" else "yes" if high <= 1.05 else "no" if low > 1.05 else "not decided"
            ratio = "1" if way == "off" else f"{statistics.median(ratios):.2f} ({low:.2f} to {high:.2f})"
            cpu = statistics.median(cpu_us(each[way]) for each in rounds.values())
            lines.append(f"| {way}: {what} | {p50:.2f} | {p99:.2f} | {ratio} | {verdict} | {cpu:.0f} |")
    lines += ["", "What became of the copies, in all rounds:", "", "| | offered | sent | other |", "|---|---|---|---|"]
    for way, counted in found["copies"].items():
        other = ", ".join(f"{name} {n}" for name, n in counted.items() if n and name not in ("offered", "sent"))
        lines.append(f"| {way} | {counted['offered']} | {counted['sent']} | {other} |")
    return "\n".join(lines)


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


def latency(result: Mapping[str, Any], point: str) -> float:
    return float(result["accepted"][point])


def cpu_us(result: Mapping[str, Any]) -> float:
    """Of a request that was answered."""
    return 1e6 * float(result["cpu_seconds"]) / float(result["accepted"]["count"])


@contextmanager
def server(work: Path, core: int, settings: Mapping[str, object]) -> Iterator[Live]:
    """`python -m serving` on a core."""
    port = free_port()
    env = {name: value for name, value in os.environ.items() if not name.startswith(("SERVING_", "DD_"))}
    env |= {"SERVICE_TOML": str(work / "service.toml"), "PYTHONPATH": str(TEMPLATE), "PYTHONDONTWRITEBYTECODE": "1"}
    env |= {f"SERVING_{name.upper()}": str(value) for name, value in settings.items()}
    idle = ["chrt", "-i", "0"] if core == OTHER_CORE else []
    command = ["taskset", "-c", str(core), *idle, sys.executable, "-m", "serving", "--port", str(port)]
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


def write_requests(work: Path, model: Path, way: str, port: int) -> list[Path]:
    """Files with one request each: the samples of the model."""
    samples = json.loads((model / "manifest.json").read_text())["properties"]["samples"]
    paths = []
    for number, sample in enumerate(samples[:64]):
        body = json.dumps({"instances": [sample["instance"]]}).encode()
        head = f"POST /v1/models/{NAME}:predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        paths.append(work / f"{way}-{number}.http")
        paths[-1].write_bytes(head.encode() + body)
    return paths


def copies(spool: Path) -> dict[str, int]:
    sys.path.insert(0, str(TEMPLATE))
    from artifacts.counters import Counters

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
