"""The images: built from a rendered repository, trained as a job of AWS Batch, served, and looked into."""

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Render
from engine import Engine
from rendered import post, published_model

from containers.batch import Batch, Job
from containers.conftest import BASE_IMAGE, NAME, SERVICES, TUMOURS
from containers.server import LOCKED_UP, running
from containers.waiting import wait_for

pytestmark = pytest.mark.docker

# Measured: 1.63, 1.35, 0.37 and 0.39 GB, of which 0.16 GB are the base image.
LARGEST_GIGABYTES = {"training": 2.0, "serving": 1.5, "litert": 0.5, "onnx": 0.5}


class TestJob:
    """Training as a job of AWS Batch, through its API, on S3."""

    def test_that_is_stopped_saves_and_ends_with_75(self, jobs: list[Job]) -> None:
        assert (jobs[0].status, jobs[0].exit_code) == ("FAILED", 75)
        assert "stopped; the same command resumes this run" in jobs[0].log

    def test_that_was_stopped_goes_on_where_it_was(self, jobs: list[Job]) -> None:
        assert int(found_in(r"resuming from a checkpoint at epoch (\d+)/40", jobs[1].log)) >= 5

    def test_that_was_killed_goes_on_from_its_last_checkpoint(self, jobs: list[Job]) -> None:
        assert (jobs[1].status, jobs[1].exit_code) == ("FAILED", 137)
        assert int(found_in(r"resuming from a checkpoint at epoch (\d+)/40", jobs[2].log)) >= 10

    def test_ends_well_with_its_log(self, jobs: list[Job]) -> None:
        assert (jobs[2].status, jobs[2].exit_code) == ("SUCCEEDED", 0), jobs[2].log
        assert "train: epoch 40/40" in jobs[2].log
        assert "model version" in jobs[2].log

    def test_leaves_model_metrics_and_report_in_s3(self, manifest: dict[str, Any]) -> None:
        assert manifest["properties"]["metrics"]["accuracy"] >= 0.95
        assert manifest["properties"]["git_commit"] == "0123abc"
        assert {"saved_model/saved_model.pb", "metrics.json", "report.html"} <= set(manifest["files"])

    def test_with_a_wrong_parameter_ends_with_2_and_says_which(self, batch: Batch) -> None:
        job = batch.run("--epochs", "0")
        assert (job.status, job.exit_code) == ("FAILED", 2)
        assert "training.epochs = '0'" in job.log

    def test_needs_no_more_rights_than_a_locked_up_container_has(self, engine: Engine, training_image: str) -> None:
        run = ("run", "--rm", *LOCKED_UP, "--env=STORAGE_URL=/tmp/store", "--entrypoint=python", training_image)
        result = engine.run(*run, "-m", "mlplatform", "gather")
        assert re.fullmatch("[0-9a-f]{12}", result.stdout.strip().splitlines()[-1]), result.stdout


def found_in(pattern: str, text: str) -> str:
    """What the first group of a pattern matches in a text that has to hold it."""
    match = re.search(pattern, text)
    assert match, text
    return match[1]


