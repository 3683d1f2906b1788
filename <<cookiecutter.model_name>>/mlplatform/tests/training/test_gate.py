"""The gate: what opens it and what closes it, to the exact boundary; and what a run does when it is closed."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

import model
from mlplatform.cli import main
from mlplatform.contract.comparison import Comparison, Opponent
from mlplatform.contract.criteria import Criteria, Criterion
from mlplatform.contract.gate import Verdict, judge, why_incomparable
from mlplatform.contract.opponent import in_production
from mlplatform.contract.parameters import target
from mlplatform.contract.targets import Classes
from mlplatform.contract.targets.class_measures import Sample
from mlplatform.data.dataset import Split
from mlplatform.store import releases
from mlplatform.store.manifest import Manifest, fetch, list_artifacts, read
from mlplatform.store.storage import LocalStorage
from mlplatform.training import production

# A checker of types finds no build in a repository whose model is made by train.
BUILD: Any = vars(model)["build"]

pytestmark = pytest.mark.long

CRITERIA = Criteria()
TARGET = Classes("label", ("no", "fraud"))


def metrics(**changes: Any) -> dict[str, Any]:
    return {"examples": 1000, "accuracy": 0.95, "invalid": 0, "export_difference": 1e-7, **changes}


def compared(both: int, only_model: int, only_production: int, neither: int = 0) -> Opponent:
    return Opponent(Comparison("c0ffee", both, only_model, only_production, neither))


def counted(opponent: Opponent) -> Comparison:
    assert isinstance(opponent.comparison, Comparison)
    return opponent.comparison


def verdict(opponent: Opponent, **changes: Any) -> Verdict:
    return judge(TARGET, metrics(**changes), CRITERIA, opponent)


NO_PRODUCTION = Opponent(skipped="there is no model in production yet")


def test_a_good_model_passes_when_there_is_nothing_to_compare_with() -> None:
    assert verdict(NO_PRODUCTION).passed


def test_exactly_the_minimum_accuracy_is_enough() -> None:
    assert verdict(NO_PRODUCTION, accuracy=9 / 10).passed
    (reason,) = verdict(NO_PRODUCTION, accuracy=0.8999999).reasons
    assert reason == "accuracy 0.8999999 on the test split is below minimum 0.9 of [gate.accuracy]"


def test_an_exported_model_that_predicts_something_else_is_refused() -> None:
    assert verdict(NO_PRODUCTION, export_difference=1e-4).passed
    (reason,) = verdict(NO_PRODUCTION, export_difference=2e-4).reasons
    assert "differ from the trained model's by 0.0002, more than the 0.0001 that rounding explains" in reason


def test_a_difference_that_is_no_number_closes_the_gate() -> None:
    (reason,) = verdict(NO_PRODUCTION, export_difference=None).reasons
    assert "not all are finite" in reason


def test_predictions_that_are_no_probabilities_close_the_gate() -> None:
    (reason,) = verdict(NO_PRODUCTION, invalid=3).reasons
    assert "for 3 of 1000 test examples are no probabilities" in reason


def test_every_reason_is_named() -> None:
    opponent = compared(both=900, only_model=0, only_production=100)
    assert len(verdict(opponent, accuracy=0.5, export_difference=1.0, invalid=1).reasons) == 4


def test_a_production_model_that_cannot_be_compared_with_closes_the_gate() -> None:
    assert verdict(Opponent(unusable="model c0ffee, in production, is damaged")).reasons == (
        "model c0ffee, in production, is damaged",
    )


def test_a_loss_of_exactly_the_margin_is_allowed() -> None:
    # 10 of 1000 lost, 40 won and 50 lost: nothing that chance would not do (p = 0.34).
    assert verdict(compared(both=900, only_model=40, only_production=50, neither=10)).passed


def test_a_loss_of_more_than_the_margin_is_refused_whatever_chance_says() -> None:
    (reason,) = verdict(compared(both=899, only_model=40, only_production=51, neither=10)).reasons
    assert reason == (
        "accuracy is 0.0110 lower than that of c0ffee in production on the same 1000 test examples, more than "
        "maximum_regression 0.01"
    )


def test_a_loss_within_the_margin_that_is_no_chance_and_may_be_more_is_refused() -> None:
    # 6 of 1000 lost may be chance, p = 0.07.
    assert verdict(compared(both=990, only_model=1, only_production=7, neither=2)).passed
    opponent = compared(both=975, only_model=3, only_production=12, neither=10)
    (reason,) = verdict(opponent).reasons
    assert "which is no chance (McNemar's exact test, p = 0.035)" in reason
    assert "may really be 0.0137, more than maximum_regression 0.01" in reason


def test_a_loss_that_is_certain_to_be_within_the_margin_is_what_the_margin_allows() -> None:
    # A loss of 0.1 % that is beyond doubt, and that it is less than 1 % too.
    opponent = compared(both=99_000, only_model=200, only_production=300, neither=500)
    assert counted(opponent).p_value() < 1e-5
    assert verdict(opponent).passed


def test_no_loss_is_allowed_with_a_margin_of_nothing() -> None:
    strict = Criteria((Criterion("accuracy", minimum=0.9, maximum_regression=0.0),))
    assert judge(TARGET, metrics(), strict, compared(990, 5, 5)).passed
    assert not judge(TARGET, metrics(), strict, compared(990, 4, 5, 1)).passed


def test_a_better_model_passes_however_certain_that_is() -> None:
    assert verdict(compared(both=900, only_model=100, only_production=0)).passed


def test_answers_are_counted_example_by_example() -> None:
    true = np.array([0, 1, 2, 0, 1])
    model, other = (Sample(("a", "b", "c"), true, np.array(said)) for said in ([0, 1, 0, 0, 0], [0, 0, 2, 0, 0]))
    opponent = TARGET.compare("c0ffee", model, other, CRITERIA)
    found = counted(opponent)
    assert (found.both, found.only_model, found.only_production, found.neither) == (2, 1, 1, 1)
    assert (found.examples, found.difference) == (5, 0.0)
    assert {label: of_label.examples for label, of_label in opponent.classes.items()} == {"a": 2, "b": 2, "c": 1}


def rare(found: int, false_alarms: int = 0, of: int = 20, rows: int = 4000) -> Sample:
    """A model that finds so many of the rare examples, and calls so many of the others rare; 1 : 200."""
    true = np.repeat([1, 0], [of, rows - of])
    said = np.zeros(rows, np.int64)
    said[:found] = 1
    said[of : of + false_alarms] = 1
    return Sample(("no", "fraud"), true, said)


def rare_verdict(model: Sample, *rows: Criterion, opponent: Opponent = NO_PRODUCTION, **changes: Any) -> Verdict:
    criteria = Criteria(rows) if rows else CRITERIA
    accuracy = float((model.predicted == model.true).mean())
    measured = metrics(examples=len(model), accuracy=accuracy, **changes)
    return judge(TARGET, measured, criteria, opponent, TARGET.against_constant(model, criteria))


def test_a_model_that_always_says_no_at_one_in_two_hundred_is_refused() -> None:
    (reason,) = rare_verdict(rare(found=0)).reasons
    assert reason == "always answering 'no' is not certainly worse (95 %): accuracy is 0.9950 against 0.9950"


def test_a_model_that_is_ahead_of_always_saying_no_by_chance_alone_is_refused() -> None:
    assert not rare_verdict(rare(found=5)).passed
    assert rare_verdict(rare(found=6)).passed


def test_a_model_that_finds_what_is_rare_at_the_price_of_false_alarms_is_judged_by_what_is_asked_for() -> None:
    model = rare(found=16, false_alarms=60)
    assert not rare_verdict(model).passed
    classes = {"fraud": {"examples": 20, "recall": 0.8}}
    recall = Criterion("recall.fraud", minimum=0.7)
    assert rare_verdict(model, recall, classes=classes).passed
    (reason,) = rare_verdict(model, Criterion("recall.fraud", minimum=0.9), classes=classes).reasons
    assert reason == "recall.fraud 0.8000 on the test split is below minimum 0.9 of [gate.recall.fraud]"


def test_where_a_minimum_of_zero_asks_for_nothing_any_model_passes() -> None:
    assert rare_verdict(rare(found=0), Criterion("accuracy", minimum=0.0)).passed


def test_a_metric_where_lower_is_better_has_a_maximum() -> None:
    criteria = Criteria((Criterion("log_loss", maximum=0.3),))
    assert judge(TARGET, metrics(log_loss=0.3), criteria, NO_PRODUCTION).passed
    (reason,) = judge(TARGET, metrics(log_loss=0.4), criteria, NO_PRODUCTION).reasons
    assert reason == "log_loss 0.4000 on the test split is above maximum 0.3 of [gate.log_loss]"


def test_a_table_for_each_class_asks_it_of_every_class_that_has_examples() -> None:
    criteria = Criteria((Criterion("recall", minimum=0.5),))
    classes = {"cat": {"recall": 0.6}, "dog": {"recall": 0.4}, "owl": {"recall": None}}
    (reason,) = judge(TARGET, metrics(classes=classes), criteria, NO_PRODUCTION).reasons
    assert reason == "recall.dog 0.4000 on the test split is below minimum 0.5 of [gate.recall]"


def test_a_figure_that_the_test_split_does_not_give_closes_the_gate() -> None:
    (reason,) = judge(TARGET, metrics(), Criteria((Criterion("macro_f1", minimum=0.5),)), NO_PRODUCTION).reasons
    assert reason.startswith("macro_f1 has no value on the test split, and [gate.macro_f1] asks for one")


def test_recall_of_a_rare_class_that_is_certainly_lost_is_refused_though_accuracy_hides_it() -> None:
    opponent = TARGET.compare("c0ffee", rare(found=12), rare(found=20), CRITERIA)
    (reason,) = rare_verdict(rare(found=12), opponent=opponent).reasons
    assert reason == (
        "recall is certainly lost (95 % over all classes): of 'fraud' it finds 12 and c0ffee 20 of 20 test examples"
    )


def test_recall_of_a_class_that_may_be_lost_by_chance_is_not_refused() -> None:
    opponent = TARGET.compare("c0ffee", rare(found=17), rare(found=20), CRITERIA)
    assert rare_verdict(rare(found=17), opponent=opponent).passed


def test_a_metric_that_is_worse_than_productions_by_more_than_its_margin_is_refused() -> None:
    row = Criterion("balanced_accuracy", minimum=0.5, maximum_regression=0.05)
    for lost, passes in ((2, True), (3, False)):
        model, live = rare(found=20 - lost), rare(found=20)
        opponent = TARGET.compare("c0ffee", model, live, Criteria((row,)))
        verdict = rare_verdict(model, row, opponent=opponent, balanced_accuracy=1 - lost / 40)
        assert verdict.passed is passes
    assert verdict.reasons == (
        "balanced_accuracy is 0.0750 lower than that of c0ffee in production on the same 4000 test examples, more than "
        "maximum_regression 0.05",
    )


def test_a_comparison_is_read_from_a_verdict_as_it_was_written() -> None:
    row = Criterion("macro_f1", minimum=0.5, maximum_regression=0.05)
    opponent = TARGET.compare("c0ffee", rare(found=12), rare(found=20), Criteria((row,)))
    written = json.loads(json.dumps(rare_verdict(rare(found=12), row, opponent=opponent).to_json(), allow_nan=False))
    assert Opponent.from_json(written) == opponent


@pytest.mark.parametrize(
    ("won", "lost", "p_value"),
    [
        # Twice the tail of a fair coin: 2 (1 + 8) / 2^8, and so on.
        (1, 7, 2 * (1 + 8) / 2**8),
        (0, 6, 2 / 2**6),
        (3, 9, 2 * (1 + 12 + 66 + 220) / 2**12),
        (5, 5, 1.0),
        (0, 0, 1.0),
        # Bland (2000), An Introduction to Medical Statistics, 13.9: severe colds of 1319 children at 12 and at 14.
        (256, 144, binomtest(144, 400).pvalue),
    ],
)
def test_mcnemars_test_is_exact(won: int, lost: int, p_value: float) -> None:
    assert Comparison("c0ffee", 500, won, lost, 0).p_value() == pytest.approx(p_value, rel=1e-9)


@pytest.mark.parametrize("lost", range(13))
def test_the_interval_excludes_zero_exactly_when_the_test_is_significant(lost: int) -> None:
    found = Comparison("c0ffee", 500, 12 - lost, lost, 0)
    interval = found.interval()
    assert interval.low <= found.difference <= interval.high
    assert (interval.low > 0 or interval.high < 0) == (found.p_value() < 0.05)


@pytest.mark.parametrize(
    ("won", "lost", "examples"), [(12, 2, 50), (1, 7, 50), (3, 3, 1000), (5, 0, 20), (40, 60, 300)]
)
def test_the_score_interval_ends_where_the_score_is_at_its_limit(won: int, lost: int, examples: int) -> None:
    def score(difference: float) -> float:
        """Tango's statistic, its nuisance parameter by brute force."""
        shares = np.linspace(max(0.0, -difference), (1 - difference) / 2, 200_001)[1:-1]
        rest = examples - won - lost
        likelihood = (won and won * np.log(shares + difference)) + (lost and lost * np.log(shares))
        best = shares[np.argmax(likelihood + rest * np.log(1 - 2 * shares - difference))]
        variance = examples * (2 * best + difference * (1 - difference))
        return float((won - lost - examples * difference) / np.sqrt(variance))

    found = Comparison("c0ffee", examples - won - lost, won, lost, 0).score_interval()
    assert score(found.low) == pytest.approx(1.959964, abs=1e-3)
    assert score(found.high) == pytest.approx(-1.959964, abs=1e-3)


