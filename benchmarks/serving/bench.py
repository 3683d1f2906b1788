"""Our server against what a user would pick instead, on one core: `nox -s bench_serving`.

Makes the models and an environment for each server. For each model it starts all servers, checks each with different
inputs at once, and freezes them. Then, round after round, every measurement goes from server to server, a second each,
before the next measurement begins: closed loop at 1, 16 and 64 connections, and in every other round open loop at half,
one and three times the best of these rates. Only the server whose turn it is runs. It has one core, the load generator
another. Servers that are compared are so measured within seconds of each other, whatever the speed of the machine does
over minutes.

A round that is done is kept: the same command again goes on where this one ended (`--minutes 8` ends it in time,
`--fresh` starts anew). When all are done the figures go to results.json and chart.svg in the work directory, and with
`--keep` to this one and into the tables of README.md.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import report
from environments import HERE, TEMPLATE, environment
from load import Load, compiled
from running import (
    AWAKE,
    Calls,
    Examples,
    Running,
    WrongError,
    calling,
    check,
    end,
    machine_cpu_seconds,
    running,
    slowness,
)
from servers import BY_NAME, SERVERS, Place

CONNECTIONS = (1, 16, 64)
OVERLOADS = (0.5, 1, 3)
# They take two thirds of the time, and no target compares servers by them.
OPEN_EVERY = 2
# The model without HTTP, and when it has its turn: when the servers that are held to it have theirs.
CALLS = {"call-tensorflow": "tensorflow", "call-litert": "litert"}
CALLS_BESIDE = 16
# Neighbours are measured within a second or two of each other.
ORDER = (
    *("ours-tensorflow", "call-tensorflow", "ours-litert", "call-litert"),
    *(server.name for server in SERVERS if server.name not in ("ours-tensorflow", "ours-litert")),
)
STARTED_AGAIN = {"ours-tensorflow", "ours-litert"}
Result = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What the command line asks for. seconds: a turn of a closed loop, or half a turn of an open one."""

    servers: list[str]
    models: list[str]
    rounds: int
    seconds: float
    starts: int
    minutes: float
    work: Path
    keep: bool
    server_core: int
    load_core: int

    def names(self, model: str) -> list[str]:
        """What is measured with this model."""
        return [name for name in self.servers if name in CALLS or model in BY_NAME[name].kinds]


@dataclass(frozen=True)
class Started:
    """A server, and the files that the load generator sends it."""

    running: Running
    health: Path
    requests: list[Path]


