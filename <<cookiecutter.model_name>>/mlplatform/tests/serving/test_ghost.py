"""Ghost mode: what is copied and recorded, and that nothing the ghost does reaches the one who asks."""

import base64
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from mlplatform.contract.events import PREFIX, columns, in_rows
from mlplatform.ghost.counters import Counters
from mlplatform.serving.ghost.event_log import EventLog
from mlplatform.serving.ghost.message import HEAD_SIZES, PATH, SENT_HEADER, pack
from mlplatform.serving.ghost.replay import COPY_HEADER, LIVE_HEADER
from mlplatform.tests.serving.running import NAME, PREDICT, ROOT, Running, free_port, service_toml, serving
from mlplatform.tests.telemetry.sink import Sink, until

if TYPE_CHECKING:
    from mlplatform.ghost.report import Report

pytestmark = pytest.mark.serial

BODY = {"instances": [{"image": [[1.0] * 8] * 8}]}


def ask(server: Running, id: str = "", **headers: str) -> tuple[int, Any]:
    given = {"Content-Type": "application/json", **headers, **({"X-Request-ID": id} if id else {})}
    reply = server.ask("POST", PREDICT, json.dumps(BODY).encode(), given)
    return reply.status, reply.body


def lines(spool: Path) -> list[dict[str, Any]]:
    """All that stands in a spool, as it would be shipped."""
    while True:
        # A segment is renamed when it is finished.
        with suppress(FileNotFoundError):
            return [
                json.loads(line)
                for path in sorted(spool.glob("*.[oj][ps]*"))
                for line in in_rows(path.read_bytes()).splitlines()
                if line.endswith(b"}")
            ]


def events(spool: Path, kind: str = "prediction") -> list[dict[str, Any]]:
    return [line for line in lines(spool) if line["kind"] == kind]


def copies(spool: Path) -> dict[str, int]:
    """What became of the copies, as the state of a running process says."""
    (state,) = until(lambda: list(spool.glob("*.state")))
    return dict(Counters(bytearray(state.read_bytes())).event(0, False)["mirror"])


def ship(spool: Path, store: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "mlplatform", "ship-events", "--once", str(spool)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "STORAGE_URL": str(store), "SERVICE_TOML": os.devnull},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def other_side(handle: Callable[[socket.socket], None]) -> Iterator[str]:
    """URL of something that takes connections and is no ghost."""
    listener = socket.create_server(("127.0.0.1", 0))
    taken: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            taken.append(connection)
            threading.Thread(target=handled, args=[connection], daemon=True).start()

    def handled(connection: socket.socket) -> None:
        # The other end gives up, or the test is over.
        with suppress(OSError):
            handle(connection)

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield "http://127.0.0.1:{}".format(*listener.getsockname()[1:2])
    finally:
        listener.close()
        for connection in taken:
            connection.close()


def says_nothing(connection: socket.socket) -> None:
    with connection:
        while connection.recv(65536):
            pass


def says_garbage(connection: socket.socket) -> None:
    with connection:
        connection.recv(65536)
        connection.sendall(b"\x00\xff" * 100_000)


def says_everything_slowly(connection: socket.socket) -> None:
    with connection:
        connection.recv(65536)
        for byte in b"HTTP/1.1 202 Accepted\r\n" * 1000:
            connection.sendall(bytes([byte]))
            time.sleep(0.02)


def hangs_up(connection: socket.socket) -> None:
    connection.close()


def says_not_found(connection: socket.socket) -> None:
    with connection:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno")


@pytest.fixture(scope="module")
def spools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spools")


@pytest.fixture(scope="module")
def ghost(light: Path, spools: Path) -> Iterator[Running]:
    with serving(light, role="ghost", events=spools / "ghost") as running:
        running.wait_for(200)
        yield running


@pytest.fixture(scope="module")
def live(light: Path, spools: Path, ghost: Running) -> Iterator[Running]:
    settings = {"ghost_url": ghost.url, "ghost_sample_rate": 1, "events": spools / "live"}
    with serving(light, **settings) as running:
        running.wait_for(200)
        yield running


def test_a_ghost_answers_202_without_a_body(ghost: Running) -> None:
    reply = ghost.ask("POST", PREDICT, json.dumps(BODY).encode(), {"X-Request-ID": "direct"})
    assert (reply.status, reply.body, reply.headers["X-Request-ID"]) == (202, b"", "direct")
    image = {"name": "image", "shape": [1, 8, 8], "datatype": "FP32", "data": [1.0] * 64}
    reply = ghost.post(f"/v2/models/{NAME}/infer", {"inputs": [image]})
    assert (reply.status, reply.body) == (202, b"")


