"""What a ghost costs the live service: latency with the mirror off and on, and with a ghost that is frozen or gone.

    nox -s bench_ghost -- store/models/VERSION --rounds 5 --seconds 4

Live servers on one core, one for each way, asked in turn; the load generator of benchmarks/serving and the ghost on
another. The ghost there only runs when the generator does not (SCHED_IDLE), so that it takes no time from the clock.
Requests come at the times of a Poisson process; latency counts from the time a request was due.
"""

import argparse
import json
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
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TEMPLATE = HERE.parents[1] / "<<cookiecutter.model_name>>"
sys.path.insert(0, str(HERE.parent / "serving"))

from load import Load, compiled  # noqa: E402

NAME = "measured"
LIVE_CORE, OTHER_CORE = 0, 1
WAYS = ("off", "sampled", "all", "frozen", "gone")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="directory of a published model, with manifest.json")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--loads", type=float, nargs="+", default=[0.2, 0.4], help="shares of the capacity with it off")
    parser.add_argument("--runtime", default="litert")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as running:
        work = Path(temporary)
        load = compiled(work, OTHER_CORE)
        (work / "service.toml").write_text(f'[service]\nname = "{NAME}"\n[template]\nversion = "0"\n')
        settings = {"model": options.model.resolve(), "runtime": options.runtime, "drain_seconds": 0}

        def serve(way: str, core: int, **more: object) -> int:
            spool = work / way
            return running.enter_context(server(work, core, {**settings, "events": spool, **more}))

        ghost = serve("ghost", OTHER_CORE, role="ghost")
        frozen = running.enter_context(silent())
        copying = {"ghost_url": f"http://127.0.0.1:{ghost}", "ghost_sample_rate": 1}
        ports = {
            # As without ghost mode: no notes are taken either.
            "off": serve("off", LIVE_CORE, events=""),
            "sampled": serve("sampled", LIVE_CORE, **{**copying, "ghost_sample_rate": 0.1}),
            "all": serve("all", LIVE_CORE, **copying),
            "frozen": serve("frozen", LIVE_CORE, **{**copying, "ghost_url": f"http://127.0.0.1:{frozen}"}),
            "gone": serve("gone", LIVE_CORE, **{**copying, "ghost_url": f"http://127.0.0.1:{free_port()}"}),
        }
        for port in (ghost, *ports.values()):
            wait(port)
        requests = {way: write_requests(work, options.model, way, port) for way, port in ports.items()}
        found = measure(options, load, ports, requests)
        found["copies"] = {way: copies(work / way) for way in WAYS if way != "off"}
    print(json.dumps(found, indent=1))
    print(table(found), file=sys.stderr)
    return 0


def measure(
    options: argparse.Namespace, load: Load, ports: Mapping[str, int], requests: Mapping[str, list[Path]]
) -> dict[str, Any]:
    none = Path("-")
    for way, port in ports.items():
        load.closed(port, 1, 16, none, requests[way])
    capacity = load.closed(ports["off"], options.seconds, 64, none, requests["off"])["goodput"]
    visits: list[dict[str, Any]] = []
    for number in range(options.rounds):
        for share in options.loads:
            # Another order every round: what follows what does not matter.
            for way in WAYS[number % len(WAYS) :] + WAYS[: number % len(WAYS)]:
                result = load.open(ports[way], options.seconds, share * capacity, none, requests[way])
                visits.append({"round": number, "way": way, "load": share, "result": result})
    return {"capacity": capacity, "loads": options.loads, "visits": visits}


def table(found: Mapping[str, Any]) -> str:
    lines = [f"capacity with it off: {found['capacity']:.0f} requests/s"]
    for share in found["loads"]:
        rounds: dict[int, dict[str, Any]] = {}
        for visit in found["visits"]:
            if visit["load"] == share:
                rounds.setdefault(visit["round"], {})[visit["way"]] = visit["result"]
        for way in WAYS:
            p50, p99 = ([latency(each[way], point) for each in rounds.values()] for point in ("p50", "p99"))
            ratios = [latency(each[way], "p99") / latency(each["off"], "p99") for each in rounds.values()]
            lines.append(
                f"load {share:.0%} {way:8} p50 {statistics.median(p50):.3f} ms, p99 {statistics.median(p99):.3f} ms, "
                f"p99 by that of off: {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
            )
    return "\n".join([*lines, json.dumps(found["copies"])])


def latency(result: Mapping[str, Any], point: str) -> float:
    return float(result["accepted"][point])


@contextmanager
def server(work: Path, core: int, settings: Mapping[str, object]) -> Iterator[int]:
    """Port of `python -m serving` on a core."""
    port = free_port()
    env = {name: value for name, value in os.environ.items() if not name.startswith(("SERVING_", "DD_"))}
    env |= {"SERVICE_TOML": str(work / "service.toml"), "PYTHONPATH": str(TEMPLATE), "PYTHONDONTWRITEBYTECODE": "1"}
    env |= {f"SERVING_{name.upper()}": str(value) for name, value in settings.items()}
    idle = ["chrt", "-i", "0"] if core == OTHER_CORE else []
    command = ["taskset", "-c", str(core), *idle, sys.executable, "-m", "serving", "--port", str(port)]
    with (work / f"{port}.log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
        try:
            yield port
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
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
    from artifacts.spool import Counters

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