class Turns:
    """The servers of a model: all started, all frozen but the one whose turn it is."""

    def __init__(self, plan: Plan, load: Load, model: str, stack: ExitStack) -> None:
        self._plan, self._load, self._model, self._stack = plan, load, model, stack
        self._directory = plan.work / "models" / model
        self._examples = Examples.read(self._directory / "examples.json")
        self._servers: dict[str, Started] = {}
        self._calls: dict[str, Calls] = {}
        self._failed: dict[str, str] = {}
        self._cold: dict[str, float] = {}

    def start(self) -> None:
        """Start one after another, check, warm up, freeze."""
        for name in self._plan.names(self._model):
            print(f"{self._model:6} {name:16} ", end="", flush=True)
            try:
                if name in CALLS:
                    self._calls[name] = self._call(name)
                    print("loaded", flush=True)
                else:
                    self._servers[name] = self._start(name)
                    print(f"started, {self._cold[name]:.2f} s", flush=True)
            except (WrongError, OSError, subprocess.CalledProcessError) as error:
                self._failed[name] = str(error)
                print(f"ERROR {error}", flush=True)

    def end(self) -> None:
        """All servers at once."""
        end([server.running for server in self._servers.values()])

    def round(self, number: int) -> dict[str, Result]:
        """Figures by server; `error` says why there are none. Only those started since the last round have a start."""
        names = self._plan.names(self._model)
        # Another one first each time: what follows what does not matter.
        order = names[number % len(names) :] + names[: number % len(names)]
        found: dict[str, Result] = {
            name: {"error": self._failed[name]} if name in self._failed else {} for name in names
        }

        def turns(measure: Callable[[Started, Result], None], *, calls: bool = False) -> None:
            for name in order:
                if "error" not in found[name]:
                    try:
                        if name in self._servers:
                            self._turn(self._servers[name], measure, found[name])
                        elif calls:
                            found[name]["rows_per_second"] = self._calls[name].measure(2 * self._plan.seconds)
                    except WrongError as error:
                        found[name] = {"error": str(error)}

        self._start_again(number)
        for name, seconds in self._cold.items():
            found[name]["cold_seconds"] = round(seconds, 3)
        self._cold.clear()
        for connections in CONNECTIONS:
            turns(partial(self._closed, connections), calls=connections == CALLS_BESIDE)
        for factor in OVERLOADS if number % OPEN_EVERY == 0 else ():
            turns(partial(self._open, factor))
        return found

    def _start(self, name: str) -> Started:
        server = BY_NAME[name]
        found = self._stack.enter_context(self._running(name, name))
        try:
            if not server.limit:
                check(found, self._examples)
            port, scratch = found.place.port, found.place.scratch
            health = scratch / "health.http"
            health.write_bytes(f"GET {server.health} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            requests = []
            for number, row in enumerate(self._examples.inputs):
                requests.append(scratch / f"{number}.http")
                requests[-1].write_bytes(server.ask(self._model, row).raw(port))
            self._load.closed(port, 1.5, CONNECTIONS[-1], health, requests)
        finally:
            found.freeze()
        self._cold[name] = found.cold_seconds
        return Started(found, health, requests)

    def _start_again(self, number: int) -> None:
        """For the time that it takes; what has been measured all along stays frozen."""
        if number < self._plan.starts and not self._cold:
            for name in sorted(STARTED_AGAIN & self._servers.keys()):
                with self._running(name, f"{name}-again") as found:
                    self._cold[name] = found.cold_seconds

    def _running(self, name: str, scratch: str) -> AbstractContextManager[Running]:
        server = BY_NAME[name]
        built = environment(server.environment, self._plan.work)
        place = Place(built, free_port(), self._model, self._directory, self._plan.work / "scratch" / scratch)
        return running(server, place, self._examples, self._plan.server_core)

    def _call(self, name: str) -> Calls:
        runtime, log = CALLS[name], self._plan.work / "scratch" / f"{name}.log"
        log.parent.mkdir(exist_ok=True)
        python = environment(f"ours-{runtime}", self._plan.work).python
        model = self._directory / "served" / "model"
        return self._stack.enter_context(calling(python, runtime, model, log, self._plan.server_core))

    def _turn(self, server: Started, measure: Callable[[Started, Result], None], result: Result) -> None:
        try:
            server.running.thaw(self._examples)
            measure(server, result)
        finally:
            server.running.freeze()

    def _closed(self, connections: int, server: Started, result: Result) -> None:
        port, seconds = server.running.place.port, self._plan.seconds
        run = partial(self._load.closed, port, seconds, connections, server.health, server.requests)
        result.setdefault("closed", {})[str(connections)] = self._measured(server.running, run)
        if connections == CONNECTIONS[-1]:
            result["loaded"] = server.running.megabytes()

    def _open(self, factor: float, server: Started, result: Result) -> None:
        port, seconds = server.running.place.port, 2 * self._plan.seconds
        capacity = max(loop["goodput"] for loop in result["closed"].values())
        if not capacity:
            return
        run = partial(self._load.open, port, seconds, factor * capacity, server.health, server.requests)
        result.setdefault("open", {})[str(factor)] = self._measured(server.running, run)
        if factor == OVERLOADS[-1]:
            result["still_right"] = self._right_after(server.running)

    def _measured(self, found: Running, run: Callable[[], Result]) -> Result:
        """With what the turn was like.

        `server_cpu_seconds`: what the server used of its core; `others`: cores that processes used which are neither
        server nor client; `core_ms`: what a fixed piece of work took on the server's core just before.
        """
        milliseconds = slowness(self._plan.server_core)
        machine, server, started = machine_cpu_seconds(), found.cpu_seconds(), time.monotonic()
        result = run()
        elapsed = time.monotonic() - started
        server = found.cpu_seconds() - server
        others = max(0.0, machine_cpu_seconds() - machine - server - result.pop("cpu_seconds"))
        used = {"server_cpu_seconds": round(server, 2), "others": round(others / elapsed, 3)}
        return result | used | {"core_ms": milliseconds}

    def _right_after(self, found: Running) -> bool:
        """Whether it still answers, and rightly, once the overload is over."""
        try:
            found.await_right(self._examples, AWAKE)
            check(found, self._examples, clients=4)
        except (WrongError, OSError):
            return False
        return True


class Done:
    """The rounds that are measured, in a file; a line is one server in one round.

    longest: seconds that a round has taken here, with the starts before it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.results: list[Result] = (
            [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
        )
        self.longest = 0.0

    def has(self, number: int, model: str, names: Sequence[str]) -> bool:
        """Whether all of these are measured in that round."""
        found = {each["server"] for each in self.results if (each["round"], each["model"]) == (number, model)}
        return found >= set(names)

    def add(self, results: Sequence[Result]) -> None:
        """One whole round of a model, in place of what there was of it."""
        old = {(each["round"], each["model"]) for each in results}
        self.results = [each for each in self.results if (each["round"], each["model"]) not in old] + [*results]
        self._path.write_text("".join(json.dumps(each) + "\n" for each in self.results))


def main() -> int:
    """Returns 0 when all is measured, 3 if the time was up before, 1 if a server could not be measured."""
    plan = read_plan()
    for number in (signal.SIGTERM, signal.SIGHUP):
        # As Ctrl-C does: what is frozen must not stay behind.
        signal.signal(number, lambda *_: sys.exit(130))
    for model in plan.models:
        make_model(model, plan.work)
    for name in plan.servers:
        # What cannot be built is said where the server is started.
        with suppress(subprocess.CalledProcessError):
            environment(f"ours-{CALLS[name]}" if name in CALLS else BY_NAME[name].environment, plan.work)
    load = compiled(plan.work, plan.load_core)
    host = machine()
    # This process, too, leaves the server's core alone.
    os.sched_setaffinity(0, {plan.load_core})
    done = Done(plan.work / "rounds.jsonl")
    deadline = time.monotonic() + 60 * plan.minutes
    for model in plan.models:
        if not measure(plan, load, model, done, deadline):
            print("time is up; the same command goes on")
            return 3
    content = {"machine": host, "versions": versions(plan.work), "results": done.results}
    report.write(content, plan.work)
    if plan.keep:
        report.keep(content)
    print(f"\n{report.text(content)}\nall figures: {plan.work / 'results.json'}; chart: {plan.work / 'chart.svg'}")
    return 1 if any("error" in found for found in done.results) else 0


def measure(plan: Plan, load: Load, model: str, done: Done, deadline: float) -> bool:
    """All rounds of a model that are not done; whether there was time for them."""
    names = plan.names(model)
    missing = [number for number in range(plan.rounds) if not done.has(number, model, names)]
    began = time.monotonic()
    if missing and began + done.longest > deadline:
        return False
    with ExitStack() as stack:
        turns = Turns(plan, load, model, stack)
        try:
            if missing:
                turns.start()
            for number in missing:
                if number != missing[0]:
                    began = time.monotonic()
                    if began + done.longest > deadline:
                        return False
                found = turns.round(number)
                told = {"round": number, "model": model, "commit": commit(), "seconds": plan.seconds}
                done.add([result | told | {"server": name} for name, result in found.items()])
                done.longest = max(done.longest, time.monotonic() - began)
                print(f"round {number + 1}/{plan.rounds}, {model}: {time.monotonic() - began:.0f} s")
                for name, result in found.items():
                    print(f"  {name:16} {summary(result)}", flush=True)
        finally:
            turns.end()
    return True


def read_plan() -> Plan:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", default=",".join(ORDER), help=f"of {', '.join(ORDER)}")
    parser.add_argument("--models", default="small,medium")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument(
        "--seconds", type=float, default=1, help="of a turn in a closed loop; in an open loop twice that"
    )
    parser.add_argument("--starts", type=int, default=3, help="of our servers, one in a round; the others start once")
    parser.add_argument("--minutes", type=float, default=1e9, help="start no round that would end later than this")
    parser.add_argument("--work", type=Path, default=HERE / ".work", help="models, environments and results")
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    parser.add_argument("--fresh", action="store_true", help="forget the rounds that are done")
    parser.add_argument("--keep", action="store_true", help="write the figures into this directory, README.md included")
    given = vars(parser.parse_args())
    servers, models = given.pop("servers").split(","), given.pop("models").split(",")
    unknown = [name for name in servers if name not in ORDER]
    if unknown or not set(models) <= {"small", "medium"}:
        parser.error(f"unknown: {', '.join(unknown) or ', '.join(models)}")
    given["work"] = given["work"].resolve()
    given["work"].mkdir(parents=True, exist_ok=True)
    if given.pop("fresh"):
        (given["work"] / "rounds.jsonl").unlink(missing_ok=True)
    if len({given["server_core"], given["load_core"]} & os.sched_getaffinity(0)) < 2:
        parser.error("needs two cores: --server-core and --load-core")
    return Plan(servers, models, **given)


def make_model(model: str, work: Path) -> None:
    """Train or make, publish, and freeze as a serving image does, unless it is there."""
    directory = work / "models" / model
    variables = {**os.environ, "PYTHONPATH": str(TEMPLATE), "TF_CPP_MIN_LOG_LEVEL": "2"}
    if not (directory / "examples.json").is_file():
        print(f"making the {model} model", flush=True)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        command = [environment("training", work).python, str(HERE / "make_models.py"), model, str(directory)]
        subprocess.run(command, env=variables, check=True)
    if not (directory / "frozen").is_dir():
        verify = [environment("ours-tensorflow", work).python, "-m", "mlplatform", "verify"]
        options = ["--runtime", "tensorflow", "--frozen", str(directory / "frozen")]
        variables["SERVICE_TOML"] = str(directory / "service.toml")
        subprocess.run([*verify, str(directory / "served" / "model"), *options], env=variables, check=True)


def summary(found: Mapping[str, Any]) -> str:
    """One line on a server in a round."""
    if "error" in found:
        return f"ERROR {found['error']}"
    if "rows_per_second" in found:
        return " ".join(f"{size}:{rate:.0f}" for size, rate in found["rows_per_second"].items())
    closed, opened = found["closed"], found.get("open", {})
    parts = [f"cold {found['cold_seconds']:.2f} s"] if "cold_seconds" in found else []
    parts += [f"c{n} {each['goodput']:.0f}/s p99 {each['accepted'].get('p99', 0):.1f}" for n, each in closed.items()]
    parts += [f"{n}x {each['goodput']:.0f}/s p99 {each['accepted'].get('p99', 0):.0f}" for n, each in opened.items()]
    every = (*closed.values(), *opened.values())
    parts.append(f"others {max(each['others'] for each in every):.2f}")
    parts.append(f"core {max(each['core_ms'] for each in every):.1f} ms")
    return ", ".join(parts) + ("" if found.get("still_right", True) else ", WRONG AFTERWARDS")


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
        "granian",
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