@pytest.mark.parametrize("examples", [10, 380])
def test_models_that_never_differ_may_differ_in_examples_not_seen(examples: int) -> None:
    found = Comparison("c0ffee", examples, 0, 0, 0).score_interval()
    limit = 3.841459 / (examples + 3.841459)
    assert [found.low, found.high] == pytest.approx([-limit, limit], rel=1e-5)


def test_models_that_never_differ_have_no_difference() -> None:
    found = Comparison("c0ffee", 500, 0, 0, 3)
    assert (found.interval().low, found.interval().high) == (0.0, 0.0)


GRID = {"name": "grid", "shape": [None, 2, 2], "dtype": "float32"}
TRAINED = {"signature": {"inputs": [GRID]}, "labels": ["no", "yes"], "parameters": {"test_fraction": 0.2}}


def live_model(**properties: Any) -> Manifest:
    return Manifest("model", "c0ffee", "", "", {}, {**TRAINED, **properties})


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({}, ""),
        ({"labels": ["no", "maybe"]}, "it knows other labels: maybe only there; yes only here"),
        ({"labels": ["yes", "no"]}, "it knows other labels: the same in another order"),
        (
            {"signature": {"inputs": [{**GRID, "shape": [None, 3, 3]}]}},
            "it takes other inputs: grid float32[3, 3] only there; grid float32[2, 2] only here",
        ),
    ],
)
def test_a_model_of_another_task_is_told_by_its_inputs_and_labels(properties: dict[str, Any], reason: str) -> None:
    assert why_incomparable(live_model(**properties).properties, TRAINED) == reason


