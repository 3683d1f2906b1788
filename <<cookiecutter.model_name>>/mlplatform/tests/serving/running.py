"""Starting and stopping real servers, and asking them."""

import gzip
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
NAME = "pictures"
PREDICT = f"/v1/models/{NAME}:predict"


@dataclass
class Reply:
    """An answer: status, headers, and the body: parsed if it is JSON, else bytes."""

    status: int
    headers: Message
    body: Any

    @property
    def error(self) -> str:
        """The reason that every failure carries."""
        return str(self.body["error"])


@dataclass
class Running:
    """A server process."""

    process: subprocess.Popen[bytes]
    url: str
    log_file: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def log(self) -> str:
        """All that it has printed so far."""
        return self.log_file.read_text()

    def ask(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Reply:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.getheader("Content-Encoding") == "gzip":
            content = gzip.decompress(content)
        is_json = (response.getheader("Content-Type") or "").startswith("application/json")
        return Reply(response.status, response.headers, json.loads(content) if is_json else content)

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, content: object) -> Reply:
        """POST JSON."""
        return self.ask("POST", path, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def predict(self, content: object) -> Reply:
        """POST JSON to the V1 predict route."""
        return self.post(PREDICT, content)

    def wait_for(self, status: int, path: str = "/v2/health/ready", seconds: float = 180, saying: str = "") -> Reply:
        """Wait until a path answers with a status, and with a text in its error; give that answer."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.log}")
            try:
                reply = self.get(path)
                if reply.status == status and (not saying or saying in reply.error):
                    return reply
            except ConnectionError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"{path} did not answer {status} within {seconds} s:\n{self.log}")

    def workers(self) -> list[int]:
        """Process ids of gunicorn's workers."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in listed.split()]


class Client(threading.Thread):
    """Asks for predictions one after the other on kept-alive connections; opens a new one when the server closes.

    pause: seconds between an answer and the next request. statuses, lost: what became of the requests. slowest: the
    longest that one took, in seconds.
    """

    def __init__(self, port: int, body: bytes, pause: float = 0.0) -> None:
        super().__init__()
        self.port = port
        self.body = body
        self.pause = pause
        self.statuses: list[int] = []
        self.lost: list[str] = []
        self.slowest = 0.0
        self.stop = threading.Event()
        self.start()

    def run(self) -> None:
        """Ask until `stop` is set, or nobody listens any more."""
        while not self.stop.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
            try:
                connection.connect()
            except ConnectionRefusedError:
                return
            try:
                while not self._ask(connection):
                    self.stop.wait(self.pause)
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(f"{type(error).__name__}: {error}")
            connection.close()

    def _ask(self, connection: http.client.HTTPConnection) -> bool:
        """One request; whether it is the connection's last."""
        start = time.monotonic()
        connection.request("POST", PREDICT, self.body)
        response = connection.getresponse()
        response.read()
        self.slowest = max(self.slowest, time.monotonic() - start)
        self.statuses.append(response.status)
        return response.will_close or self.stop.is_set()


@contextmanager
def stopped_at_end(clients: Sequence[Client], seconds: float = 20) -> Iterator[None]:
    """Stop clients at the end, also when something has failed, and give each so many seconds to have stopped."""
    try:
        yield
    finally:
        for client in clients:
            client.stop.set()
        for client in clients:
            client.join(seconds)


def service_toml(directory: Path, **serving: object) -> Path:
    """A service.toml for the tests, with a store beside it."""
    path = directory / "service.toml"
    lines = [
        "[template]\nversion = '1.2.3'",
        f'[service]\nname = "{NAME}"',
        f'[storage]\nurl = "{directory / "store"}"',
        "[serving]",
    ]
    path.write_text("\n".join([*lines, *(f"{name} = {json.dumps(value)}" for name, value in serving.items())]) + "\n")
    return path


@contextmanager
def serving(toml: Path, *arguments: str, **settings: object) -> Iterator[Running]:
    """`python -m mlplatform serve` with settings from the environment; ended on leaving, whatever happened."""
    port = free_port()
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("SERVING_", "STORAGE_"))}
    env |= {"SERVICE_TOML": str(toml), "PYTHONPATH": os.pathsep.join(paths), "SERVING_DRAIN_SECONDS": "0"}
    # This machine may stand still for longer than a ghost is waited for.
    env |= {"SERVING_GHOST_TIMEOUT_MS": "60000"}
    env |= {f"SERVING_{name.upper()}": str(value) for name, value in settings.items()}
    log_file = toml.parent / f"server-{port}.log"
    command = [sys.executable, "-m", "mlplatform", "serve", "--port", str(port), *arguments]
    with log_file.open("wb") as log:
        # A session of its own, so that its workers end with it.
        process = subprocess.Popen(
            command, env=env, cwd=toml.parent, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )
        try:
            yield Running(process, f"http://127.0.0.1:{port}", log_file)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def connections_to(port: int) -> set[int]:
    """Ports of the clients of a server whose connections it has not closed, those that wait to be accepted included."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    # Local and remote address; the state, 01 if established; and the inode, 0 if no process has it.
    return {
        int(row[2][-4:], 16) for row in rows if row[1].endswith(f":{port:04X}") and (row[3] == "01" or row[9] != "0")
    }


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