def test_a_ghost_says_what_is_wrong_with_a_request(ghost: Running) -> None:
    reply = ghost.predict({"instances": [1]})
    assert (reply.status, "instances" in reply.error) == (400, True)


def test_a_ghost_takes_any_host(ghost: Running) -> None:
    assert ask(ghost, Host="digits-shadow.example.com")[0] == 202


def test_a_request_is_answered_and_recorded_on_both_sides_with_the_same_id(
    live: Running, ghost: Running, spools: Path
) -> None:
    status, body = ask(live, "shared-id")
    assert (status, list(body)) == (200, ["predictions"])

    def of(side: str) -> list[dict[str, Any]]:
        return [event for event in events(spools / side) if event["id"] == "shared-id"]

    (there,), (here,) = until(lambda: of("ghost")), until(lambda: of("live"))
    scores = body["predictions"][0]
    assert (here["status"], here["labels"], here["mirrored"]) == (200, [str(scores.index(max(scores)))], True)
    assert here["scores"] == [pytest.approx(max(scores), abs=1e-5)]
    assert (there["status"], there["labels"], there["scores"]) == (200, here["labels"], here["scores"])
    assert 0 < there["ms"] < 10_000


def test_a_request_of_v2_with_raw_values_is_copied_as_it_came(live: Running, spools: Path) -> None:
    import numpy as np

    raw = np.ones((1, 8, 8), np.float32).tobytes()
    parameters = {"binary_data_size": len(raw)}
    tensor = {"name": "image", "shape": [1, 8, 8], "datatype": "FP32", "parameters": parameters}
    text = json.dumps({"inputs": [tensor]}).encode()
    headers = {
        "X-Request-ID": "raw",
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(text)),
    }
    assert live.ask("POST", f"/v2/models/{NAME}/infer", text + raw, headers).status == 200
    (event,) = until(lambda: [event for event in events(spools / "ghost") if event["id"] == "raw"])
    assert event["status"] == 200


def test_a_request_of_a_megabyte_is_copied_whole(live: Running, spools: Path) -> None:
    body = json.dumps({"instances": BODY["instances"] * 1000}).encode().ljust(1_100_000)
    headers = {"X-Request-ID": "large", "Content-Type": "application/json"}
    assert live.ask("POST", PREDICT, body, headers).status == 200
    (event,) = until(lambda: [event for event in events(spools / "ghost") if event["id"] == "large"])
    assert (event["status"], len(event["labels"])) == (200, 1000)


def test_an_odd_header_of_one_request_does_not_cost_the_copies_of_others(live: Running, spools: Path) -> None:
    ask(live, "odd", **{"Content-Type": "application/json;\tcharset=utf-8"})
    ask(live, "even")
    ids = {"odd", "even"}
    both = until(lambda: them if len(them := [e for e in events(spools / "ghost") if e["id"] in ids]) == 2 else [])
    assert [event["status"] for event in both] == [200, 200]