@pytest.mark.parametrize(("fraction", "told"), [(0.1, True), (0.2, False), (0.3, False)])
def test_a_test_split_that_has_grown_since_is_told(fraction: float, told: bool) -> None:
    assert production.may_have_learned(live_model(parameters={"test_fraction": fraction}), TRAINED) is told


def test_where_near_duplicates_are_together_the_test_split_may_be_another_one() -> None:
    kept = {"test_fraction": 0.2, "near_duplicates_together": True}
    assert production.may_have_learned(live_model(), {**TRAINED, "parameters": kept})
    assert production.may_have_learned(live_model(parameters=kept), {**TRAINED, "parameters": kept})


# What a person sees. Run in this process, because TensorFlow takes seconds to start in another, with networks that know
# nothing and a production that knows everything, whatever model this repository holds.
FIRST = ("--epochs", "1", "--seed", "1", "--minimum-accuracy", "0", "--litert", "false")
SECOND = ("--epochs", "1", "--seed", "2", "--minimum-accuracy", "0", "--litert", "false")
# Asked for something else, the same run is judged anew.
ANEW = (*SECOND, "--maximum-regression", "0.02")


def build_ignorant(hyperparameters: Any, build: Any = BUILD) -> Any:
    """The model's network, always answering with the first label."""
    network = build(hyperparameters)
    network.optimizer.learning_rate = 0.0
    for weights in network.trainable_weights:
        weights.assign(np.zeros(weights.shape))
    return network


