"""What a build does with the findings of its dataset version."""

import json
import logging
from pathlib import Path

import pytest

from mlplatform.config.settings import SettingsError, load
from mlplatform.data import review
from mlplatform.data.review import FindingsError, check_build
from mlplatform.data.settings import DataSettings
from mlplatform.store.storage import LocalStorage
from mlplatform.tests.data.conftest import Prepare, Run, clean, in_production

WORK = Path(".work")


@pytest.fixture
def store(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "store")


def contradicting(label: str = "yes") -> list[dict[str, object]]:
    """Records of which two have the same inputs and different labels."""
    records = clean()
    return [records[0] | {"label": "no"}, records[0] | {"id": "other", "label": label}, *records[1:]]


def test_a_build_logs_its_findings_once_and_keeps_them(
    prepare: Prepare, store: LocalStorage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    version = prepare(contradicting())
    for _ in range(2):
        check_build(store, version.id, WORK, load(DataSettings))
    said = [message for message in caplog.messages if message.startswith("data: contradiction")]
    assert len(said) == 1
    assert said[0].startswith("data: contradiction: 2 examples have the same inputs as one with another label (ids ")
    kept = json.loads(store.read(f"findings/{version.id}.json"))["findings"]
    assert kept[0]["kind"] == "contradiction"
    assert set(kept[0]["ids"]) == {"e0", "other"}


def test_a_finding_to_be_refused_stops_each_build_and_names_the_examples(prepare: Prepare, store: LocalStorage) -> None:
    version = prepare(contradicting())
    settings = load(DataSettings, {"refuse": ["contradiction"]})
    for _ in range(2):
        with pytest.raises(
            FindingsError, match=rf"^dataset {version.id}: 2 examples have .* \(ids (e0, other|other, e0)\)"
        ):
            check_build(store, version.id, WORK, settings)


def test_what_is_not_to_be_refused_stops_nothing(prepare: Prepare, store: LocalStorage) -> None:
    check_build(store, prepare(contradicting()).id, WORK, load(DataSettings, {"refuse": ["leak", "drift"]}))


def test_a_kind_that_was_not_looked_for_before_is_looked_for_now(prepare: Prepare, store: LocalStorage) -> None:
    version = prepare(contradicting())
    check_build(store, version.id, WORK, load(DataSettings, {"look_for": ["null"]}))
    with pytest.raises(FindingsError):
        check_build(store, version.id, WORK, load(DataSettings, {"refuse": ["contradiction"]}))


def test_drift_is_looked_for_again_once_another_model_is_in_production(prepare: Prepare, store: LocalStorage) -> None:
    version = prepare(clean(800))
    settings = load(DataSettings, {"refuse": ["drift"]})
    check_build(store, version.id, WORK, settings)
    in_production(store, prepare([r | {"size": r["size"] + 0.5} for r in clean(600)]))
    with pytest.raises(FindingsError, match=r"'size' is spread otherwise than in what v1, in production, learned from"):
        check_build(store, version.id, WORK, settings)


def test_of_a_large_version_only_what_is_to_be_refused_is_looked_for(
    prepare: Prepare, store: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(review, "LARGE_EXAMPLES", 100)
    version = prepare(contradicting())
    check_build(store, version.id, WORK, load(DataSettings))
    assert not store.exists(f"findings/{version.id}.json")
    with pytest.raises(FindingsError):
        check_build(store, version.id, WORK, load(DataSettings, {"refuse": ["contradiction"]}))


def test_the_report_refuses_what_the_settings_say_unless_told_otherwise(
    prepare: Prepare, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(contradicting())
    monkeypatch.setenv("DATA_REFUSE", "contradiction, leak")
    assert run("report", "latest")[0] == 3
    assert run("report", "latest", "--refuse", "leak")[0] == 0


def test_a_kind_that_is_none_is_refused_with_those_there_are(run: Run, prepare: Prepare) -> None:
    prepare(clean())
    with pytest.raises(SettingsError, match="'leek' is no kind of finding; there are: missing class, contradiction"):
        load(DataSettings, {"refuse": ["leek"]})
    assert run("report", "latest", "--refuse", "leek")[0] == 2


def test_findings_go_with_their_version(prepare: Prepare, store: LocalStorage, run: Run) -> None:
    version = prepare(contradicting())
    check_build(store, version.id, WORK, load(DataSettings))
    assert run("forget", "--id", "other")[0] == 0
    assert not store.exists(f"findings/{version.id}.json")