def test_a_compressed_request_is_copied(live: Running, spools: Path) -> None:
    headers = {"X-Request-ID": "packed", "Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert live.ask("POST", PREDICT, gzip.compress(json.dumps(BODY).encode()), headers).status == 200
    (event,) = until(lambda: [event for event in events(spools / "ghost") if event["id"] == "packed"])
    assert event["status"] == 200


def test_events_hold_nothing_of_a_request(live: Running, spools: Path) -> None:
    ask(live, "private")
    until(lambda: [event for event in events(spools / "live") if event["id"] == "private"])
    assert not any("body" in event or "image" in json.dumps(event) for event in lines(spools / "live"))
    assert "image" not in live.log


def test_bodies_are_kept_where_that_is_switched_on(light: Path, tmp_path: Path) -> None:
    with serving(light, events=tmp_path, events_bodies=True) as server:
        server.wait_for(200)
        ask(server)
        (event,) = until(lambda: events(tmp_path))
    assert json.loads(base64.b64decode(event["body"])) == BODY


def test_a_copy_is_never_copied_again(light: Path, tmp_path: Path, ghost: Running) -> None:
    with serving(light, ghost_url=ghost.url, ghost_sample_rate=1, events=tmp_path) as server:
        server.wait_for(200)
        ask(server, "copied", **{COPY_HEADER: "1"})
        ask(server, "asked")
        until(lambda: copies(tmp_path)["sent"])
        assert copies(tmp_path)["offered"] == 1
        both = until(lambda: events(tmp_path) if len(events(tmp_path)) == 2 else [])
        assert ["mirrored" in event for event in both] == [False, True]


def test_the_sample_rate_is_followed_without_a_restart(light: Path, tmp_path: Path, ghost: Running) -> None:
    rate = tmp_path / "rate"
    rate.write_text("0\n")
    settings = {"ghost_url": ghost.url, "ghost_sample_rate_file": rate, "events": tmp_path / "spool"}
    with serving(light, **settings) as server:
        server.wait_for(200)
        ask(server)
        until(lambda: events(tmp_path / "spool"))
        assert copies(tmp_path / "spool")["offered"] == 0
        rate.write_text("1\n")
        until(lambda: "Sample rate for the ghost: 1" in server.log)
        ask(server)
        until(lambda: copies(tmp_path / "spool")["sent"] == 1)
        # Without the file it is what the settings say.
        rate.unlink()
        until(lambda: "Sample rate for the ghost: 0\n" in server.log)


@pytest.mark.parametrize(
    ("handle", "counted"),
    [
        (says_nothing, "failed"),
        (says_garbage, "failed"),
        (says_everything_slowly, "failed"),
        (hangs_up, "failed"),
        (says_not_found, "refused"),
    ],
)
def test_whatever_the_ghost_does_is_counted_and_nobody_else_notices(
    light: Path, tmp_path: Path, live: Running, handle: Callable[[socket.socket], None], counted: str
) -> None:
    expected = ask(live)
    with other_side(handle) as url:
        settings = {"ghost_url": url, "ghost_sample_rate": 1, "ghost_timeout_ms": 300, "events": tmp_path}
        with serving(light, **settings) as server:
            server.wait_for(200)
            assert [ask(server) for _ in range(20)] == [expected] * 20
            until(lambda: ask(server) == expected and copies(tmp_path)[counted] >= 1)
            assert "Traceback" not in server.log


def test_copies_for_a_ghost_that_keeps_failing_are_not_tried(light: Path, tmp_path: Path) -> None:
    settings = {"ghost_url": f"http://127.0.0.1:{free_port()}", "ghost_sample_rate": 1, "events": tmp_path}
    with serving(light, **settings) as server:
        server.wait_for(200)
        for _ in range(5):
            ask(server)
            time.sleep(0.05)
        until(lambda: copies(tmp_path)["failed"] >= 5)
        assert [ask(server)[0] for _ in range(20)] == [200] * 20
        until(lambda: ask(server)[0] == 200 and copies(tmp_path)["skipped"] >= 15)
        assert server.log.count("no copies for a while") == 1


def test_copies_that_wait_are_bounded_and_the_oldest_are_dropped(light: Path, tmp_path: Path) -> None:
    received = threading.Event()

    def takes(connection: socket.socket) -> None:
        while connection.recv(65536):
            received.set()

    with other_side(takes) as url:
        settings = {"ghost_url": url, "ghost_sample_rate": 1, "ghost_queue": 10, "events": tmp_path}
        with serving(light, **settings) as server:

            def wait_until_offered(count: int) -> None:
                until(lambda: copies(tmp_path)["offered"] == count)

            server.wait_for(200)
            ask(server)
            # It is under way, and nothing else leaves.
            assert received.wait(20)
            for number in range(50):
                assert ask(server)[0] == 200
                # All of a turn are dropped together.
                wait_until_offered(number + 2)
            until(lambda: copies(tmp_path)["dropped"] == 40)


def test_the_memory_of_copies_that_wait_is_bounded(light: Path, tmp_path: Path) -> None:
    body = json.dumps({"instances": BODY["instances"] * 500}).encode()
    bound = 1 << 20
    # As many more are under way, and one that began below the bound of a message.
    most = 2 * (bound // len(body)) + 1

    def used(pid: int) -> int:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    with other_side(says_nothing) as url:
        settings = {"ghost_url": url, "ghost_sample_rate": 1, "ghost_queue_bytes": bound, "events": tmp_path}
        with serving(light, **settings) as server:
            server.wait_for(200)

            def fill(first: int, last: int) -> None:
                for _ in range(first, last):
                    assert server.ask("POST", PREDICT, body, {"Content-Type": "application/json"}).status == 200
                until(lambda: (counted := copies(tmp_path))["offered"] == last and counted["dropped"] >= last - most)

            fill(0, 100)
            (pid,) = server.workers()
            before = used(pid)
            fill(100, 300)
            # The allocator keeps some; all 200 copies would be twice this.
            assert used(pid) - before < 100 * len(body)


def test_a_ghost_that_comes_back_gets_copies_again(light: Path, tmp_path: Path) -> None:
    port = free_port()
    settings = {"ghost_url": f"http://127.0.0.1:{port}", "ghost_sample_rate": 1, "events": tmp_path}
    with serving(light, **settings) as server:
        server.wait_for(200)
        until(lambda: ask(server)[0] == 200 and copies(tmp_path)["skipped"] > 0)
        with serving(light, "--port", str(port), role="ghost") as late:
            Running(late.process, f"http://127.0.0.1:{port}", late.log_file).wait_for(200)
            until(lambda: ask(server)[0] == 200 and copies(tmp_path)["sent"] > 3)
        assert "answers again" in server.log


def test_a_kept_connection_that_the_ghost_has_closed_loses_no_copy(light: Path, tmp_path: Path) -> None:
    forgets = {"keepalive_seconds": 0.3, "ghost_connections": 1, "events": tmp_path / "ghost"}
    with serving(light, role="ghost", **forgets) as forgetful:
        settings = {"ghost_url": forgetful.url, "ghost_sample_rate": 1, "events": tmp_path / "live"}
        with serving(light, **settings) as server:
            server.wait_for(200)
            forgetful.wait_for(200)
            for _ in range(3):
                ask(server)
                time.sleep(0.8)
            until(lambda: copies(tmp_path / "live")["sent"] == copies(tmp_path / "ghost")["sent"] == 3)
            for side in ("live", "ghost"):
                assert copies(tmp_path / side) | {"sent": 3, "failed": 0} == copies(tmp_path / side)


def test_what_a_killed_server_had_not_written_is_counted_and_reported(light: Path, tmp_path: Path) -> None:
    spool, answered = tmp_path / "spool", 0
    with serving(light, events=spool) as server:
        server.wait_for(200)
        until(lambda: list(spool.glob("*.state")))
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        end = time.monotonic() + 1
        while time.monotonic() < end or not events(spool):
            connection.request("POST", PREDICT, json.dumps(BODY), {"Content-Type": "application/json"})
            connection.getresponse().read()
            answered += 1
        os.killpg(server.process.pid, signal.SIGKILL)
    # Its worker may not be gone yet.
    said = until(lambda: said if " was killed: " in (said := ship(spool, tmp_path / "store")) else "")
    lost = int(said.split(" was killed: ")[1].split()[0])
    (segment,) = (tmp_path / "store" / PREFIX / NAME).rglob("*.gz")
    written = [json.loads(line) for line in gzip.decompress(segment.read_bytes()).splitlines()]
    kept = [event for event in written if event["kind"] == "prediction"]
    assert (written[-1]["kind"], written[-1]["killed"]) == ("counters", True)
    counters = written[-1]["events"]
    # The last answer may have been read before its observer ran.
    assert answered - 1 <= counters["recorded"] <= answered
    assert counters["recorded"] - len(kept) == lost == counters["recorded"] - counters["written"]
    assert 0 <= lost < answered
    assert list(spool.iterdir()) == []


def test_a_server_that_is_stopped_leaves_no_event_behind(light: Path, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    with serving(light, events=spool) as server:
        server.wait_for(200)
        assert [ask(server)[0] for _ in range(30)] == [200] * 30
        os.kill(server.process.pid, signal.SIGTERM)
        assert server.process.wait(20) == 0
    assert len(events(spool)) == 30
    assert not list(spool.glob("*.state"))
    assert "was killed" not in ship(spool, tmp_path / "store")


def test_what_is_answered_before_the_spool_is_open_is_written_when_the_server_stops(tmp_path: Path) -> None:
    model = SimpleNamespace(manifest=SimpleNamespace(id="v1"))
    settings = SimpleNamespace(events=str(tmp_path), events_bytes=1 << 20, role="live")
    log = EventLog(cast(Any, SimpleNamespace(name=NAME, settings=settings, model=model)))
    log.counters.record()
    log.write(b'{"kind": "usage"}', 1)
    log.stop()
    assert events(tmp_path, "usage") == [{"kind": "usage"}]
    assert not list(tmp_path.glob("*.state"))


def test_beyond_their_bound_events_are_dropped_and_counted(light: Path, tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "of-others").write_bytes(b"x" * (1 << 20))
    with serving(light, events=tmp_path / "spool", events_bytes=1 << 20) as server:
        server.wait_for(200)
        assert ask(server)[0] == 200

        def dropped() -> int:
            (state,) = (tmp_path / "spool").glob("*.state")
            return Counters(bytearray(state.read_bytes()))["dropped"]

        until(lambda: list((tmp_path / "spool").glob("*.state")) and dropped() == 1)
        assert events(tmp_path / "spool") == []


def test_a_spool_that_cannot_be_made_is_said_and_answers_go_on(light: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with serving(light, events=tmp_path / "file" / "spool") as server:
        server.wait_for(200)
        until(lambda: "no events are kept" in server.log)
        assert ask(server)[0] == 200


def test_feedback_is_kept_by_request_id(live: Running, spools: Path) -> None:
    reply = live.post("/v1/feedback", {"request_id": "shared-id", "label": "3"})
    assert (reply.status, reply.body) == (202, {"request_id": "shared-id", "labels": ["3"]})
    reply = live.post("/v1/feedback", {"request_id": "rows", "labels": ["1", None]})
    assert reply.status == 202
    labels = until(lambda: events(spools / "live", "label") if len(events(spools / "live", "label")) == 2 else [])
    assert [(event["id"], event["labels"]) for event in labels] == [("shared-id", ["3"]), ("rows", ["1", None])]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"label": "3"}, "request_id is null; expected X-Request-ID of the answer"),
        ({"request_id": "r"}, "the body has neither label and labels"),
        ({"request_id": "r", "label": "fish"}, 'label is "fish"; the model knows: 0, 1, 2'),
        ({"request_id": "r", "label": 1.5}, "label is 1.5; the model knows: 0, 1, 2"),
        ({"request_id": "r", "labels": []}, "labels is []; expected a list"),
        ({"request_id": "r", "label": "3", "when": 1}, 'unknown field "when"'),
        ([], "the body is []"),
    ],
)
def test_wrong_feedback_is_refused_with_the_reason(live: Running, content: Any, reason: str) -> None:
    reply = live.post("/v1/feedback", content)
    assert (reply.status, reason in reply.error) == (400, True), reply.error


