"""Whether a ghost looks as fast as it is: the same model live and as its own ghost, with the events of both.

    nox -s bench_ghost_same -- store/models/VERSION

Both would take the same time; what differs is the work of comparing, and that copies come at other moments than the
requests did. Live on one core, every request copied, the ghost and the load generator on another. Figures are those
that the report on a ghost compares, as each side has noted them: times from the request's headers to its answer, and
CPU of the process by request, without what the ghost leaves out.
"""

import argparse
import json
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from compare import LIVE_CORE, NAME, OTHER_CORE, TEMPLATE, machine, quantile, server, wait, write_requests
from load import compiled

SETTLE_SECONDS = 2.0
FEWEST_SECONDS = 22
POINTS = (0.5, 0.9, 0.95, 0.99)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="directory of a published model, with manifest.json")
    parser.add_argument("--rates", type=float, nargs="+", default=[100, 500, 2000], help="requests per second")
    parser.add_argument("--seconds", type=float, default=25, help="of each rate")
    parser.add_argument("--runtime", default="litert")
    options = parser.parse_args()
    if options.seconds < FEWEST_SECONDS:
        parser.error(f"--seconds is {options.seconds:g}; expected {FEWEST_SECONDS} or more, as CPU is noted every ten")
    print(machine(), end="\n\n")
    points = " | ".join(f"p{100 * point:g}, ms" for point in POINTS)
    print(f"| requests/s | side | requests | {points} | CPU, us | left out, us |")
    print("|---|---|---|" + "---|" * len(POINTS) + "---|---|")
    for rate in options.rates:
        for side, (times, cpu, left_out) in measured(options, rate).items():
            values = " | ".join(f"{quantile(times, point):.2f}" for point in POINTS)
            print(f"| {rate:g} | {side} | {len(times)} | {values} | {cpu:.0f} | {left_out:.0f} |", flush=True)
    return 0


def measured(options: argparse.Namespace, rate: float) -> dict[str, tuple[list[float], float, float]]:
    """Of each side: times in ms, CPU of a request and what is left out of it in us."""
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        with ExitStack() as running:
            load = compiled(work, OTHER_CORE, alone=False)
            (work / "service.toml").write_text(f'[service]\nname = "{NAME}"\n[template]\nversion = "0"\n')
            settings = {"model": options.model.resolve(), "runtime": options.runtime, "drain_seconds": 0}
            ghost = running.enter_context(
                server(work, OTHER_CORE, {**settings, "events": work / "ghost", "role": "ghost"})
            )
            wait(ghost.port)
            copying = {"ghost_url": f"http://127.0.0.1:{ghost.port}", "ghost_sample_rate": 1}
            live = running.enter_context(server(work, LIVE_CORE, {**settings, "events": work / "live", **copying}))
            wait(live.port)
            requests = write_requests(work, options.model, "live", live.port)
            load.open(live.port, 1, rate, Path("-"), requests)
            time.sleep(SETTLE_SECONDS)
            begun = time.time()
            load.open(live.port, options.seconds, rate, Path("-"), requests)
            ended = time.time()
            time.sleep(SETTLE_SECONDS)
        # They have ended: files change no more.
        return {side: noted(work / side, begun, ended) for side in ("live", "ghost")}


def noted(spool: Path, begun: float, ended: float) -> tuple[list[float], float, float]:
    sys.path.insert(0, str(TEMPLATE))
    from mlplatform.contract.events import in_rows

    lines = [line for path in spool.glob("*.[oj][ps]*") for line in in_rows(path.read_bytes()).splitlines()]
    events = [json.loads(line) for line in lines]
    times = [event["ms"] for event in events if event["kind"] == "prediction" and event["at"] > begun]
    usage = [event for event in events if event["kind"] == "usage"]
    # Only of ten seconds that were all under load.
    usage = [event for event in usage if begun + 1 <= event["at"] - event["seconds"] and event["at"] <= ended]
    requests = sum(event["requests"] for event in usage)
    left_out = sum(event["left_out_cpu_seconds"] for event in usage)
    used = sum(event["cpu_seconds"] for event in usage) - left_out
    return times, 1e6 * used / requests, 1e6 * left_out / requests


if __name__ == "__main__":
    sys.exit(main())
