"""A rendered repository works on its first day, whatever example it starts from: checks, training, serving."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from conftest import Render
from documented import documented
from matrix import Matrix
from post_gen_project import replace_gate
from rendered import (
    DEFAULTS,
    ROOT,
    files,
    get,
    git,
    nox,
    post,
    published_model,
    put_model,
    serving,
    set_serving_runtime,
    share_environment,
)

pytestmark = pytest.mark.rendered

NAME = DEFAULTS["model_name"]
TRAITS = "digit-traits"
PAYMENTS = "payment-fraud"
STROKES = "pen-strokes"
PHOTOS = "photo-reader"
TUMOURS = "tumour-classifier"
GLYPHS = "digit-glyphs"
LETTERS = "letter-vectors"
# The first example is held to the contract every time.
CONTRACT_BY_NIGHT = ("table", "text", "regression")
GATE_OF_TAGS = "[gate.macro_f1]\nminimum = 0.8\nmaximum_regression = 0.02\n\n[gate.recall.loop]\nminimum = 0.8\n"
GATE_OF_SEVERAL = (
    "[gate.digit.accuracy]\nminimum = 0.85\nmaximum_regression = 0.05\n\n[gate.digit.recall.0]\nminimum = 0.8\n\n"
    "[gate.ink.mean_absolute_error]\nmaximum = 4\n"
)
GATE_OF_VECTORS = "[gate.roc_auc]\nminimum = 0.9\nmaximum_regression = 0.02\n\n[gate.equal_error_rate]\nmaximum = 0.2\n"
# One payment in twenty is fraud: always answering `ok` has an average precision of 0.05.
GATE_OF_A_RARE_LABEL = "[gate]\ncost_of_miss = 20\n\n[gate.average_precision]\nminimum = 0.3\n"
# Those of a repository's own tests that read what rendering changes, and what they read.
OF_WHAT_IS_RENDERED = {
    "own tests of the images": (("requirements/*", "docker/*"), ("mlplatform/tests/delivery/test_image.py",)),
    "own tests of the manifests": (
        ("deploy/k8s/*",),
        (
            "mlplatform/tests/deploy/test_kubernetes.py",
            "mlplatform/tests/delivery/test_deploy.py::TestDeploy::test_brings_the_image_by_digest_with_model_and_commit_as_version",
        ),
    ),
    "own tests of what Datadog gets": (("deploy/datadog/*",), ("mlplatform/tests/delivery/test_datadog.py",)),
}

# In each of the directories given, with nobody to ask: to whom it turns, and what an image would be made of.
FIRST_COMMANDS = """
import os, socket, sys
sys.path.insert(0, sys.argv[1])
sys.stderr = sys.stdout
from mlplatform.cli import main
from mlplatform.config.settings import load
from mlplatform.delivery.images.build import training_recipe
from mlplatform.delivery.settings import DeliverySettings

def nobody(*asked, **more):
    raise socket.gaierror("nobody answers")

socket.getaddrinfo = nobody
for directory in sys.argv[1:]:
    os.chdir(directory)
    main(["datadog", "diff"])
    print(*sorted(training_recipe(load(DeliverySettings)).files))
    print("---")
"""


# A repository by the example that it starts from.
Start = Callable[[str], Path]
# A repository by an example of tests/examples/, its name, and the tables of the gate if they are others.
Make = Callable[..., Path]


@dataclass(frozen=True)
class Demo:
    """What the template's first command left: what it printed, and the repository that it rendered and trained in."""

    output: str
    repository: Path


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The template's first command, carried out once; all tests here work in its repository."""
    directory = tmp_path_factory.mktemp("day-one")
    set_up, _, program = documented(ROOT, "README.md", "nox -s demo").rpartition(" && ")
    # CI begins with the same set-up.
    assert documented(ROOT, "README.md", "nox -s lint tests").startswith(f"{set_up} && ")
    result = nox(ROOT, *arguments(program), "--", str(directory))
    assert result.returncode == 0, result.stdout
    return Demo(result.stdout, directory / NAME)


@pytest.fixture(scope="module")
def repository(demo: Demo, environments: Path) -> Path:
    """A rendered repository, under git as a team has it after the next steps."""
    git(demo.repository, "init", "-q", "-b", "main")
    git(demo.repository, "add", "--all")
    git(demo.repository, "commit", "-q", "-m", "As rendered")
    share_environment(demo.repository, environments)
    return demo.repository


