"""Our server against what a user would pick instead, on one core: `nox -s bench_serving`.

Makes the models and an environment for each server, then visits the servers in turn, round after round, so that what
else the machine does falls on all of them alike. Each visit starts the server, waits for its first right answer, checks
it with different inputs at once, and measures: closed loop at 1, 16 and 64 connections, open loop at half, one and
three times the best of these rates. The server has one core, the load generator another.

A visit that is done is kept: the same command again goes on where this one ended (`--minutes 8` ends it in time,
`--fresh` starts anew). When all are done the figures go to results.json and chart.svg in the work directory, and with
`--keep` to this one and into the tables of README.md.
"""

import argparse
import json
import math
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import report
from environments import HERE, TEMPLATE, environment
from load import Load, compiled
from running import Examples, Running, WrongError, check, machine_cpu_seconds, running, slowness
from servers import BY_NAME, SERVERS, Place

CONNECTIONS = (1, 16, 64)
OVERLOADS = (0.5, 1, 3)
DISTURBED = 0.1
CALLS = ("call-tensorflow", "call-litert")


@dataclass(frozen=True)
class Plan:
    """What the command line asks for."""

    servers: list[str]
    models: list[str]
    rounds: int
    seconds: float
    attempts: int
    minutes: float
    work: Path
    keep: bool
    retry: bool
    server_core: int
    load_core: int

    def visits(self) -> Iterator[tuple[int, str, str]]:
        """Round, model and server of each visit, in order."""
        for number in range(self.rounds):
            for model in self.models:
                for name in self.servers:
                    if name in CALLS or model in BY_NAME[name].kinds:
                        yield number, model, name


