"""One training of this repository's model, and a server of what it published, which all tests of the contract share.

They use the settings of service.toml, as `nox -s train` and `nox -s serve` do, but for one epoch, an open gate and a
store of their own. `TRAINING_SOURCE` and other `TRAINING_*` variables hold here too: a source of a few hundred records
makes the contract quick where the model's own is large.
"""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from mlplatform.contract.parameters import target
from mlplatform.contract.runtimes import exported_for
from mlplatform.store.manifest import Manifest, read_directory
from mlplatform.tests.conftest import ROOT, run
from mlplatform.tests.serving.running import NAME, Running, serving

ONE_EPOCH = ("--epochs", "1")
# The pipeline's own command line, told to stop as the training begins. A signal from outside might come too late. Where
# the team's own code trains, a signal ends the process there and then.
STOP_AT_THE_FIRST_STEP = """
import logging, sys
import model
from mlplatform.cli import cli
from mlplatform.contract.stopping import Stop, Stopped

class AtTheFirstStep(logging.Handler):
    def emit(self, record):
        stop.asked |= record.getMessage().startswith("train: on ")
        if stop.asked and callable(getattr(model, "train", None)):
            # The handler of standard output comes after this one.
            print(record.getMessage(), flush=True)
            stop.obey()

stop = Stop()
logging.getLogger("mlplatform").addHandler(AtTheFirstStep())
try:
    sys.exit(cli.main(["train", *sys.argv[1:]], standalone_mode=False, obj=stop))
except Stopped:
    sys.exit("stopped")
"""


@dataclass(frozen=True)
class Trained:
    """A working directory whose store holds one model, and how it came there.

    stopped: the end of a run that was told to stop at its first step. resumed: the end of the next, which published.
    """

    directory: Path
    stopped: subprocess.CompletedProcess[str]
    resumed: subprocess.CompletedProcess[str]

    @property
    def published(self) -> Path:
        """Directory of the model version, with its manifest. AssertionError unless there is exactly one."""
        assert self.resumed.returncode == 0, self.resumed.stdout + self.resumed.stderr
        versions = list((self.directory / "store" / "models").iterdir())
        assert len(versions) == 1, versions
        return versions[0]


def write_settings(directory: Path) -> None:
    """Write a service.toml with this repository's [training] and [serving], an open gate, and a store beside it."""
    given = tomllib.loads((ROOT / "service.toml").read_text(encoding="utf-8"))
    training = dict(given.get("training", {}))
    if training.get("source") and "://" not in training["source"]:
        training["source"] = str(ROOT / training["source"])
    asked = {part.name: part.default for part in target().parts}
    sections = {
        "service": {"name": NAME},
        "storage": {"url": str(directory / "store")},
        "training": training,
        "serving": given.get("serving", {}),
        **{
            replace(row, target=name if len(asked) > 1 else "").table: {
                "minimum" if row.facts.higher_is_better else "maximum": row.facts.worst
            }
            for name, row in asked.items()
        },
    }
    lines = []
    for section, values in sections.items():
        lines += [f"[{section}]", *(f"{name} = {_toml(value)}" for name, value in values.items())]
    (directory / "service.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _toml(value: Any) -> str:
    return str(value) if isinstance(value, float) else json.dumps(value)


def chosen_by_the_caller() -> dict[str, str]:
    """The caller's environment variables that are parameters of the training."""
    return {name: value for name, value in os.environ.items() if name.startswith("TRAINING_")}


def train(directory: Path) -> subprocess.CompletedProcess[str]:
    """`nox -s train` with one epoch, in a directory that `write_settings` prepared."""
    return run(directory, "train", *ONE_EPOCH, **chosen_by_the_caller())


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The model, trained in two attempts: the first is stopped at its first step."""
    directory = tmp_path_factory.mktemp("trained")
    write_settings(directory)
    stopped = subprocess.run(
        [sys.executable, "-c", STOP_AT_THE_FIRST_STEP, *ONE_EPOCH],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    return Trained(directory, stopped, train(directory))


@pytest.fixture(scope="session")
def manifest(trained: Trained) -> Manifest:
    """The manifest of the published version, every file of which was verified."""
    return read_directory(trained.published)[0]


@pytest.fixture(scope="session")
def instances(manifest: Manifest) -> list[dict[str, Any]]:
    """The samples that were published with the model: each input's value by its name."""
    return [sample["instance"] for sample in manifest.properties["samples"]]


@pytest.fixture(scope="session")
def server(trained: Trained, manifest: Manifest) -> Iterator[Running]:
    """The server with the runtime that the model was exported for."""
    with serving(trained.directory / "service.toml", runtime=exported_for(manifest.properties)) as running:
        running.wait_for(200)
        yield running