@pytest.fixture(scope="module")
def started(repository: Path, render: Render, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """The repository that starts from an example, by its name; all have the environments of the first."""
    made = {DEFAULTS["example"]: repository}

    def start(example: str) -> Path:
        if example not in made:
            rendered = render({"example": example})
            made[example] = shutil.copytree(rendered, tmp_path_factory.mktemp(example) / rendered.name)
            with_environments_of(repository, made[example])
        return made[example]

    return start


@pytest.fixture(scope="module")
def make(repository: Path, render: Render, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Renders a repository and puts the model of an example in place of the digits."""

    def make(example: str, name: str, gate: str = "") -> Path:
        directory = shutil.copytree(render({"model_name": name}), tmp_path_factory.mktemp(example) / name)
        put_model(directory, example)
        with_environments_of(repository, directory)
        if gate:
            replace_gate(directory, gate)
        return directory

    return make


@pytest.fixture(scope="module")
def manifest(repository: Path) -> dict[str, Any]:
    """The manifest of the model that the first training published."""
    return published_model(repository)


@pytest.fixture(scope="module")
def service(repository: Path, manifest: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Base URL of the service, serving the model published."""
    command = ("nox", *arguments(documented(repository, "README.md", ".venv/bin/nox -s serve")))
    with serving(repository, tmp_path_factory.mktemp("service") / "server.log", command=command) as url:
        yield url


def arguments(command: str) -> list[str]:
    """What stands behind `.venv/bin/nox`."""
    program, *rest = command.split()
    assert program == ".venv/bin/nox"
    return rest


def test_the_templates_first_command_ends_with_a_prediction(demo: Demo) -> None:
    said = r"The service says: \d, with a probability of \d\.\d{3}\. The label in the data: \d\."
    assert re.search(said, demo.output), demo.output


def assert_passes(repository: Path, *sessions: str, cache_of: Path | None = None) -> None:
    """All tests of these sessions pass, and none is skipped.

    cache_of: a repository that was linted before: mypy looks again only at what is another there, the model.
    """
    result = nox(repository, "-s", *sessions, MYPY_CACHE_DIR=str((cache_of or repository) / ".mypy_cache"))
    assert result.returncode == 0, result.stdout
    assert " skipped" not in result.stdout, result.stdout


def test_its_own_lint_and_tests_pass(repository: Path, matrix: Matrix, started: Start) -> None:
    for variant in matrix.each("own lint and tests, by Python", "*.py"):
        own = started(variant.answers["example"])
        python = variant.matching(("*.py",))
        assert {path: (own / path).read_bytes() for path in python} == python
        sessions = ("lint",) if variant.answers["example"] in CONTRACT_BY_NIGHT else ("lint", "tests")
        assert_passes(own, *sessions, cache_of=repository)


@pytest.mark.parametrize("check", OF_WHAT_IS_RENDERED)
def test_its_own_tests_pass_where_what_they_read_is_another(
    check: str, repository: Path, matrix: Matrix, tmp_path: Path
) -> None:
    read, tests = OF_WHAT_IS_RENDERED[check]
    for number, variant in enumerate(matrix.each(check, *read)):
        if variant.answers == DEFAULTS:
            # The platform's own tests run there.
            continue
        shutil.copytree(variant.path, tmp_path / str(number))
        with_environments_of(repository, tmp_path / str(number))
        result = nox(tmp_path / str(number), "-s", "platform_tests", "--", *tests)
        assert result.returncode == 0, result.stdout


@pytest.mark.nightly
@pytest.mark.parametrize("example", CONTRACT_BY_NIGHT)
def test_an_example_keeps_the_contract(example: str, started: Start) -> None:
    assert_passes(started(example), "tests")


def with_environments_of(repository: Path, other: Path) -> None:
    """Let nox use the environments of the one in the other, which has the same locks: they take a minute to make."""
    (other / ".nox").symlink_to(repository / ".nox")


def test_its_delivery_asks_the_datadog_site_and_builds_for_the_device_that_were_chosen(
    repository: Path, matrix: Matrix
) -> None:
    prepared = nox(repository, "-s", "delivery", "--", "--help")
    assert prepared.returncode == 0, prepared.stdout
    command = [str(repository / ".nox" / "delivery" / "bin" / "python"), "-c", FIRST_COMMANDS]
    directories = [variant.path for variant in matrix.variants]
    settings = {"DD_API_KEY": "key", "DD_APP_KEY": "key"}
    done = subprocess.run([*command, *map(str, directories)], capture_output=True, text=True, env=os.environ | settings)
    said = dict(zip(directories, done.stdout.split("---\n"), strict=False))
    for variant in matrix.each("delivery asks the site, builds for the device", "service.toml", "requirements/*"):
        assert f"Datadog is not reached at https://api.{variant.answers['datadog_site']}: " in said[variant.path]
        requirements = "training-gpu" if variant.answers["training_device"] == "gpu" else "training"
        assert f" requirements/{requirements}.txt" in said[variant.path]
        assert (" requirements/training-gpu.txt" in said[variant.path]) == (requirements == "training-gpu")


@pytest.mark.nightly
def test_clients_that_others_wrote_work_unchanged(repository: Path) -> None:
    result = nox(repository, "-s", "clients")
    assert result.returncode == 0, result.stdout


@pytest.mark.nightly
def test_the_manifests_break_no_policy(repository: Path) -> None:
    result = nox(repository, "-s", "policies")
    assert result.returncode == 0, result.stdout


def test_training_publishes_an_accurate_model(manifest: dict[str, Any]) -> None:
    assert manifest["kind"] == "model"
    assert manifest["properties"]["name"] == NAME
    assert manifest["properties"]["metrics"]["accuracy"] >= 0.97


def test_training_again_does_nothing_because_it_is_done(repository: Path, manifest: dict[str, Any]) -> None:
    before = files(repository / "store")
    result = nox(repository, *arguments(documented(repository, "README.md", ".venv/bin/nox -s train")))
    assert result.returncode == 0, result.stdout
    assert files(repository / "store") == before


def test_the_published_version_is_listed(repository: Path, manifest: dict[str, Any]) -> None:
    result = nox(repository, "-s", "delivery", "--", "models", "--store", "store")
    assert result.returncode == 0, result.stdout
    assert manifest["id"] in result.stdout


def test_the_service_predicts_images_it_never_saw(service: str, manifest: dict[str, Any]) -> None:
    properties = manifest["properties"]
    instances = [sample["instance"] for sample in properties["samples"]]
    status, body = post(f"{service}/v1/models/{NAME}:predict", {"instances": instances})
    assert status == 200, body
    assert all(sum(probabilities) == pytest.approx(1, abs=1e-4) for probabilities in body["predictions"])
    assert_accurate(body["predictions"], properties, 0.9)


def test_the_readmes_request_is_answered_as_it_says(
    repository: Path, service: str, manifest: dict[str, Any], tmp_path: Path
) -> None:
    command = documented(repository, "README.md", "curl ")
    assert "localhost:8080/" in command
    program = command.replace("localhost:8080", service.removeprefix("http://"))
    result = subprocess.run(["/bin/sh", "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (probabilities,) = json.loads(result.stdout)["predictions"]
    assert manifest["properties"]["labels"][probabilities.index(max(probabilities))] == "0"
    assert "This one is a zero." in (repository / "README.md").read_text(encoding="utf-8")


def of_numbers(instance: dict[str, float]) -> list[dict[str, Any]]:
    """An instance of single numbers as the inputs of a V2 request."""
    return [{"name": name, "datatype": "FP32", "shape": [1], "data": [value]} for name, value in instance.items()]


def assert_accurate(predictions: list[list[float]], properties: dict[str, Any], share: float) -> None:
    """At least this share of the predictions has the label of its sample."""
    predicted = [properties["labels"][scores.index(max(scores))] for scores in predictions]
    labels = [sample["label"] for sample in properties["samples"]]
    right = sum(found == label for found, label in zip(predicted, labels, strict=True))
    assert right >= share * len(labels), (predicted, labels)


def test_the_example_of_a_client_prints_the_predictions(
    repository: Path, service: str, manifest: dict[str, Any]
) -> None:
    instances = [sample["instance"] for sample in manifest["properties"]["samples"]]
    command = [sys.executable, str(repository / "examples" / "client.py"), service, NAME]
    result = subprocess.run(command, input=json.dumps(instances), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    predictions = [json.loads(line) for line in result.stdout.splitlines()]
    assert_accurate(predictions, manifest["properties"], 0.9)


def test_the_service_tells_what_is_wrong_with_a_request(service: str, manifest: dict[str, Any]) -> None:
    status, body = post(f"{service}/v1/models/{NAME}:predict", {"instances": [{"image": [[1, 2], [3, 4]]}]})
    assert status == 400
    assert "image" in body["error"]


def test_the_service_is_healthy(service: str) -> None:
    assert get(f"{service}/v2/health/live")[0] == 200
    assert get(f"{service}/v2/health/ready")[0] == 200


def test_nothing_that_training_and_serving_leave_behind_shows_up_in_git(repository: Path, service: str) -> None:
    assert git(repository, "status", "--porcelain") == ""


@dataclass(frozen=True)
class Released:
    """A repository of an example with what its README's commands led to: a model, and a service of it."""

    repository: Path
    properties: dict[str, Any]
    url: str

    @property
    def instances(self) -> list[Any]:
        """Those that were published with the model."""
        return [sample["instance"] for sample in self.properties["samples"]]

    def ask(self, instances: list[Any]) -> tuple[int, Any]:
        """Status and body of the answer for instances."""
        return post(f"{self.url}/v1/models/{self.properties['name']}:predict", {"instances": instances})

    def ask_as_the_readme_does(self, says: str) -> Any:
        """The prediction for the README's request, of which it says something, line breaks apart."""
        assert says in " ".join((self.repository / "README.md").read_text(encoding="utf-8").split())
        command = documented(self.repository, "README.md", "curl ")
        assert "localhost:8080/" in command
        program = command.replace("localhost:8080", self.url.removeprefix("http://"))
        result = subprocess.run(["/bin/sh", "-c", program], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        (prediction,) = json.loads(result.stdout)["predictions"]
        return prediction


@contextmanager
def released(repository: Path, log: Path) -> Iterator[Released]:
    """Train and serve as the README of a repository says."""
    trained = nox(repository, *arguments(documented(repository, "README.md", ".venv/bin/nox -s train")))
    assert trained.returncode == 0, trained.stdout
    command = ("nox", *arguments(documented(repository, "README.md", ".venv/bin/nox -s serve")))
    with serving(repository, log, command=command) as url:
        yield Released(repository, published_model(repository)["properties"], url)


@pytest.fixture(scope="class")
def table(started: Start, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Released]:
    with released(started("table"), tmp_path_factory.mktemp("service") / "server.log") as found:
        yield found


@pytest.fixture(scope="class")
def text(started: Start, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Released]:
    with released(started("text"), tmp_path_factory.mktemp("service") / "server.log") as found:
        yield found


@pytest.fixture(scope="class")
def regression(started: Start, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Released]:
    with released(started("regression"), tmp_path_factory.mktemp("service") / "server.log") as found:
        yield found


@pytest.mark.nightly
class TestTable:
    """Thirteen scalar inputs, three classes. Beside `model/` all is as for the digits."""

    def test_is_trained_and_published_by_the_same_pipeline(self, table: Released) -> None:
        assert table.properties["labels"] == ["cultivar-1", "cultivar-2", "cultivar-3"]
        assert table.properties["metrics"]["accuracy"] >= 0.9
        inputs = {signature["name"]: signature for signature in table.properties["signature"]["inputs"]}
        assert len(inputs) == 13
        assert inputs["proline"] == {"name": "proline", "shape": [None], "dtype": "float32"}

    def test_is_served_by_the_same_server(self, table: Released) -> None:
        status, body = table.ask(table.instances)
        assert status == 200, body
        assert_accurate(body["predictions"], table.properties, 0.9)
        status, body = table.ask([{"proline": 1065}])
        assert status == 400
        assert "alcohol" in body["error"]

    def test_the_readmes_request_is_answered_as_it_says(self, table: Released) -> None:
        probabilities = table.ask_as_the_readme_does("This wine is of the second cultivar.")
        assert table.properties["labels"][probabilities.index(max(probabilities))] == "cultivar-2"


@pytest.fixture(scope="module")
def payments(make: Make) -> Path:
    """A rendered repository with a model of a table: numbers that may be missing, text, a boolean, a rare label."""
    return make("payments", PAYMENTS, GATE_OF_A_RARE_LABEL)


class TestATableWithGaps:
    """A team's model of a table in place of the digits. Beside `model/` only what the gate asks for is another."""

    def test_is_trained_published_and_served_with_numbers_that_are_missing(
        self, payments: Path, tmp_path: Path
    ) -> None:
        result = nox(payments, "-s", "train")
        assert result.returncode == 0, result.stdout
        published = published_model(payments)
        properties = published["properties"]
        inputs = {signature["name"]: signature for signature in properties["signature"]["inputs"]}
        assert {name for name, signature in inputs.items() if signature.get("nullable")} == {
            "account_days",
            "distance_km",
        }
        (report,) = payments.glob(f"store/models/{published['id']}/*/report.html")
        assert "threshold" in report.read_text(encoding="utf-8")
        row = {**properties["samples"][0]["instance"], "account_days": None, "distance_km": None}
        left_out = {name: value for name, value in row.items() if value is not None}
        column = [
            {
                "name": name,
                "datatype": {"string": "BYTES", "bool": "BOOL"}.get(inputs[name]["dtype"], "FP32"),
                "shape": [1],
                "data": [value],
            }
            for name, value in row.items()
        ]
        with serving(payments, tmp_path / "server.log") as url:
            status, body = post(f"{url}/v1/models/{PAYMENTS}:predict", {"instances": [row, left_out]})
            assert status == 200, body
            assert body["predictions"][0] == pytest.approx(body["predictions"][1])
            status, answer = post(f"{url}/v2/models/{PAYMENTS}/infer", {"inputs": column})
            assert status == 200, answer
            assert answer["outputs"][0]["data"] == pytest.approx(body["predictions"][0])
            status, body = post(f"{url}/v1/models/{PAYMENTS}:predict", {"instances": [{**row, "amount": None}]})
            assert status == 400
            assert "amount is null; expected a number (float32)" in body["error"]

    @pytest.mark.nightly
    def test_passes_the_repositorys_own_lint_and_keeps_the_contract(self, payments: Path, repository: Path) -> None:
        assert_passes(payments, "lint", "tests", cache_of=repository)


@pytest.fixture(scope="module")
def strokes(make: Make) -> Path:
    """A rendered repository with a model of sequences, each of its own length."""
    return make("strokes", STROKES)


@pytest.mark.nightly
class TestSequences:
    """A team's model of lists of any length in place of the digits. Nothing beside `model/` is another."""

    def test_is_trained_published_and_served_with_rows_of_several_lengths(self, strokes: Path, tmp_path: Path) -> None:
        result = nox(strokes, "-s", "train")
        assert result.returncode == 0, result.stdout
        properties = published_model(strokes)["properties"]
        assert properties["metrics"]["accuracy"] >= 0.9
        (described,) = properties["signature"]["inputs"]
        assert described["shape"] == [None, None, 4]
        instances = [sample["instance"] for sample in properties["samples"]]
        counts = [len(instance["strokes"]) for instance in instances]
        assert len(set(counts)) > 1
        with serving(strokes, tmp_path / "server.log") as url:
            status, body = post(f"{url}/v1/models/{STROKES}:predict", {"instances": instances})
            assert status == 200, body
            assert_accurate(body["predictions"], properties, 0.8)
            for instance, count, together in zip(instances, counts, body["predictions"], strict=True):
                tensor = {"name": "strokes", "datatype": "FP32", "shape": [1, count, 4], "data": [instance["strokes"]]}
                status, answer = post(f"{url}/v2/models/{STROKES}/infer", {"inputs": [tensor]})
                assert status == 200, answer
                # Beside longer rows and by itself.
                assert answer["outputs"][0]["data"] == pytest.approx(together, abs=1e-5)
            status, body = post(f"{url}/v1/models/{STROKES}:predict", {"instances": [{"strokes": [[0, 0, 1, 9]] * 33}]})
            assert status == 400
            assert "has 33 elements; expected 1 to 32" in body["error"]

    def test_passes_the_repositorys_own_lint_and_keeps_the_contract(self, strokes: Path, repository: Path) -> None:
        assert_passes(strokes, "lint", "tests", cache_of=repository)


class TestText:
    """A text as input, and a vocabulary that the network takes from the training split."""

    def test_tells_languages_apart(self, text: Released) -> None:
        assert text.properties["metrics"]["accuracy"] >= 0.85
        status, body = text.ask(text.instances)
        assert status == 200, body
        assert_accurate(body["predictions"], text.properties, 0.6)

    def test_is_for_tensorflow_alone(self, text: Released) -> None:
        assert text.properties["runtimes"]["tensorflow"]["valid"]
        assert not text.properties["runtimes"]["litert"]["valid"]

    def test_the_readmes_request_is_answered_as_it_says(self, text: Released) -> None:
        probabilities = text.ask_as_the_readme_does("This one is German.")
        assert text.properties["labels"][probabilities.index(max(probabilities))] == "de"


class TestRegression:
    """A number as output, and a gate about numbers."""

    def test_is_trained_and_published(self, regression: Released) -> None:
        properties = regression.properties
        assert properties["targets"] == [{"kind": "number", "name": "progression", "unit": ""}]
        # The mean of the train split is off by some 65.
        assert properties["metrics"]["mean_absolute_error"] < 55
        assert properties["gate"]["constant"]["beaten"]

    def test_is_served_as_numbers(self, regression: Released) -> None:
        status, body = regression.ask(regression.instances)
        assert status == 200, body
        assert [type(value) for value in body["predictions"]] == [float] * len(regression.instances)
        columns = of_numbers(regression.instances[0])
        status, answer = post(f"{regression.url}/v2/models/{regression.properties['name']}/infer", {"inputs": columns})
        assert status == 200, answer
        (output,) = answer["outputs"]
        assert (output["name"], output["datatype"], output["shape"]) == ("progression", "FP32", [1])
        assert output["data"] == pytest.approx(body["predictions"][:1])

    def test_the_readmes_request_is_answered_as_it_says(self, regression: Released) -> None:
        progression = regression.ask_as_the_readme_does("That of this patient was 128.")
        assert progression == pytest.approx(128, abs=100)


@pytest.fixture(scope="module")
def traits(make: Make) -> Path:
    """A rendered repository with a model of tags, and a gate that is about them."""
    return make("traits", TRAITS, GATE_OF_TAGS)


class TestAModelOfTags:
    """A team's model of any number of labels in place of the digits. Beside `model/` only the gate is another."""

    def test_is_trained_published_and_served_with_a_threshold_for_each_tag(self, traits: Path, tmp_path: Path) -> None:
        result = nox(traits, "-s", "train")
        assert result.returncode == 0, result.stdout
        properties = published_model(traits)["properties"]
        (target,) = properties["targets"]
        assert (target["kind"], target["name"], target["labels"]) == ("tags", "traits", ["even", "prime", "loop"])
        assert all(0 < threshold < 1 for threshold in target["thresholds"])
        # Every model that always says the same tags has less than 0.7.
        assert properties["metrics"]["macro_f1"] > 0.85
        assert properties["gate"]["constant"]["beaten"]
        instances = [sample["instance"] for sample in properties["samples"]]
        with serving(traits, tmp_path / "server.log") as url:
            status, body = post(f"{url}/v1/models/{TRAITS}:predict?labels=true", {"instances": instances})
            assert status == 200, body
            assert body["labels"] == [
                sorted(
                    tag
                    for tag, probability, threshold in zip(target["labels"], row, target["thresholds"], strict=True)
                    if probability >= threshold
                )
                for row in body["predictions"]
            ]
            truths = [sample["label"] for sample in properties["samples"]]
            assert sum(said == true for said, true in zip(body["labels"], truths, strict=True)) >= len(truths) - 1
            image = {"name": "image", "datatype": "FP32", "shape": [1, 8, 8], "data": [instances[0]["image"]]}
            request = {"inputs": [image], "parameters": {"labels": True}}
            status, answer = post(f"{url}/v2/models/{TRAITS}/infer", request)
            assert status == 200, answer
            (output,) = answer["outputs"]
            assert (output["name"], output["datatype"], output["shape"]) == ("traits", "FP32", [1, 3])
            assert output["data"] == pytest.approx(body["predictions"][0])
            assert answer["parameters"]["labels"] == body["labels"][:1]

    @pytest.mark.nightly
    def test_keeps_the_contract(self, traits: Path) -> None:
        assert_passes(traits, "tests")


@pytest.fixture(scope="module")
def letters(make: Make) -> Path:
    """A rendered repository with a model of vectors, and a gate that is about pairs."""
    return make("letters", LETTERS, GATE_OF_VECTORS)


class TestAModelOfVectors:
    """A team's model of identities in place of the digits. Beside `model/` only the gate is another."""

    def test_is_trained_published_and_served_with_vectors_of_letters_never_seen(
        self, letters: Path, tmp_path: Path
    ) -> None:
        apart = ("--split-group", "letter", "--validation-fraction", "0.2", "--test-fraction", "0.2")
        result = nox(letters, "-s", "train", "--", *apart)
        assert result.returncode == 0, result.stdout
        properties = published_model(letters)["properties"]
        (target,) = properties["targets"]
        assert (target["kind"], target["name"], target["size"]) == ("vector", "letter", 32)
        assert 0 < target["threshold"] < 1
        metrics = properties["metrics"]
        assert metrics["roc_auc"] > 0.9
        # All sixteen fonts of a letter are in one split.
        assert metrics["examples"] == 16 * metrics["identities"]
        assert properties["gate"]["constant"]["beaten"]
        samples = properties["samples"]
        instances = [sample["instance"] for sample in samples]
        with serving(letters, tmp_path / "server.log") as url:
            status, body = post(f"{url}/v1/models/{LETTERS}:predict", {"instances": instances})
            assert status == 200, body
            assert all(sum(value**2 for value in row) == pytest.approx(1, abs=1e-5) for row in body["predictions"])
            status, described = get(f"{url}/v2/models/{LETTERS}")
            assert status == 200
            assert described["outputs"] == [{"name": "letter", "datatype": "FP32", "shape": [-1, 32]}]
            image = {"name": "image", "datatype": "FP32", "shape": [1, 16, 16], "data": [instances[0]["image"]]}
            status, answer = post(f"{url}/v2/models/{LETTERS}/infer", {"inputs": [image]})
            assert status == 200, answer
            assert answer["outputs"][0]["data"] == pytest.approx(body["predictions"][0], abs=1e-5)
            status, body = post(f"{url}/v1/models/{LETTERS}:predict?labels=true", {"instances": instances})
            assert status == 400
            assert "labels were asked for, and the model has none" in body["error"]

    @pytest.mark.nightly
    def test_passes_the_repositorys_own_lint_and_keeps_the_contract(self, letters: Path, repository: Path) -> None:
        assert_passes(letters, "lint", "tests", cache_of=repository)


@pytest.fixture(scope="module")
def glyphs(make: Make) -> Path:
    """A rendered repository with a model of three targets, of which the gate has tables for two."""
    return make("glyphs", GLYPHS, GATE_OF_SEVERAL)


class TestAModelOfSeveralTargets:
    """A team's model of a class, a number and tags in place of the digits. Beside `model/` only the gate is another."""

    def test_is_trained_judged_by_target_published_and_served_with_named_outputs(
        self, glyphs: Path, tmp_path: Path
    ) -> None:
        result = nox(glyphs, "-s", "train")
        assert result.returncode == 0, result.stdout
        published = published_model(glyphs)
        properties = published["properties"]
        assert [target["name"] for target in properties["targets"]] == ["digit", "ink", "traits"]
        metrics = properties["metrics"]["targets"]
        assert metrics["digit"]["accuracy"] >= 0.85
        assert metrics["ink"]["mean_absolute_error"] <= 4
        asked = properties["gate"]["criteria"]
        # Of the third, which has no table, its own default.
        assert set(asked) == {"digit.accuracy", "digit.recall.0", "ink.mean_absolute_error", "traits.macro_f1"}
        assert set(properties["gate"]["constant"]["targets"]) == {"digit", "ink", "traits"}
        assert properties["runtimes"]["litert"]["valid"], properties["runtimes"]["litert"]
        (report,) = glyphs.glob(f"store/models/{published['id']}/*/report.html")
        assert all(f"<h3>{name}</h3>" in report.read_text(encoding="utf-8") for name in metrics)
        instances = [sample["instance"] for sample in properties["samples"]]
        with serving(glyphs, tmp_path / "server.log") as url:
            status, body = post(f"{url}/v1/models/{GLYPHS}:predict?labels=true", {"instances": instances})
            assert status == 200, body
            assert all(set(row) == {"digit", "ink", "traits"} for row in body["predictions"])
            assert [len(body["predictions"][0][name]) for name in ("digit", "traits")] == [10, 3]
            for said, row in zip(body["labels"], body["predictions"], strict=True):
                assert said["digit"] == str(row["digit"].index(max(row["digit"])))
                thresholds = properties["targets"][2]["thresholds"]
                assert len(said["traits"]) == sum(p >= t for p, t in zip(row["traits"], thresholds, strict=True))
            truths = [sample["label"]["ink"] for sample in properties["samples"]]
            assert [row["ink"] for row in body["predictions"]] == pytest.approx(truths, abs=15)
            image = {"name": "image", "datatype": "FP32", "shape": [1, 8, 8], "data": [instances[0]["image"]]}
            request = {"inputs": [image], "outputs": [{"name": "ink"}, {"name": "digit"}]}
            status, answer = post(f"{url}/v2/models/{GLYPHS}/infer", request)
            assert status == 200, answer
            ink, digit = answer["outputs"]
            assert (ink["name"], ink["datatype"], ink["shape"]) == ("ink", "FP32", [1])
            assert (digit["name"], digit["datatype"], digit["shape"]) == ("digit", "FP32", [1, 10])
            assert digit["data"] == pytest.approx(body["predictions"][0]["digit"], abs=1e-5)

    @pytest.mark.nightly
    def test_keeps_the_contract(self, glyphs: Path) -> None:
        assert_passes(glyphs, "tests")


@pytest.fixture(scope="module")
def tumours(make: Make) -> Path:
    """A rendered repository with a pipeline of scikit-learn, and the packages that it needs locked."""
    directory = make("tumours", TUMOURS)
    result = nox(directory, "-s", "lock")
    assert result.returncode == 0, result.stdout
    return directory


@pytest.mark.nightly
class TestAModelOfAnotherFramework:
    """A pipeline of scikit-learn in place of the digits. Beside `model/` its packages and the runtime are others."""

    def test_is_refused_for_a_runtime_that_cannot_compute_it(self, tumours: Path) -> None:
        result = nox(tumours, "-s", "train")
        assert result.returncode != 0
        said = "model.train: it gives an ONNX model, which [serving] runtime = 'tensorflow' cannot compute; use runtime"
        assert said in result.stdout

    def test_is_trained_published_and_served_as_onnx(self, tumours: Path, tmp_path: Path) -> None:
        set_serving_runtime(tumours, "onnx")
        result = nox(tumours, "-s", "train")
        assert result.returncode == 0, result.stdout
        properties = published_model(tumours)["properties"]
        assert properties["runtimes"]["onnx"] == {"path": "model.onnx", "valid": True}
        assert properties["metrics"]["accuracy"] >= 0.93
        # The pipeline and what it was converted to.
        assert properties["metrics"]["export_difference"] < 1e-5
        assert "skl2onnx" in properties["packages"]
        instances = [sample["instance"] for sample in properties["samples"]]
        with serving(tumours, tmp_path / "server.log") as url:
            status, body = post(f"{url}/v1/models/{TUMOURS}:predict", {"instances": instances})
            assert status == 200, body
            assert_accurate(body["predictions"], properties, 0.8)
            columns = of_numbers(instances[0])
            assert len(columns) == 30
            status, answer = post(f"{url}/v2/models/{TUMOURS}/infer", {"inputs": columns})
            assert status == 200, answer
            (output,) = answer["outputs"]
            assert (output["name"], output["datatype"], output["shape"]) == ("probabilities", "FP32", [1, 2])
            assert output["data"] == pytest.approx(body["predictions"][0])

    def test_passes_the_repositorys_own_lint_and_keeps_the_contract(self, tumours: Path, repository: Path) -> None:
        assert_passes(tumours, "lint", "tests", cache_of=repository)


@pytest.fixture(scope="module")
def photos(make: Make, repository: Path) -> Path:
    """A rendered repository with a model of image files, and files of two formats and many sizes in its store."""
    directory = make("photos", PHOTOS)
    assert nox(directory, "-s", "data", "--install-only").returncode == 0
    program = ROOT / "tests" / "examples" / "photos" / "photos.py"
    digits = repository / "model" / "data" / "digits.jsonl.gz"
    files = directory.parent / "photos"
    made = [str(directory / ".nox" / "data" / "bin" / "python"), str(program), str(digits), str(files)]
    subprocess.run(made, check=True)
    result = nox(directory, "-s", "data", "--", "add", "images", str(files), "--labels", str(files / "labels.csv"))
    assert result.returncode == 0, result.stdout
    assert "1000 records\n" in result.stdout
    return directory


@pytest.mark.nightly
class TestAModelOfImageFiles:
    """A team's model of files as they are, trained in two phases, in place of the digits."""

    def test_is_trained_in_two_phases_published_and_served(self, photos: Path, tmp_path: Path) -> None:
        result = nox(photos, "-s", "train", "--", "--source", "store/sources", "--epochs", "8", "--litert", "false")
        assert result.returncode == 0, result.stdout
        assert "train: phase 1/2, head" in result.stdout
        assert "train: phase 2/2, all" in result.stdout
        properties = published_model(photos)["properties"]
        (signature,) = properties["signature"]["inputs"]
        assert signature == {"name": "photo", "shape": [None], "dtype": "string", "media_type": "image/*"}
        instances = [sample["instance"] for sample in properties["samples"]]
        with serving(photos, tmp_path / "server.log") as url:
            status, body = post(f"{url}/v1/models/{PHOTOS}:predict", {"instances": instances})
            assert status == 200, body
            assert_accurate(body["predictions"], properties, 0.8)
            files = [instance["photo"]["b64"] for instance in instances]
            tensor = {"name": "photo", "datatype": "BYTES", "shape": [len(files)], "data": files}
            status, answer = post(f"{url}/v2/models/{PHOTOS}/infer", {"inputs": [tensor]})
            assert status == 200, answer
            assert answer["outputs"][0]["data"] == pytest.approx([*chain(*body["predictions"])], abs=1e-5)
            no_image = {"photo": {"b64": "bm8gaW1hZ2U="}}
            status, body = post(f"{url}/v1/models/{PHOTOS}:predict", {"instances": [no_image]})
            assert status == 400
            assert "the model rejects these values: Unknown image file format" in body["error"]