def test_feedback_for_which_there_is_no_space_is_refused_and_predictions_are_still_recorded(
    light: Path, tmp_path: Path
) -> None:
    bound = 1 << 20
    labels = ["3"] * 20_000
    settings = {"events": tmp_path / "spool", "events_bytes": bound, "max_instances": 100_000}
    with serving(light, **settings) as server:
        server.wait_for(200)
        statuses = [
            server.post("/v1/feedback", {"request_id": f"r{number}", "labels": labels}).status for number in range(12)
        ]
        assert statuses == sorted(statuses)
        assert set(statuses) == {202, 503}
        # What was answered with 202 is there, and nothing else.
        kept = until(lambda: events(tmp_path / "spool", "label"))
        assert [event["id"] for event in kept] == [f"r{number}" for number in range(statuses.count(202))]
        assert ask(server, "predicted")[0] == 200
        until(lambda: [event for event in events(tmp_path / "spool") if event["id"] == "predicted"])
        assert sum(path.stat().st_size for path in (tmp_path / "spool").iterdir()) < bound


def test_feedback_without_a_place_for_it_is_refused(server: Running) -> None:
    reply = server.post("/v1/feedback", {"request_id": "r", "label": "3"})
    assert (reply.status, reply.error) == (501, "feedback is not kept here: [serving] events is not set")


