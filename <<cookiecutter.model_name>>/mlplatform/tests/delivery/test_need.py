"""`submit --if-needed`: trains for a reason, and says which; else says why not."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlplatform.config.settings import load
from mlplatform.contract import events
from mlplatform.contract.events import Process
from mlplatform.contract.parameters import PipelineParameters
from mlplatform.delivery.jobs.need import Need, RetrainingSettings, needed
from mlplatform.store.releases import set_production
from mlplatform.store.storage import open_storage
from mlplatform.tests.delivery.conftest import Repository

NOW = datetime.now(UTC)
MODEL = "aaaaaaaaaaaa"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    (source / "records.jsonl").write_text("{}\n")
    return source


@pytest.fixture
def trained(repository: Repository, source: Path) -> Repository:
    """A store whose newest model, which is in production, was trained on all that the source holds."""
    baseline = {"classes": {"no": 0.5, "yes": 0.5}}
    repository.publish(MODEL, dataset="d0d0d0d0d0d0", baseline=baseline)
    set_production(repository.store, MODEL)
    files = [{"key": key, "identity": identity} for key, identity in open_storage(str(source)).identities("")]
    for name, value in {"files": files, "dataset-schema-0.15-0.15-0": {"version": "d0d0d0d0d0d0"}}.items():
        repository.store.write(f"gathered/0123456789abcdef/{name}.json", json.dumps(value).encode())
    return repository


def look(repository: Repository, source: Path | None, now: datetime = NOW) -> Need:
    parameters = load(PipelineParameters, {"source": str(source)} if source else {})
    return needed(repository.store, "under-test", parameters, load(RetrainingSettings), now)


def predicted(repository: Repository, no: int, yes: int) -> None:
    """So many predictions of each class by the live service, this minute."""
    process = Process("under-test", "live", MODEL, "host", "process")
    event = {"kind": "prediction", "at": NOW.timestamp(), "id": "x", "status": 200, "ms": 1.0}
    lines = [process.header(), {**event, "labels": ["no"] * no + ["yes"] * yes}]
    content = events.pack(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    repository.store.write(events.key(process, 0, NOW), content)


def test_the_first_model_is_needed(repository: Repository, source: Path) -> None:
    assert look(repository, source).reasons == ["there is no model yet"]


def test_a_young_model_of_the_same_data_that_predicts_as_expected_is_enough(trained: Repository, source: Path) -> None:
    predicted(trained, 260, 240)
    need = look(trained, source)
    assert need.reasons == []
    assert need.against[0] == f"{source} holds nothing that {MODEL} was not trained on"
    assert need.against[1].startswith(f"the newest model, {MODEL}, is ")
    assert need.against[2].startswith("the population stability index of 500 predicted classes is 0.00")


def test_new_data_is_a_reason(trained: Repository, source: Path) -> None:
    (source / "more.jsonl").write_text('{"x": 1}\n')
    (reason,) = look(trained, source).reasons
    assert reason == f"{source} holds 1 files that {MODEL} was not trained on, such as more.jsonl"


def test_an_old_model_is_a_reason(trained: Repository, source: Path) -> None:
    (reason,) = look(trained, source, NOW + timedelta(days=31)).reasons
    assert reason == f"the newest model, {MODEL}, is 31.0 days old, more than 30"


def test_drift_is_a_reason(trained: Repository, source: Path) -> None:
    predicted(trained, 450, 50)
    (reason,) = look(trained, source).reasons
    assert reason.startswith("the population stability index of 500 predicted classes is 0.8")
    assert reason.endswith(", more than 0.2")


def test_few_predictions_are_no_reason(trained: Repository, source: Path) -> None:
    predicted(trained, 10, 0)
    need = look(trained, source)
    assert need.reasons == []
    assert "10 predictions in 7 days are too few to judge drift by" in need.against


def test_data_bundled_with_the_model_is_not_looked_at(trained: Repository) -> None:
    assert look(trained, None).against[0] == "the data is bundled with the model"