class TestServer:
    """The serving image with that model, read-only, without capabilities, as a user without a name in the host."""

    def test_answers_v1(self, service: tuple[str, str], manifest: dict[str, Any]) -> None:
        samples = manifest["properties"]["samples"]
        instances = [sample["instance"] for sample in samples]
        status, body = post(f"{service[1]}/v1/models/{NAME}:predict", {"instances": instances})
        assert status == 200, body
        labels = manifest["properties"]["labels"]
        predicted = [labels[scores.index(max(scores))] for scores in body["predictions"]]
        assert sum(p == s["label"] for p, s in zip(predicted, samples, strict=True)) >= 0.8 * len(samples)

    def test_answers_v2(self, service: tuple[str, str], manifest: dict[str, Any]) -> None:
        image = manifest["properties"]["samples"][0]["instance"]["image"]
        tensor = {"name": "image", "shape": [1, 8, 8], "datatype": "FP32", "data": [image]}
        status, body = post(f"{service[1]}/v2/models/{NAME}/infer", {"inputs": [tensor]})
        assert status == 200, body
        assert sum(body["outputs"][0]["data"]) == pytest.approx(1, abs=1e-4)

    def test_refuses_a_bad_input_by_its_name(self, service: tuple[str, str]) -> None:
        status, body = post(f"{service[1]}/v1/models/{NAME}:predict", {"instances": [{"image": [[1]]}]})
        assert status == 400
        assert "image" in body["error"]

    def test_is_healthy_by_the_images_own_check(self, engine: Engine, service: tuple[str, str]) -> None:
        result = engine.run("exec", service[0], "python", "-m", "mlplatform", "health", check=False)
        assert result.returncode == 0, result.stdout

    def test_predicts_as_tensorflow_does_with_all_its_files(
        self, engine: Engine, repository: Path, service: tuple[str, str], serving_image: str, manifest: dict[str, Any]
    ) -> None:
        instances = [sample["instance"] for sample in manifest["properties"]["samples"]]
        images = json.dumps([instance["image"] for instance in instances])
        model = repository / "store" / "models" / manifest["id"] / manifest["content"] / "saved_model"
        program = (
            "import json, sys, tensorflow as tf; images = json.loads(sys.argv[1]); "
            "call = tf.saved_model.load('/saved_model').signatures['serving_default']; "
            "found = call(image=tf.constant(images, tf.float32))['probabilities'].numpy().tolist(); "
            "print('\\nFOUND', json.dumps(found))"
        )

        def predict(image: str) -> Any:
            options = (f"--volume={model}:/saved_model:ro", "--entrypoint=/opt/venv/bin/python", image)
            # Among what TensorFlow says on standard error.
            said = engine.output("run", "--rm", *options, "-c", program, images)
            return json.loads(found_in(r"FOUND (.*)", said))

        whole = engine.build(repository, "docker/serving.Dockerfile", "whole", "--target=installed")
        assert inside(engine, whole, "ls -d /opt/venv/lib/python3*/site-packages/keras")
        expected = predict(whole)
        assert predict(serving_image) == expected
        served = post(f"{service[1]}/v1/models/{NAME}:predict", {"instances": instances})[1]["predictions"]
        for found, wanted in zip(served, expected, strict=True):
            # float32, summed up in another order by another number of threads.
            assert found == pytest.approx(wanted, abs=1e-5)

    def test_predicts_the_same_labels_with_litert(
        self, engine: Engine, service: tuple[str, str], litert_image: str, manifest: dict[str, Any]
    ) -> None:
        body = {"instances": [sample["instance"] for sample in manifest["properties"]["samples"]]}
        with running(engine, litert_image) as (_, url):
            answers = [post(f"{place}/v1/models/{NAME}:predict", body) for place in (service[1], url)]
        assert [status for status, _ in answers] == [200, 200]
        expected, found = (answer["predictions"] for _, answer in answers)
        assert [scores.index(max(scores)) for scores in found] == [scores.index(max(scores)) for scores in expected]

    @pytest.mark.nightly
    def test_of_scikit_learn_answers_without_tensorflow(self, engine: Engine, onnx_image: str, tumours: Path) -> None:
        samples = published_model(tumours)["properties"]["samples"]
        with running(engine, onnx_image) as (_, url):
            body = {"instances": [sample["instance"] for sample in samples]}
            status, answer = post(f"{url}/v1/models/{TUMOURS}:predict?labels=true", body)
        assert status == 200, answer
        right = sum(found == sample["label"] for found, sample in zip(answer["labels"], samples, strict=True))
        assert right >= 0.8 * len(samples)

    def test_loses_no_request_when_it_is_stopped(
        self, engine: Engine, serving_image: str, manifest: dict[str, Any]
    ) -> None:
        body = {"instances": [sample["instance"] for sample in manifest["properties"]["samples"]]}
        answers: list[tuple[int, Any]] = []
        told = threading.Event()

        def ask(url: str) -> None:
            # On for a second after the signal, as load balancers are.
            end = None
            while end is None or time.monotonic() < end:
                try:
                    answers.append(post(url, body))
                except OSError as error:
                    answers.append((0, str(error)))
                if told.is_set() and end is None:
                    end = time.monotonic() + 1

        with running(engine, serving_image, "--env=SERVING_DRAIN_SECONDS=10") as (container, url):
            clients = [threading.Thread(target=ask, args=[f"{url}/v1/models/{NAME}:predict"]) for _ in range(4)]
            for client in clients:
                client.start()
            wait_for(lambda: len(answers) >= 100)
            before = len(answers)
            engine.run("kill", "--signal=TERM", container)
            told.set()
            for client in clients:
                client.join()
            assert engine.output("wait", container) == "0"
        assert len(answers) > before > 0
        assert [answer for answer in answers if answer[0] != 200] == []

    def test_does_not_become_ready_with_a_damaged_model(
        self, engine: Engine, repository: Path, manifest: dict[str, Any], tmp_path: Path, serving_image: str
    ) -> None:
        damaged = damage(repository, manifest, tmp_path / "model")
        result = engine.run("run", "--rm", f"--volume={damaged}:/model:ro", "--entrypoint=python", serving_image,
                            "-m", "mlplatform", "verify", "/model", check=False)  # fmt: skip
        assert result.returncode == 1
        assert "saved_model.pb" in result.stdout