def report_of(live: Path, ghost: Path, directory: Path, monkeypatch: pytest.MonkeyPatch) -> "Report":
    """The report on 40 requests and their labels that both sides recorded. live, ghost: the service.toml of each."""
    from mlplatform.contract.criteria import Criteria, Criterion
    from mlplatform.ghost.observed import observe
    from mlplatform.ghost.report import make
    from mlplatform.ghost.settings import GhostSettings
    from mlplatform.store.storage import LocalStorage

    with serving(ghost, role="ghost", events=directory / "ghost") as other:
        other.wait_for(200)
        settings = {"ghost_url": other.url, "ghost_sample_rate": 1, "events": directory / "live"}
        with serving(live, **settings) as server:
            server.wait_for(200)
            for i in range(40):
                ask(server, f"r{i}")
                server.post("/v1/feedback", {"request_id": f"r{i}", "label": "3"})
            until(lambda: copies(directory / "ghost")["sent"] == 40)
            for running in (server, other):
                os.kill(running.process.pid, signal.SIGTERM)
                running.process.wait(20)
    for side in ("live", "ghost"):
        ship(directory / side, directory / "store")
    now = datetime.now(UTC)
    observed = observe(LocalStorage(directory / "store"), NAME, now - timedelta(hours=1), now, 1000)
    monkeypatch.setenv("SERVICE_TOML", str(live))
    # How fast a ghost is here depends on what else this machine does.
    asked = GhostSettings(minimum_requests=40, minimum_labels=40, tolerated_latency_ms=60_000)
    # The model of these tests was never trained.
    criteria = Criteria((Criterion("accuracy", minimum=0.0, maximum_regression=0.01),))
    return make(observed, criteria, asked, now)


