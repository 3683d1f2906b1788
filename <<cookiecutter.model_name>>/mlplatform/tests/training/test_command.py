"""`python -m mlplatform train`: from source data to a published model, and what it says when that fails."""

import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlplatform.cli import main
from mlplatform.contract.errors import ExitCode
from mlplatform.contract.parameters import target
from mlplatform.contract.result import JobResult, read_result
from mlplatform.store.manifest import read_directory
from mlplatform.store.storage import LocalStorage
from mlplatform.tests.conftest import Command
from mlplatform.tests.training.conftest import run

pytestmark = pytest.mark.long

QUICK = ("--epochs", "1", "--minimum-accuracy", "0")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A directory with a model in its store, and what training it printed."""
    directory = tmp_path_factory.mktemp("trained")
    (directory / "service.toml").write_text('[service]\nname = "under-test"\n')
    done = run(directory, "train", *QUICK, AWS_BATCH_JOB_ID="job-1")
    assert done.returncode == 0, done.stdout + done.stderr
    yield directory, done.stdout


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a command that is run in this process: TensorFlow takes seconds to start in another."""
    (tmp_path / "service.toml").write_text('[service]\nname = "under-test"\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def published(directory: Path) -> Path:
    (found,) = (directory / "store" / "models").iterdir()
    return found


def test_a_run_publishes_a_model_and_says_where(trained: tuple[Path, str]) -> None:
    directory, printed = trained
    path = published(directory)
    accuracy = read_directory(path)[0].properties["metrics"]["accuracy"]
    assert f"model version {path.name}, accuracy {accuracy:.4f}" in printed
    assert f"model   {path}" in printed


def test_the_model_carries_what_serving_needs_and_what_it_was_made_from(trained: tuple[Path, str]) -> None:
    manifest, content = read_directory(published(trained[0]))
    properties = manifest.properties
    assert (content / "saved_model" / "saved_model.pb").is_file()
    assert properties["name"] == "under-test"
    assert properties["labels"] == list(target().labels)
    assert properties["signature"]["outputs"] == [
        {"name": "probabilities", "shape": [None, len(target().labels)], "dtype": "float32"}
    ]
    assert properties["parameters"]["epochs"] == 1
    assert properties["runtimes"]["tensorflow"] == {"path": "saved_model", "valid": True}
    assert properties["runtimes"]["litert"]["valid"] == (content / "model.tflite").is_file()
    assert (trained[0] / "store" / "datasets" / properties["dataset"] / "manifest.json").is_file()
    assert set(properties["packages"]) == {"tensorflow", "keras", "numpy"}
    assert all(sample["label"] in target().labels for sample in properties["samples"])


def test_a_job_writes_which_model_it_led_to(trained: tuple[Path, str]) -> None:
    path = published(trained[0])
    manifest, content = read_directory(path)
    report = f"models/{path.name}/{manifest.content}/report.html"
    result = read_result(LocalStorage(trained[0] / "store"), "job-1")
    assert result == JobResult(ExitCode.DONE, model=path.name, report=report)
    assert (content / "report.html").is_file()


def test_a_second_run_has_nothing_to_do(trained: tuple[Path, str]) -> None:
    again = run(trained[0], "train", *QUICK)
    assert again.returncode == 0
    assert "nothing to do" in again.stdout
    assert "epoch" not in again.stdout


def test_a_dataset_gathered_before_can_be_named(trained: tuple[Path, str]) -> None:
    version = read_directory(published(trained[0]))[0].properties["dataset"]
    again = run(trained[0], "train", *QUICK, "--dataset", version)
    assert again.returncode == 0
    assert "nothing to do" in again.stdout


def train_on_noise(directory: Path) -> subprocess.CompletedProcess[str]:
    """Train where the gate stays closed, on labels that nothing can be learned from."""
    chance = random.Random(0)
    rows = [{"x": [chance.random() for _ in range(4)], "label": chance.choice(["no", "yes"])} for _ in range(200)]
    (directory / "data").mkdir()
    (directory / "data" / "noise.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    arguments = ("--source", "data", "--epochs", "1", "--minimum-accuracy", "0.9")
    return run(directory, "train", *arguments, AWS_BATCH_JOB_ID="job-1")


@pytest.mark.usefixtures("command")
def test_a_model_that_is_not_good_enough_is_not_published(tmp_path: Path) -> None:
    done = train_on_noise(tmp_path)
    assert done.returncode == 4, done.stderr
    assert "is below minimum 0.9 of [gate.accuracy]; nothing is published" in done.stderr
    assert not (tmp_path / "store" / "models").exists()
    assert list((tmp_path / "store" / "runs").rglob("metrics.json"))
    result = read_result(LocalStorage(tmp_path / "store"), "job-1")
    assert result is not None
    assert len(result.reasons) == 2
    assert (result.exit_code, result.message) == (
        ExitCode.GATE_CLOSED,
        f"{'; '.join(result.reasons)}; nothing is published",
    )
    assert f"  report {tmp_path / 'store'}/{result.report}" in done.stderr
    assert (tmp_path / "store" / str(result.report)).is_file()


def test_wrong_records_are_shown_by_file_and_row(command: Command, tmp_path: Path) -> None:
    source = tmp_path / "data"
    source.mkdir()
    (source / "records.jsonl").write_text("\n" + json.dumps({"label": "unheard of"}))
    done = command("train", "--source", str(source))
    assert done.returncode == 3
    assert "1 records do not fit model.RECORD:\n  records.jsonl row 2: " in done.stderr
    assert "maximum_bad_records = 0 allows 0 of " in done.stderr
    (problems,) = (tmp_path / "store").rglob("problems-*.jsonl")
    assert json.loads(problems.read_text())["row"] == 2
    assert f"all of them: {problems}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--epochs", "0"), "training.epochs = '0' (argument): input should be greater than or equal to 1"),
        (("--epoch", "5"), "No such option '--epoch'. Did you mean '--epochs'?"),
        (("--dataset", "x"), "training.dataset = 'x' (argument): string should match pattern"),
        (("--validation-fraction", "0.45", "--test-fraction", "0.45"), "must leave at least 0.2 for training"),
    ],
)
def test_wrong_parameters_are_named(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert main(["train", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (here / "store").exists(), "only a job writes a result"


SOURCE = "source 'nowhere': must be a directory that exists, or s3://bucket/prefix"


def test_a_source_that_is_not_there_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--source", "nowhere"]) == 3
    assert SOURCE in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--source", "nowhere"), ExitCode.REFUSED, SOURCE),
        (("--epochs", "0"), ExitCode.BAD_REQUEST, "training.epochs = '0' (argument): input should be greater than or"),
    ],
)
def test_a_job_writes_why_it_failed(
    here: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: ExitCode, message: str
) -> None:
    monkeypatch.setenv("AWS_BATCH_JOB_ID", "job-2")
    assert main(["train", *arguments]) == code
    result = read_result(LocalStorage(here / "store"), "job-2")
    assert result is not None
    assert result.exit_code == code
    assert result.message.startswith(message)
