"""What a training command tells Datadog's agent, and its log where that is read by a program."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlplatform.cli import main
from mlplatform.contract.errors import ExitCode
from mlplatform.telemetry.registry import METRICS
from mlplatform.tests.conftest import run
from mlplatform.tests.telemetry.sink import Sink, until
from mlplatform.tests.training.test_command import QUICK, train_on_noise


@pytest.fixture
def sink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sink]:
    (tmp_path / "service.toml").write_text('[service]\nname = "under-test"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOG_FORMAT", "text")
    with Sink().open() as opened:
        monkeypatch.setenv("DD_DOGSTATSD_URL", opened.url)
        yield opened


def test_every_training_metric_arrives_with_its_kind_and_its_tags(sink: Sink) -> None:
    assert main(["train", *QUICK, "--litert", "false"]) == ExitCode.DONE
    until(lambda: sink.named("ml.training.runs"))
    ours = {name: metric for name, metric in METRICS.items() if metric.sender == "training"}
    assert {line.name: line.kind for line in sink.lines} == {name: metric.kind for name, metric in ours.items()}
    for line in sink.lines:
        assert line.tags.keys() == {"service", "role", *ours[line.name].tags}
    assert sink.named("ml.training.progress")[-1].values == (1.0,)
    assert "val_accuracy" in {line.tags["metric"] for line in sink.named("ml.training.metric")}
    assert sink.total("ml.training.runs", outcome="published") == 1


def test_a_model_that_is_not_good_enough_counts_as_refused(sink: Sink, tmp_path: Path) -> None:
    assert train_on_noise(tmp_path).returncode == ExitCode.GATE_CLOSED
    until(lambda: sink.total("ml.training.runs"))
    assert sink.total("ml.training.runs", outcome="refused") == 1


def test_a_command_that_cannot_go_on_counts_as_failed(sink: Sink) -> None:
    assert main(["train", "--source", "nowhere"]) != ExitCode.DONE
    until(lambda: sink.total("ml.training.runs"))
    assert sink.total("ml.training.runs", outcome="failed") == 1


def test_its_log_is_json_where_a_program_reads_it(tmp_path: Path) -> None:
    (tmp_path / "service.toml").write_text('[service]\nname = "under-test"\n')
    failed = run(tmp_path, "train", "--source", "nowhere", LOG_FORMAT="json")
    lines = [json.loads(line) for line in failed.stdout.splitlines()]
    assert lines[-1]["status"] == "error"
    assert "nowhere" in lines[-1]["message"]
    assert {line["dd.service"] for line in lines} == {"under-test"}
