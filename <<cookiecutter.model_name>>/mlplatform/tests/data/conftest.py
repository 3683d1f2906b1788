"""Dataset versions of made-up records, stored requests, and the command that looks at them."""

import base64
import json
import random
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mlplatform.cli import main
from mlplatform.contract import events
from mlplatform.contract.events import Process
from mlplatform.contract.targets import Classes
from mlplatform.data import distributions
from mlplatform.data.catalog import fetch
from mlplatform.data.dataset import InputSpec, Schema
from mlplatform.data.splitting import SplitRule
from mlplatform.store import manifest, releases
from mlplatform.store.manifest import Manifest
from mlplatform.store.storage import LocalStorage
from mlplatform.tests.data.test_dataset import prepared_source

SCHEMA = Schema(
    record={"type": "object"},
    inputs=(
        InputSpec("size", (), "float32"),
        InputSpec("row", (8,), "float32"),
        InputSpec("text", (), "string"),
    ),
    target=Classes("label", ("no", "yes")),
)

Prepare = Callable[..., Manifest]
Run = Callable[..., tuple[int, str, str]]


def clean(count: int = 400) -> list[dict[str, Any]]:
    """Records in which nothing is to be found."""
    chance = random.Random(1)
    return [
        {
            "id": f"e{i}",
            "size": chance.uniform(1, 2),
            "row": [chance.gauss(0, 1) for _ in range(8)],
            "text": f"The {chance.getrandbits(64):x} and the {chance.getrandbits(64):x}",
            "label": chance.choice(["no", "yes"]),
        }
        for i in range(count)
    ]


@pytest.fixture
def prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """Make a dataset version of records, in the store of a directory that is the current one from then on."""
    (tmp_path / "service.toml").write_text('[service]\nname = "under-test"\n')
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".work").mkdir()

    def prepared(records: list[dict[str, Any]], rule: SplitRule | None = None) -> Manifest:
        source = tmp_path / "source"
        source.mkdir(exist_ok=True)
        (source / "records.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
        return prepared_source(source, tmp_path / "store", tmp_path / ".work", SCHEMA, rule=rule)[0]

    return prepared


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run `data` in this process: exit code, and what it says."""

    def ran(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main(["data", *arguments])
        return int(code), *capfd.readouterr()

    return ran


def made_before(version: Manifest, moment: str) -> None:
    """Let a version be an older one."""
    path = Path("store") / "datasets" / version.id / manifest.MANIFEST
    path.write_bytes(replace(version, created_at=moment).to_json())


def in_production(storage: LocalStorage, version: Manifest) -> None:
    """Let a model that learned from a version be in production."""
    empty = Path("empty")
    empty.mkdir()
    train = fetch(storage, version, Path(".work")).split("train")
    baseline = {**distributions.describe(train, SCHEMA.inputs), "examples": {"train": len(train), "test": 100}}
    manifest.publish(storage, "models/v1", empty, "model", "v1", {"baseline": baseline})
    releases.set_production(storage, "v1")


AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
ROW = [0.0, 1.0]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The team's package; the current directory holds a service.toml."""
    (tmp_path / "service.toml").write_text('[service]\nname = "under-test"\n[data]\ntraffic_consent = true\n')
    monkeypatch.chdir(tmp_path)
    properties: dict[str, Any] = {"id": {}, "image": {}, "label": {}, "model": {}, "predicted": {}}
    package = ModuleType("model")
    package.__dict__["LABELS"] = ("7", "3")
    package.__dict__["RECORD"] = {"type": "object", "properties": properties}
    monkeypatch.setitem(sys.modules, "model", package)
    return package


def stored(*lines: dict[str, Any], role: str = "live", number: int = 0) -> None:
    """A segment of events in the store."""
    process = Process("under-test", role, "v1", "host", role)
    content = "".join(json.dumps(line) + "\n" for line in (process.header(), *lines))
    LocalStorage(Path("store").absolute()).write(events.key(process, number, AT), events.pack(content.encode()))


def prediction(request: str, body: Any, **changes: Any) -> dict[str, Any]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    event = {"kind": "prediction", "at": AT.timestamp() + 1, "id": request, "status": 200, "ms": 1.0, "labels": ["p"]}
    return event | {"body": base64.b64encode(content).decode()} | changes


def label(request: str, *labels: str | None, later: float = 9) -> dict[str, Any]:
    return {"kind": "label", "at": AT.timestamp() + later, "id": request, "labels": list(labels)}