class Calm:
    """Measures again, up to so many attempts, while others want the machine or its host is slow; the calmest counts.

    Added to a result: `others`, cores in use by processes that are neither server nor client; `slowness`, of the
    server's core just before, against the fastest that it has been seen; `server_cpu`, cores that the server used.
    """

    def __init__(self, core: int, attempts: int) -> None:
        self._core = core
        self._attempts = attempts
        self._fastest = math.inf

    def measured(self, found: Running, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        best: dict[str, Any] = {}
        for _ in range(self._attempts):
            milliseconds = slowness(self._core)
            self._fastest = min(self._fastest, milliseconds)
            result = self._once(found, run) | {"slowness": round(milliseconds / self._fastest, 2)}
            if not best or _unrest(result) < _unrest(best):
                best = result
            if _unrest(best) < DISTURBED:
                break
        return best

    def _once(self, found: Running, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        machine, server, started = machine_cpu_seconds(), found.cpu_seconds(), time.monotonic()
        result = run()
        elapsed = time.monotonic() - started
        server = found.cpu_seconds() - server
        others = machine_cpu_seconds() - machine - server - result.pop("cpu_seconds")
        return result | {"server_cpu": round(server / elapsed, 3), "others": round(max(0.0, others / elapsed), 3)}


def _unrest(result: Mapping[str, Any]) -> float:
    return float(max(result["others"], 0.5 * (result["slowness"] - 1)))


def main() -> int:
    """Returns 0 when all is measured, 3 if the time was up before, 1 if a server could not be measured."""
    plan = read_plan()
    plan.work.mkdir(parents=True, exist_ok=True)
    visits = plan.work / "visits.jsonl"
    done = [json.loads(line) for line in visits.read_text().splitlines()] if visits.is_file() else []
    if plan.retry:
        done = [found for found in done if "error" not in found]
    known = {(visit["round"], visit["model"], visit["server"]) for visit in done}
    wanted = [visit for visit in plan.visits() if visit not in known]
    for model in plan.models:
        make_model(model, plan.work)
    load = compiled(plan.work, plan.load_core)
    calm = Calm(plan.server_core, plan.attempts)
    start, longest = time.monotonic(), 0.0
    for position, (number, model, name) in enumerate(wanted):
        began = time.monotonic()
        if began - start + longest > 60 * plan.minutes:
            print(f"time is up; {len(wanted) - position} visits are left for the same command")
            return 3
        print(f"round {number + 1}/{plan.rounds} {model:6} {name:16} ", end="", flush=True)
        found = visit(plan, load, calm, model, name)
        found |= {"round": number, "model": model, "server": name, "commit": commit(), "seconds": plan.seconds}
        print(summary(found), flush=True)
        done.append(found)
        visits.write_text("".join(json.dumps(each) + "\n" for each in done))
        longest = max(longest, time.monotonic() - began)
    content = {"machine": machine(), "versions": versions(plan.work), "visits": done}
    report.write(content, plan.work)
    if plan.keep:
        report.keep(content)
    print(f"\n{report.text(content)}\nall figures: {plan.work / 'results.json'}; chart: {plan.work / 'chart.svg'}")
    return 1 if any("error" in found for found in done) else 0


def read_plan() -> Plan:
    names = [*(server.name for server in SERVERS), *CALLS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", default=",".join(names), help=f"of {', '.join(names)}")
    parser.add_argument("--models", default="small,medium")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement")
    parser.add_argument(
        "--attempts", type=int, default=3, help="at a measurement that is disturbed; the calmest counts"
    )
    parser.add_argument("--minutes", type=float, default=1e9, help="start no visit that would end later than this")
    parser.add_argument("--work", type=Path, default=HERE / ".work", help="models, environments and results")
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    parser.add_argument("--fresh", action="store_true", help="forget the visits that are done")
    parser.add_argument("--keep", action="store_true", help="write the figures into this directory, README.md included")
    parser.add_argument("--retry", action="store_true", help="forget those that failed")
    given = vars(parser.parse_args())
    servers, models = given.pop("servers").split(","), given.pop("models").split(",")
    unknown = [name for name in servers if name not in names]
    if unknown or not set(models) <= {"small", "medium"}:
        parser.error(f"unknown: {', '.join(unknown) or ', '.join(models)}")
    given["work"] = given["work"].resolve()
    if given.pop("fresh"):
        (given["work"] / "visits.jsonl").unlink(missing_ok=True)
    if len({given["server_core"], given["load_core"]} & os.sched_getaffinity(0)) < 2:
        parser.error("needs two cores: --server-core and --load-core")
    return Plan(servers, models, **given)


def make_model(model: str, work: Path) -> None:
    """Train or make, and publish, unless it is there."""
    directory = work / "models" / model
    if (directory / "examples.json").is_file():
        return
    print(f"making the {model} model", flush=True)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    subprocess.run(
        [environment("training", work).python, str(HERE / "make_models.py"), model, str(directory)],
        env={**os.environ, "PYTHONPATH": str(TEMPLATE), "TF_CPP_MIN_LOG_LEVEL": "2"},
        check=True,
    )


def visit(plan: Plan, load: Load, calm: Calm, model: str, name: str) -> dict[str, Any]:
    """All figures of one server in one round; `error` says why there are none."""
    directory = plan.work / "models" / model
    if name in CALLS:
        return calls(plan, directory, name)
    server = BY_NAME[name]
    try:
        built = environment(server.environment, plan.work)
    except subprocess.CalledProcessError as error:
        return {"error": f"its environment cannot be built: {error}"}
    place = Place(built, free_port(), model, directory, plan.work / "scratch" / name)
    examples = Examples.read(directory / "examples.json")
    try:
        with running(server, place, examples, plan.server_core) as found:
            if not server.limit:
                check(found, examples)
            return measure(plan, load, calm, found, examples)
    except WrongError as error:
        return {"error": str(error)}


def measure(plan: Plan, load: Load, calm: Calm, found: Running, examples: Examples) -> dict[str, Any]:
    """Closed loop, memory, open loop."""
    port, scratch = found.place.port, found.place.scratch
    health = scratch / "health.http"
    health.write_bytes(f"GET {found.server.health} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    requests = []
    for number, row in enumerate(examples.inputs):
        requests.append(scratch / f"{number}.http")
        requests[-1].write_bytes(found.server.ask(found.place.kind, row).raw(port))
    load.closed(port, min(1.5, plan.seconds), CONNECTIONS[-1], health, requests)

    def closed(connections: int) -> dict[str, Any]:
        return calm.measured(found, lambda: load.closed(port, plan.seconds, connections, health, requests))

    def opened(rate: float) -> dict[str, Any]:
        return calm.measured(found, lambda: load.open(port, plan.seconds, rate, health, requests))

    result: dict[str, Any] = {"cold_seconds": round(found.cold_seconds, 3), "idle": found.megabytes()}
    result["closed"] = {str(connections): closed(connections) for connections in CONNECTIONS}
    result["loaded"] = found.megabytes()
    capacity = max(loop["goodput"] for loop in result["closed"].values())
    if capacity > 0:
        result["open"] = {str(factor): opened(factor * capacity) for factor in OVERLOADS}
    result["still_right"] = not _fault_after(found, examples)
    return result


def _fault_after(found: Running, examples: Examples) -> str:
    """Whether it still answers, and rightly, once the overload is over."""
    time.sleep(0.5)
    try:
        check(found, examples, clients=4)
    except (WrongError, OSError) as error:
        return str(error) or type(error).__name__
    return ""


def calls(plan: Plan, directory: Path, name: str) -> dict[str, Any]:
    """The model without HTTP."""
    runtime = name.removeprefix("call-")
    built = environment(f"ours-{runtime}", plan.work)
    arguments = [runtime, str(directory / "served" / "model"), str(7 * plan.seconds / 3)]
    done = subprocess.run(
        ["taskset", "-c", str(plan.server_core), built.python, str(HERE / "calls.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if done.returncode:
        return {"error": done.stderr[-2000:]}
    return {"rows_per_second": json.loads(done.stdout.splitlines()[-1])}


def summary(found: Mapping[str, Any]) -> str:
    """One line on a visit."""
    if "error" in found:
        return f"ERROR {found['error']}"
    if "rows_per_second" in found:
        return " ".join(f"{size}:{rate:.0f}" for size, rate in found["rows_per_second"].items())
    closed = found["closed"]
    parts = [f"cold {found['cold_seconds']:.2f} s"]
    parts += [f"c{n} {closed[n]['goodput']:.0f}/s p99 {closed[n]['accepted'].get('p99', 0):.1f}" for n in closed]
    parts += [
        f"{factor}x {each['goodput']:.0f}/s p99 {each['accepted'].get('p99', 0):.0f}"
        for factor, each in found.get("open", {}).items()
    ]
    every = (*closed.values(), *found.get("open", {}).values())
    parts.append(f"others {max(each['others'] for each in every):.2f}")
    parts.append(f"slowness {max(each['slowness'] for each in every):.2f}")
    return ", ".join([*parts, "" if found["still_right"] else "WRONG AFTERWARDS"]).rstrip(", ")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.release(),
        "python": sys.version.split()[0],
    }


def versions(work: Path) -> dict[str, dict[str, str]]:
    """Of each environment: what matters for the comparison, and its size."""
    wanted = (
        "tensorflow-cpu",
        "ai-edge-litert",
        "gunicorn",
        "gevent",
        "flask",
        "fastapi",
        "uvicorn",
        "bentoml",
        "litserve",
    )
    found: dict[str, dict[str, str]] = {}
    for name in sorted({server.environment for server in SERVERS}):
        directory = work / "environments" / name
        if not (directory / "built-from").is_file():
            continue
        built = environment(name, work)
        distributions = next(directory.glob("lib/python*/site-packages")).glob("*.dist-info")
        pairs = [path.name.removesuffix(".dist-info").rpartition("-") for path in distributions]
        listed = {pair[0].replace("_", "-").lower(): pair[2] for pair in pairs}
        found[name] = {key: listed[key] for key in (*wanted, "mlserver", "ray") if key in listed}
        found[name]["megabytes"] = f"{built.megabytes():.0f}"
    return found


if __name__ == "__main__":
    sys.exit(main())