def predict_truly(exported: Any, split: Split, batch_size: int) -> Any:
    """A probability of 1 for what is true."""
    return np.eye(len(target().labels), dtype=np.float32)[split.column("label", np.arange(len(split)))]


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a model in production and a run that was refused against it."""
    directory = tmp_path_factory.mktemp("released")
    (directory / "service.toml").write_text('[service]\nname = "under-test"\n')
    storage = LocalStorage(directory / "store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        patch.setattr(model, "build", build_ignorant)
        patch.setattr(production, "predict_split", predict_truly)
        assert main(["train", *FIRST]) == 0
        releases.set_production(storage, list_artifacts(storage, "models")[0].id)
        assert main(["train", *SECOND]) == 4
    return directory


@pytest.fixture
def here(released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalStorage:
    """The store of a working directory of one's own, a copy of `released`."""
    shutil.copytree(released, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(production, "predict_split", predict_truly)
    return LocalStorage(tmp_path / "store")


def test_the_model_carries_its_report_its_metrics_and_the_verdict(here: LocalStorage) -> None:
    (published,) = list_artifacts(here, "models")
    assert {"report.html", "metrics.json", "saved_model/saved_model.pb"} <= set(published.files)
    content = here.root / "models" / published.id / published.content
    properties = published.properties
    assert json.loads((content / "metrics.json").read_text()) == properties["metrics"]
    assert properties["gate"]["passed"] is True
    assert properties["gate"]["skipped"] == "there is no model in production yet"
    assert set(properties["baseline"]["inputs"]) == {
        each["name"] for each in properties["signature"]["inputs"] if each["dtype"] != "string"
    }
    assert set(properties["metrics"]["inference_ms"]) == {"1", "32"}
    size = sum(entry.bytes for name, entry in published.files.items() if name.startswith("saved_model/"))
    assert properties["metrics"]["bytes"] == size


def test_a_model_worse_than_production_is_not_published(here: LocalStorage, capsys: pytest.CaptureFixture[str]) -> None:
    before = here.read(releases.PRODUCTION)
    assert main(["train", *SECOND]) == 4
    said = capsys.readouterr().err
    assert f"lower than that of {releases.production(here)} in production on the same " in said
    assert "more than maximum_regression 0.01; nothing is published" in said
    assert "Traceback" not in said
    report = Path(said.strip().splitlines()[-1].removeprefix("  report "))
    assert "The gate is closed" in report.read_text(encoding="utf-8")
    assert (report.parent / "metrics.json").is_file()
    assert [model.id for model in list_artifacts(here, "models")] == [releases.production(here)]
    assert here.read(releases.PRODUCTION) == before


def test_a_published_run_is_judged_anew_by_what_is_asked_now(
    here: LocalStorage, capsys: pytest.CaptureFixture[str]
) -> None:
    (published,) = list_artifacts(here, "models")
    assert main(["train", *FIRST, "--minimum-accuracy", "1"]) == 4
    said = capsys.readouterr().err
    assert "is below minimum 1 of [gate.accuracy]" in said
    assert f"model version {published.id}, published before, stays as it is" in said
    assert read(here, f"models/{published.id}") == published
    assert main(["train", *FIRST]) == 0


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda root: shutil.rmtree(root / "models"), "said to be in production, is not in"),
        (
            lambda root: next(root.glob("models/*/*/saved_model/saved_model.pb")).write_bytes(b""),
            "in production, is damaged: ",
        ),
        (lambda root: (root / "releases/production.json").write_text("{"), "the model in production is not known"),
    ],
    ids=["missing", "damaged", "pointer"],
)
def test_without_a_sound_production_model_the_gate_is_closed_until_it_is_mended(
    here: LocalStorage, capsys: pytest.CaptureFixture[str], tmp_path: Path, damage: Any, reason: str
) -> None:
    shutil.copytree(here.root, tmp_path / "sound")
    damage(here.root)
    assert main(["train", *ANEW]) == 4
    said = capsys.readouterr().err
    assert reason in said
    assert "nothing is published" in said
    assert "Traceback" not in said
    shutil.copytree(tmp_path / "sound", here.root, dirs_exist_ok=True)
    assert main(["train", *ANEW]) == 4
    assert "more than maximum_regression 0.02" in capsys.readouterr().err


