"""Servers behind a balancer: all are replaced and nobody notices; one breaks and the other carries the load."""

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from mlplatform.tests.serving.running import Client, Running, service_toml, serving, stopped_at_end
from mlplatform.tests.telemetry.sink import until

pytestmark = pytest.mark.serial

BODY = json.dumps({"instances": [[[1.0] * 8] * 8]}).encode()
PROBE_SECONDS = 0.1
DRAIN_SECONDS = 3


class Balancer:
    """Hands each connection to the next ready server, as a Kubernetes Service does, and passes bytes on both ways."""

    def __init__(self) -> None:
        self.servers: list[Running] = []
        self.ready: list[Running] = []
        self.port = 0
        self._turn = itertools.count()

    @contextmanager
    def running(self) -> Iterator[None]:
        loop = asyncio.new_event_loop()
        listener = loop.run_until_complete(asyncio.start_server(self._pass_on, "127.0.0.1", 0))
        self.port = listener.sockets[0].getsockname()[1]
        probing = loop.create_task(self._probe())
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        try:
            yield
        finally:
            loop.call_soon_threadsafe(probing.cancel)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            for task in asyncio.all_tasks(loop):
                task.cancel()
            listener.close()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()

    def wait_for(self, server: Running) -> None:
        """Wait until a server gets connections."""
        server.wait_for(200)
        while server not in self.ready:
            assert server.process.poll() is None, server.log
            threading.Event().wait(PROBE_SECONDS)

    async def _probe(self) -> None:
        while True:
            states = [(server, await self._is_ready(server)) for server in list(self.servers)]
            self.ready = [server for server, ready in states if ready]
            await asyncio.sleep(PROBE_SECONDS)

    async def _is_ready(self, server: Running) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET /v2/health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
        except ConnectionError:
            return False
        writer.close()
        return answer.startswith(b"HTTP/1.1 200 ")

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server = self.ready[next(self._turn) % len(self.ready)]
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
    # Also after a connection that broke: the other side is to see it.
    writer.close()


def test_a_rolling_restart_under_load_loses_no_request(light: Path) -> None:
    balancer = Balancer()
    with ExitStack() as stack:
        stack.enter_context(balancer.running())

        def start() -> Running:
            server = stack.enter_context(serving(light, drain_seconds=DRAIN_SECONDS))
            balancer.servers.append(server)
            balancer.wait_for(server)
            return server

        old = [start(), start()]
        # Half of them ask without a pause; the others keep connections open that are idle most of the time.
        clients = [Client(balancer.port, BODY, pause) for pause in (0.0, 0.3) for _ in range(8)]
        with stopped_at_end(clients):
            for server in old:
                start()
                os.kill(server.process.pid, signal.SIGTERM)
                assert server.process.wait(20) == 0
                balancer.servers.remove(server)
        sent = sum(len(client.statuses) + len(client.lost) for client in clients)
        lost = [reason for client in clients for reason in client.lost]
        slowest = max(client.slowest for client in clients)
        print(f"rolling restart: {sent} requests sent, {len(lost)} lost, the slowest took {1000 * slowest:.0f} ms")
        assert lost == []
        assert {status for client in clients for status in client.statuses} == {200}
        assert all(client.statuses for client in clients)
        assert not any(client.is_alive() for client in clients)


def test_a_worker_that_does_not_come_back_costs_a_caller_one_answer_beside_that_in_flight(
    tmp_path: Path, light: Path
) -> None:
    shutil.copytree(light.parent / "store", tmp_path / "store")
    balancer = Balancer()
    with ExitStack() as stack:
        stack.enter_context(balancer.running())
        toml = service_toml(tmp_path, runtime="litert")
        # How long a request waits for the successor of the worker that it came for.
        broken, other = (stack.enter_context(serving(path, deadline_ms=3000)) for path in (toml, light))
        balancer.servers += [broken, other]
        for server in (broken, other):
            balancer.wait_for(server)
        clients = [Client(balancer.port, BODY) for _ in range(8)]
        with stopped_at_end(clients):
            until(lambda: all(client.statuses for client in clients))
            manifest = tmp_path / "store/models/aaaaaaaaaaaa/manifest.json"
            manifest.unlink()
            # Reading a pipe that nobody writes into never ends, and so the successor has no model.
            os.mkfifo(manifest)
            asked = [(client, len(client.statuses)) for client in clients]
            (worker,) = broken.workers()
            os.kill(worker, signal.SIGKILL)
            until(lambda: balancer.ready == [other])
            until(lambda: all(client.statuses[before:][-20:] == [200] * 20 for client, before in asked))
        assert all(client.statuses[before:].count(503) <= 1 for client, before in asked)
        assert all(len(client.lost) <= 1 for client in clients)