def assert_same(report: "Report") -> None:
    """Both sides said the same of all."""
    from mlplatform.contract.targets.class_judging import LabelAgreement

    assert report.observed.pairs.requests == 40
    assert isinstance(report.figures.agreement, LabelAgreement)
    assert report.figures.agreement.share.value == 1.0
    assert report.figures.coverage and report.figures.coverage.value == 1.0
    assert report.verdict.decision in ("hold", "promote")


def test_what_both_sides_recorded_makes_a_report(light: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_same(report_of(light, light, tmp_path, monkeypatch))


def test_a_ghost_may_be_an_onnx_model_beside_a_live_one_of_keras(
    light: Path, reference: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlplatform.tests.serving.models import publish_pictures_as_onnx

    publish_pictures_as_onnx(tmp_path / "onnx", reference)
    report = report_of(light, service_toml(tmp_path / "onnx", runtime="onnx"), tmp_path, monkeypatch)
    assert_same(report)
    assert (report.version, report.live_version) == ("cccccccccccc", "aaaaaaaaaaaa")


def test_what_a_stopped_server_could_not_send_is_counted(light: Path, tmp_path: Path) -> None:
    settings = {"ghost_sample_rate": 1, "events": tmp_path}
    with other_side(says_nothing) as url, serving(light, ghost_url=url, **settings) as server:
        server.wait_for(200)
        for _ in range(3):
            assert ask(server)[0] == 200
            time.sleep(0.3)
        os.kill(server.process.pid, signal.SIGTERM)
        assert server.process.wait(20) == 0
    counted = events(tmp_path, "counters")[-1]["mirror"]
    assert counted.pop("offered") == 3 == sum(counted.values())


def test_several_workers_on_both_sides_ask_each_copy_once(light: Path, tmp_path: Path) -> None:
    def both_ready(side: str) -> bool:
        """Each has a state as soon as it has the model."""
        return len([*(tmp_path / side).glob("*.state")]) == 2

    with serving(light, role="ghost", workers=2, events=tmp_path / "ghost") as ghost:
        settings = {"ghost_url": ghost.url, "ghost_sample_rate": 1, "events": tmp_path / "live"}
        with serving(light, workers=2, **settings) as live:
            until(lambda: both_ready("ghost") and both_ready("live"), 60)
            ids = {f"several-{number}" for number in range(100)}
            for id in sorted(ids):
                assert ask(live, id)[0] == 200
            until(lambda: ids <= {event["id"] for event in events(tmp_path / "ghost")})
            live.process.terminate()
            assert live.process.wait(20) == 0
        ghost.process.terminate()
        assert ghost.process.wait(20) == 0
    assert sorted(event["id"] for event in events(tmp_path / "ghost")) == sorted(ids)


def test_only_what_is_copied_is_sent_to_the_ghost(light: Path, tmp_path: Path) -> None:
    received = bytearray()

    def takes(connection: socket.socket) -> None:
        while part := connection.recv(65536):
            received.extend(part)

    with other_side(takes) as url:
        settings = {"ghost_url": url, "ghost_sample_rate": 1, "events": tmp_path, "events_bodies": True}
        with serving(light, **settings) as server:
            server.wait_for(200)
            # A copy is not copied again, so it is among the requests that are not.
            ask(server, "private", **{COPY_HEADER: "1"})
            ask(server, "copied")
            until(lambda: b"copied" in received and received.endswith(json.dumps(BODY).encode()))
    assert b"private" not in received
    assert base64.b64encode(json.dumps(BODY).encode()) not in received


def test_a_server_that_is_stopped_sends_the_copies_that_wait(light: Path, tmp_path: Path, ghost: Running) -> None:
    with serving(light, ghost_url=ghost.url, ghost_sample_rate=1, events=tmp_path) as server:
        server.wait_for(200)
        assert [ask(server)[0] for _ in range(30)] == [200] * 30
        os.kill(server.process.pid, signal.SIGTERM)
        assert server.process.wait(20) == 0
    counted = events(tmp_path, "counters")[-1]["mirror"]
    assert counted | {"offered": 30, "sent": 30, "dropped": 0} == counted


def message(ages: list[float], body: bytes = b"{}", **changed: Any) -> tuple[bytes, dict[str, str]]:
    """Copies as the live service sends them, and the headers. ages: seconds since the requests were answered.

    changed: in the head of the only block, or in its columns.
    """
    now = time.monotonic()
    finished = [now - age for age in ages]
    count = len(ages)
    ids = [f"{n}" for n in range(count)]
    line = columns(0.0, ids, finished, finished, [200] * count, [0] * count, None, None, [True] * count, ())
    line |= {name: value for name, value in changed.items() if name in line}
    whole = b"".join(pack(json.dumps(line).encode(), "v", [("v1", body, None, None)] * count))
    if "requests" in changed:
        head = json.dumps({"columns": line, "version": "v", "requests": changed["requests"]}).encode()
        whole = HEAD_SIZES.pack(len(head) + count * len(body), len(head)) + head + body * count
    return whole, {SENT_HEADER: repr(now), "Content-Type": "application/octet-stream"}


def test_a_ghost_plays_copies_at_the_pace_at_which_the_requests_were_answered(light: Path, tmp_path: Path) -> None:
    body = json.dumps(BODY).encode()
    with serving(light, role="ghost", events=tmp_path) as ghost:
        ghost.wait_for(200)

        def seconds_between(last: str, *first: str) -> float:
            ids = [*first, last]
            assert ghost.ask("POST", PATH, *message([2, 1, 1, 0], body, id=ids)).status == 202
            at = played(tmp_path, ids)
            return at[last] - max(at[id] for id in first)

        # The oldest three are late, and go at once; the last one waits as long as the oldest of a message of its kind
        # do. If this machine stands still meanwhile, once more.
        assert any(seconds_between(f"d{n}", f"a{n}", f"b{n}", f"c{n}") > 0.2 for n in range(5))


def test_messages_of_several_live_services_are_played_together(light: Path, tmp_path: Path) -> None:
    body = json.dumps(BODY).encode()
    with serving(light, role="ghost", events=tmp_path) as ghost:
        ghost.wait_for(200)

        def seconds_between(later: str, earlier: str) -> float:
            assert ghost.ask("POST", PATH, *message([0], body, id=[later])).status == 202
            assert ghost.ask("POST", PATH, *message([0.35], body, id=[earlier])).status == 202
            at = played(tmp_path, [later, earlier])
            return at[later] - at[earlier]

        # If this machine stands still meanwhile, once more.
        assert any(seconds_between(f"later-{n}", f"earlier-{n}") > 0.1 for n in range(5))


def played(spool: Path, ids: list[str]) -> dict[str, float]:
    """When a ghost played these copies, once it has played them all."""

    def played_all() -> dict[str, float]:
        at = {event["id"]: event["at"] for event in events(spool)}
        return at if at.keys() >= set(ids) else {}

    return until(played_all)


def test_a_ghost_that_is_too_slow_throws_the_oldest_copies_away_and_counts_them(light: Path, tmp_path: Path) -> None:
    with serving(light, role="ghost", events=tmp_path, ghost_queue=10, ghost_connections=1) as ghost:
        ghost.wait_for(200)
        assert ghost.ask("POST", PATH, *message([0] * 50, json.dumps(BODY).encode())).status == 202
        until(lambda: len(events(tmp_path)) == 10)
        assert [event["id"] for event in events(tmp_path)] == [f"{n}" for n in range(40, 50)]
        until(lambda: copies(tmp_path)["sent"] == 10)
        assert copies(tmp_path) | {"offered": 50, "dropped": 40, "failed": 0} == copies(tmp_path)


@pytest.mark.parametrize(
    "changed",
    [
        {"id": ["0", "1\r\nX-Ghost: 0"]},
        {"status": [200]},
        {"clock": None},
        {"rows": {}},
        {"requests": [["v1", None, None, 2]]},
        {"requests": [["v1", None, None, 3], ["v1", None, None, -1]]},
        {"requests": [["v1", None, None, 2], ["v1", None, None, 3]]},
        {"requests": [["v9", None, None, 2]] * 2},
        {"requests": [["v1", "application/json\r\nX-Ghost: 0", None, 2]] * 2},
        {"requests": 2},
    ],
)
def test_a_ghost_takes_no_copies_that_are_none(ghost: Running, changed: dict[str, Any]) -> None:
    reply = ghost.ask("POST", PATH, *message([0, 0], **changed))
    assert (reply.status, "holds no copies of requests" in reply.error) == (400, True)
    assert "Traceback" not in ghost.log


@pytest.mark.parametrize("content", [b"garbage that is long enough to have a head", message([0])[0][:-1]])
def test_a_ghost_says_what_is_wrong_with_what_is_no_message(ghost: Running, content: bytes) -> None:
    reply = ghost.ask("POST", PATH, content, {SENT_HEADER: "1.5"})
    assert (reply.status, "holds no copies of requests" in reply.error) == (400, True)


@pytest.mark.parametrize("sent", ["soon", "nan", "inf", ""])
def test_a_message_says_when_it_was_sent(ghost: Running, sent: str) -> None:
    reply = ghost.ask("POST", PATH, message([0])[0], {SENT_HEADER: sent})
    assert (reply.status, "holds no copies of requests" in reply.error) == (400, True)


def test_a_copy_that_says_it_is_of_the_future_does_not_hold_up_others(light: Path, tmp_path: Path) -> None:
    with serving(light, role="ghost", events=tmp_path) as ghost:
        ghost.wait_for(200)
        assert ghost.ask("POST", PATH, *message([-3600, 0])).status == 202
        until(lambda: copies(tmp_path)["sent"] == 2, 5)


def test_only_a_ghost_takes_copies(live: Running) -> None:
    assert live.ask("POST", PATH, *message([0])).status == 404


def test_what_becomes_of_copies_and_how_long_they_take_reaches_datadogs_agent(
    light: Path, ghost: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Sink().open() as sink:
        monkeypatch.setenv("DD_DOGSTATSD_URL", sink.url)
        with serving(light, ghost_url=ghost.url, ghost_sample_rate=1, report_seconds=0.5) as server:
            server.wait_for(200)
            assert [ask(server)[0] for _ in range(20)] == [200] * 20
            until(lambda: sink.total("ml.ghost.copies", result="sent") == 20)
            until(lambda: sink.named("ml.ghost.copy.seconds"))
        assert {line.tags["role"] for line in sink.named("ml.ghost.copy.seconds")} == {"live"}
        assert sink.total("ml.ghost.copies", result="sent") == 20
        assert 0 < sink.total("ml.ghost.copy.seconds") < 20


def test_copies_that_a_ghost_loses_reach_datadogs_agent(light: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sink().open() as sink:
        monkeypatch.setenv("DD_DOGSTATSD_URL", sink.url)
        with serving(light, role="ghost", ghost_queue=10, report_seconds=0.5) as ghost:
            ghost.wait_for(200)
            ghost.ask("POST", PATH, *message([0] * 30, json.dumps(BODY).encode()))
            until(lambda: sink.total("ml.ghost.copies", result="dropped") == 20)
        assert {line.tags["role"] for line in sink.named("ml.ghost.copies")} == {"ghost"}
        assert sink.total("ml.ghost.copies", result="sent") == 0


def test_agreement_with_the_live_answers_reaches_datadogs_agent(light: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sink().open() as sink:
        monkeypatch.setenv("DD_DOGSTATSD_URL", sink.url)
        with serving(light, role="ghost", report_seconds=0.5) as watched:
            watched.wait_for(200)
            for label in "0123456789":
                answer = json.dumps({"labels": [label]})
                assert ask(watched, **{COPY_HEADER: "1", LIVE_HEADER: answer})[0] == 202
            until(lambda: sink.total("ml.ghost.comparisons", agreement="different") == 9)
            until(lambda: sink.total("ml.ghost.comparisons", agreement="same") == 1)
