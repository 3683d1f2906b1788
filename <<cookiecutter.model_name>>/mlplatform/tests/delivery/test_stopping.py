"""Releases that are stopped or killed: what was begun is taken back or finished, by the command or by the next one."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import pytest

from mlplatform.delivery.releases import under_way
from mlplatform.delivery.releases.history import DONE, Entry, now
from mlplatform.store.releases import production
from mlplatform.tests.conftest import ROOT
from mlplatform.tests.delivery.conftest import VERSIONS, Delivery, Repository
from mlplatform.tests.delivery.releasing import deployed, history, image_of, in_cluster, objects

pytestmark = pytest.mark.apart

STEPS = 40


class Killer:
    """Runs commands that are stopped at a step, by killed.py."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __call__(self, number: signal.Signals, step: int | str, *arguments: str) -> tuple[int, bool]:
        """Exit code of a command, negative for a signal, and whether it came to this step."""
        assert self._process.stdin
        assert self._process.stdout
        asked = {"signal": number.name, "step": step, "arguments": arguments}
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        code, reached = json.loads(self._process.stdout.readline())
        return code, reached


@pytest.fixture
def killer(cluster: Repository) -> Iterator[Killer]:
    """Commands in the repository that are stopped at a step."""
    command = [sys.executable, "-m", "mlplatform.tests.delivery.killed"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    # What the commands say goes where this test's output goes; only answers of killed.py may be on its own output.
    with (
        (cluster.path.parent / "said").open("w") as said,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, env=environment, text=True
        ) as process,
    ):
        try:
            yield Killer(process)
        finally:
            assert process.stdin
            process.stdin.close()


def runs(cluster: Repository) -> str:
    """The model version in the pods of production."""
    labels = in_cluster(cluster, "under-test")["template"]["metadata"]["labels"]
    return str(labels["tags.datadoghq.com/version"]).partition("-")[0]


@pytest.mark.long
@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGTERM, marks=pytest.mark.nightly), signal.SIGKILL], ids=lambda number: number.name
)
def test_a_deploy_that_is_stopped_at_any_step_is_taken_back_or_recorded_and_the_next_one_works(
    cluster: Repository, delivery: Delivery, killer: Killer, number: signal.Signals
) -> None:
    images = {version: image_of(cluster, version) for version in VERSIONS[:2]}
    deployed(cluster, delivery, "production", VERSIONS[0])
    steps = set[str]()
    for step in range(1, STEPS):
        before, wanted = objects(cluster), VERSIONS[0] if runs(cluster) == VERSIONS[1] else VERSIONS[1]
        ran, entries = runs(cluster), history(cluster)
        code, reached = killer(number, step, "deploy", "--environment", "production", "--image", images[wanted])
        if not reached:
            assert (code, runs(cluster)) == (0, wanted)
            break
        if number == signal.SIGTERM:
            # It has cleaned up by itself: 130, or 0 where only recording remained. Before its mark it just ends.
            assert code in (130, 0, -signal.SIGTERM)
            assert list(cluster.store.keys(under_way.PREFIX)) == []
        assert delivery("status").code == 0
        assert list(cluster.store.keys(under_way.PREFIX)) == []
        said = history(cluster)[len(entries) :]
        assert len(said) <= 1
        if said and said[0]["outcome"] == DONE:
            assert (runs(cluster), production(cluster.store)) == (wanted, wanted)
            steps.add("recorded")
        else:
            assert (objects(cluster), production(cluster.store)) == (before, ran)
            assert not said or said[0]["outcome"] == "failed, rolled back"
            steps.add("taken back" if said else "not begun")
    assert steps == {"not begun", "taken back", "recorded"}


def test_what_a_stopped_command_cannot_take_back_at_once_the_next_one_does(
    cluster: Repository, delivery: Delivery, killer: Killer
) -> None:
    deployed(cluster, delivery, "production", VERSIONS[0])
    before, image = objects(cluster), image_of(cluster, VERSIONS[1])
    # From the signal on no change is answered.
    (cluster.programs / "hanging.json").write_text(json.dumps(["patch"]))
    asked = ("deploy", "--environment", "production", "--image", image)
    assert killer(signal.SIGTERM, "port_forward", *asked) == (130, True)
    said = (cluster.path.parent / "said").read_text()
    assert "deploy: stopped, and bbbbbbbbbbbb could not be taken back from production at once: the cluster does" in said
    assert objects(cluster) != before
    (cluster.programs / "hanging.json").unlink()
    status = delivery("status")
    assert "was cut off; rolled back: production runs aaaaaaaaaaaa-0123456 as before" in status.err
    assert objects(cluster) == before


class TestTwoAtOnce:
    """An environment has one release at a time."""

    def mark(self, cluster: Repository, **changes: Any) -> None:
        entry = Entry(now(), "ada", "staging", "deploy", "r/i@sha256:0", VERSIONS[0], "", DONE)
        found = under_way.Mark(entry, under_way.CHANGING, [], [], "", None, under_way.this_process())
        content = json.dumps(asdict(replace(found, **changes))).encode()
        cluster.store.write(f"{under_way.PREFIX}staging.json", content)

    def test_the_second_is_refused_and_status_names_the_first(self, cluster: Repository, delivery: Delivery) -> None:
        self.mark(cluster)
        said = delivery("deploy", "--environment", "staging", "--image", image_of(cluster, VERSIONS[1]))
        assert said.code == 3
        assert "the deploy of aaaaaaaaaaaa to staging by ada, begun " in said.err
        assert "is under way; wait until it has ended, or stop it" in said.err
        assert objects(cluster) == {}
        status = delivery("status")
        assert status.code == 0
        assert "the deploy of aaaaaaaaaaaa to staging by ada, begun " in status.out

    def test_one_of_another_machine_is_taken_over_when_it_gives_no_sign_of_life(
        self, cluster: Repository, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(under_way, "SILENT_SECONDS", 1)
        self.mark(cluster, owner="another/machine 1 1")
        said = delivery("deploy", "--environment", "staging", "--image", image_of(cluster, VERSIONS[1]))
        assert said.code == 0, said.err
        assert "the deploy of aaaaaaaaaaaa to staging by ada" in said.err
        assert "was cut off; nothing ran in staging before" in said.err

    def test_what_somebody_else_has_brought_meanwhile_stays(self, cluster: Repository, delivery: Delivery) -> None:
        deployed(cluster, delivery, "staging", VERSIONS[1])
        self.mark(cluster, phase=under_way.GIVEN_UP, version_before=VERSIONS[2])
        before = objects(cluster)
        status = delivery("status")
        assert status.code == 0, status.err
        assert "by now somebody else brought bbbbbbbbbbbb-0123456 to staging, which stays" in status.err
        assert objects(cluster) == before