def test_a_production_model_of_another_task_is_not_compared_with(here: LocalStorage) -> None:
    key = f"models/{releases.production(here)}"
    live = read(here, key)
    labels = ["another", *live.properties["labels"][1:]]
    targets = [Classes("label", labels).to_json()]
    here.write(f"{key}/manifest.json", replace(live, properties={**live.properties, "targets": targets}).to_json())
    assert main(["train", *ANEW]) == 0
    (newer,) = (each for each in list_artifacts(here, "models") if each.id != releases.production(here))
    assert newer.properties["gate"]["skipped"] == (
        f"model {releases.production(here)} is in production, and it knows other labels: another only there; "
        f"{target().labels[0]} only here"
    )


def test_production_is_asked_what_it_predicts_for_the_same_examples(
    released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(released)
    storage = LocalStorage(released / "store")
    current = in_production(storage)
    assert current is not None
    prepared, content = fetch(storage, f"datasets/{current.properties['dataset']}", tmp_path)
    test = Split(content, "test", [each["name"] for each in prepared.properties["inputs"]])
    _, evaluated = fetch(storage, f"runs/{current.id}/evaluation", tmp_path)
    found = production.predict(current, storage, tmp_path, test, batch_size=7)
    assert found == pytest.approx(np.load(evaluated / "predictions.npy"), abs=1e-6)


def rows(labels: list[Any]) -> str:
    """Records whose sum is positive where the label is the second of two."""
    generator = np.random.default_rng(3)
    second = labels[-1]
    made = [
        {"x": (np.abs(generator.normal(size=4)) * (1 if label == second else -1)).tolist(), "label": label}
        for label in labels
    ]
    return "\n".join(json.dumps(row) for row in made)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of records in a directory with a service.toml, the working directory."""
    (tmp_path / "data").mkdir()
    (tmp_path / "service.toml").write_text('[service]\nname = "under-test"\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data" / "rows.jsonl"


QUICK = ("--source", "data", "--epochs", "1", "--litert", "false")


def test_a_network_that_always_says_no_at_one_in_two_hundred_is_not_published(
    source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(model, "build", build_ignorant)
    source.write_text(rows(["no"] * 3980 + ["yes"] * 20))
    assert main(["train", *QUICK]) == 4
    said = capsys.readouterr().err
    assert "always answering 'no' is not certainly worse (95 %): accuracy is 0.99" in said
    assert not (source.parent.parent / "store" / "models").exists()


@pytest.mark.parametrize("labels", [(0, 1), (False, True)])
def test_labels_that_are_no_text_become_text_at_the_dataset(
    source: Path, monkeypatch: pytest.MonkeyPatch, labels: tuple[Any, Any]
) -> None:
    monkeypatch.setattr(model, "LABELS", labels)
    monkeypatch.setitem(model.RECORD["properties"], "label", {"enum": list(labels)})
    source.write_text(rows([*labels] * 100))
    assert main(["train", *QUICK, "--minimum-accuracy", "0"]) == 0
    (published,) = list_artifacts(LocalStorage(source.parent.parent / "store"), "models")
    expected = [json.dumps(label) for label in labels]
    assert published.properties["labels"] == expected
    assert set(published.properties["baseline"]["classes"]) == set(expected)
    assert {sample["label"] for sample in published.properties["samples"]} <= set(expected)


def test_a_label_without_examples_ends_the_run_before_the_training_unless_it_is_said(
    source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source.write_text(rows(["no"] * 50 + ["yes"] * 50).replace('"yes"', '"no"'))
    assert main(["train", *QUICK]) == 3
    said = capsys.readouterr()
    assert "has no example of 'yes' in its train split, so there is nothing to learn from; add examples" in said.err
    assert 'allow it in service.toml: [gate] absent_labels = ["yes"]' in said.err
    assert "epoch" not in said.out
    (source.parent.parent / "service.toml").write_text('[service]\nname = "x"\n[gate]\nabsent_labels = ["yes"]\n')
    assert main(["train", *QUICK]) == 4
    assert "always answering 'no' is not certainly worse" in capsys.readouterr().err


def test_a_table_that_cannot_apply_ends_the_command_before_anything_is_read(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source.parent.parent / "service.toml").write_text('[service]\nname = "x"\n[gate.recall.maybe]\nminimum = 0.5\n')
    assert main(["train", *QUICK]) == 2
    assert capsys.readouterr().err == "[gate.recall.maybe]: the model has no label 'maybe'; it has: no, yes\n"
    assert not (source.parent.parent / "store").exists()