def damage(repository: Path, manifest: dict[str, Any], target: Path) -> Path:
    """A copy of the published model with one byte of the network changed."""
    shutil.copytree(repository / "store" / "models" / manifest["id"], target)
    network = target / manifest["content"] / "saved_model" / "saved_model.pb"
    content = bytearray(network.read_bytes())
    content[len(content) // 2] ^= 1
    network.write_bytes(content)
    return target


class TestBuild:
    """What building does, and does not do again."""

    def test_refuses_a_damaged_model(
        self, engine: Engine, repository: Path, manifest: dict[str, Any], serving_image: str
    ) -> None:
        damaged = damage(repository, manifest, repository / "store" / "models" / "damaged")
        try:
            with pytest.raises(RuntimeError, match=r"saved_model\.pb: its SHA-256 is not the one in the manifest"):
                engine.build(repository, "docker/serving.Dockerfile", "damaged", MODEL="store/models/damaged")
        finally:
            shutil.rmtree(damaged)

    def test_of_changed_code_installs_nothing(self, engine: Engine, repository: Path, training_image: str) -> None:
        changed = repository / "mlplatform" / "training" / "run.py"
        before = changed.read_text(encoding="utf-8")
        changed.write_text(f"{before}\n# Changed.\n", encoding="utf-8")
        try:
            again = engine.build(repository, "docker/training.Dockerfile", "changed", REVISION="456def", VERSION="2")
        finally:
            changed.write_text(before, encoding="utf-8")
        assert changed_layers(engine, training_image, again) <= 3

    def test_of_a_new_model_changes_no_layer_of_the_code(
        self, engine: Engine, repository: Path, manifest: dict[str, Any], serving_image: str
    ) -> None:
        models = repository / "store" / "models"
        shutil.copytree(models / manifest["id"], models / "another")
        manifest_file = models / "another" / "manifest.json"
        # Without the digest, which is that of the other manifest.
        other = {name: value for name, value in manifest.items() if name != "digest"} | {"id": "0" * 12}
        manifest_file.write_text(json.dumps(other), encoding="utf-8")
        try:
            again = engine.build(repository, "docker/serving.Dockerfile", "another", MODEL="store/models/another")
        finally:
            shutil.rmtree(models / "another")
        # And one of what is made of it: its frozen graph, and the memory that it took.
        assert changed_layers(engine, serving_image, again) <= 2

    @pytest.mark.parametrize(
        ("lock", "tensorflow", "cuda"), [("training", "tensorflow-cpu", False), ("training-gpu", "tensorflow", True)]
    )
    def test_installs_cuda_where_that_is_asked_for(
        self, lock: str, tensorflow: str, cuda: bool, engine: Engine, render: Render
    ) -> None:
        """What would be installed for the image's Python; CUDA itself is 3 GB."""
        requirements = {"REQUIREMENTS": f"requirements/{lock}.txt"}
        repository = render({"training_device": "gpu"})
        image = engine.build(repository, "docker/training.Dockerfile", "lock", "--target=requirements", **requirements)
        install = "uv venv --quiet /tmp/venv && uv pip install --dry-run --python /tmp/venv --require-hashes"
        said = inside(engine, image, f"PATH=/build/tools/bin:$PATH; {install} --requirements /build/requirements.txt")
        packages = set(re.findall(r"^ \+ ([a-z0-9-]+)==", said, re.MULTILINE))
        assert {tensorflow, "luigi", "boto3", "keras"} <= packages, said
        assert any(name.startswith("nvidia-") for name in packages) == cuda


def changed_layers(engine: Engine, one: str, other: str) -> int:
    """In how many layers two images differ that have equally many."""
    layers = [json.loads(engine.output("inspect", "--format={{json .RootFS.Layers}}", image)) for image in (one, other)]
    return sum(first != second for first, second in zip(*layers, strict=True))


# Which package asks for one that is not there, a line each.
UNMET = """
from importlib.metadata import distributions
from re import match, sub
found = list(distributions())
names = {sub("[-_.]+", "-", one.name).lower() for one in found}
for one in found:
    for wanted in one.requires or []:
        if "extra ==" not in wanted and "platform" not in wanted and "python_version" not in wanted:
            name = sub("[-_.]+", "-", match("[A-Za-z0-9._-]+", wanted)[0]).lower()
            if name not in names:
                print(sub("[-_.]+", "-", one.name), "asks for", name)
"""


@pytest.mark.parametrize("purpose", ["training", "serving", "litert", pytest.param("onnx", marks=pytest.mark.nightly)])
class TestContents:
    """What is in an image, and what is not."""

    @pytest.fixture
    def image(self, purpose: str, request: pytest.FixtureRequest) -> str:
        return str(request.getfixturevalue(f"{purpose}_image"))

    def test_run_as_a_user_that_is_not_root(self, purpose: str, image: str, engine: Engine) -> None:
        assert engine.output("inspect", "--format={{.Config.User}}", image) == "10001:10001"
        assert inside(engine, image, "id -u; id -g").split() == ["10001", "10001"]

    def test_say_what_they_were_made_from(self, purpose: str, image: str, engine: Engine) -> None:
        config = json.loads(engine.output("inspect", "--format={{json .Config}}", image))
        assert config["Labels"]["org.opencontainers.image.revision"] == "0123abc"
        assert config["Labels"]["org.opencontainers.image.version"]
        assert config["StopSignal"] == "SIGTERM"
        assert bool(config.get("Healthcheck")) == (purpose != "training")

    def test_hold_no_compiler_installer_or_cache(self, purpose: str, image: str, engine: Engine) -> None:
        assert inside(engine, image, "command -v gcc cc c++ make uv; true") == ""
        assert inside(engine, image, "ls -A /root /tmp 2>/dev/null | grep -v :; ls /build 2>/dev/null; true") == ""

    def test_hold_the_packages_that_they_run_and_no_others(self, purpose: str, image: str, engine: Engine) -> None:
        served = {"config", "contract", "ghost", "runtime", "serving", "store", "telemetry"}
        trained = {"config", "contract", "data", "reporting", "runtime", "store", "telemetry", "training"}
        packages = {"training": trained, "serving": served, "litert": served, "onnx": served}[purpose]
        beside = {"training": ["mlplatform", "model", "requirements", "service.toml"]}
        assert inside(engine, image, "ls -A /app").split() == beside.get(purpose, ["mlplatform", "service.toml"])
        assert set(inside(engine, image, "ls -d /app/mlplatform/*/ | xargs -n 1 basename").split()) == packages
        # Each side's own packages: Luigi and boto3 train, Flask serves.
        installed, absent = {
            "training": ("luigi", "flask"),
            "serving": ("flask", "luigi"),
            "litert": ("ai_edge_litert", "tensorflow"),
            "onnx": ("onnxruntime", "tensorflow"),
        }[purpose]
        listed = inside(engine, image, "ls /opt/venv/lib/python3*/site-packages").split()
        assert installed in listed
        assert absent not in listed

    def test_lack_only_what_tensorflow_asks_for_and_does_not_need(
        self, purpose: str, image: str, engine: Engine
    ) -> None:
        lacking = {
            "training": {"libclang"},
            "serving": {"libclang", "google-pasta", "grpcio", "h5py", "keras", "setuptools"},
            "litert": set(),
            "onnx": set(),
        }[purpose]
        # How astunparse is built.
        expected = {"astunparse asks for wheel"} if purpose == "serving" else set()
        expected |= {f"tensorflow-cpu asks for {name}" for name in lacking}
        assert set(inside(engine, image, f"python -c '{UNMET}'").splitlines()) == expected

    def test_hold_no_secret(self, purpose: str, image: str, engine: Engine) -> None:
        history = engine.output("history", "--no-trunc", "--format={{.CreatedBy}}", image)
        settings = engine.output("inspect", "--format={{json .Config.Env}}", image)
        assert not re.search(r"(?i)secret|password|token|aws_access|://\w+:\w+@", history + settings)

    def test_can_be_written_nowhere_by_their_user_but_in_tmp(self, purpose: str, image: str, engine: Engine) -> None:
        found = inside(engine, image, "find / -xdev -writable -not -type l 2>/dev/null; true")
        assert set(found.split()) <= {"/tmp", "/var/tmp", "/run/lock"}

    def test_list_their_packages_in_a_bill_of_materials(self, purpose: str, image: str, engine: Engine) -> None:
        bill = json.loads(inside(engine, image, "cat /opt/venv/share/sbom.cdx.json"))
        assert bill["bomFormat"] == "CycloneDX"
        listed = {(part["name"].lower(), part["version"]) for part in bill["components"]}
        installed = inside(
            engine,
            image,
            "python -c 'from importlib.metadata import distributions as d\n"
            "for found in d(): print(found.name.lower(), found.version)'",
        )
        assert listed == {tuple(line.split()) for line in installed.splitlines()}

    def test_are_no_larger_than_measured(self, purpose: str, image: str, engine: Engine) -> None:
        size = int(engine.output("inspect", "--format={{.Size}}", image)) / 1e9
        assert size < LARGEST_GIGABYTES[purpose], f"{size:.2f} GB"


def inside(engine: Engine, image: str, command: str) -> str:
    """What a shell command says in a container of an image."""
    return engine.output("run", "--rm", "--entrypoint=sh", image, "-c", command)


def test_dockerfiles_have_no_finding_of_hadolint(repository: Path) -> None:
    dockerfiles = [*(repository / "docker").glob("*.Dockerfile"), SERVICES / "Dockerfile"]
    command = [str(Path(sys.executable).with_name("hadolint")), *map(str, dockerfiles)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert len(dockerfiles) == 4
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_base_image_of_these_tests_is_the_dockerfiles_own(repository: Path) -> None:
    for path in (repository / "docker").glob("*.Dockerfile"):
        found = dict(re.findall(r"^ARG (\w+)=(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE))
        assert found["BASE_IMAGE"].replace("${PYTHON_VERSION}", found["PYTHON_VERSION"]) == BASE_IMAGE
