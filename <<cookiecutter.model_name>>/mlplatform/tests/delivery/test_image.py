"""`image` and `bundle`: built only if what an image is made of changed, and pushed."""

import base64
import json
import subprocess
from pathlib import Path

import pytest

from mlplatform.tests.delivery.conftest import Delivery, Repository
from mlplatform.tests.registry import INDEX, Registry

TRAINING = "team/under-test-training"
SERVING = "team/under-test-serving"


def test_the_first_image_is_built_pushed_and_named_by_digest(
    repository: Repository, registry: Registry, delivery: Delivery
) -> None:
    said = delivery("image", "training")
    assert said.code == 0, said.err
    (tag,) = registry.tags(TRAINING)
    digest = next(name for found, name in registry.manifests if name.startswith("sha256:"))
    assert said.out.strip() == f"{registry.host}/{TRAINING}@{digest}"
    assert f"building {registry.host}/{TRAINING}:{tag}" in said.err


def test_an_image_of_the_same_inputs_is_not_built_again(
    repository: Repository, registry: Registry, delivery: Delivery
) -> None:
    first, before = delivery("image", "training"), repository.asked("docker")
    # Neither is part of a training image.
    (repository.path / "mlplatform" / "serving" / "extra.py").write_text("")
    (repository.path / "mlplatform" / "training" / "__pycache__").mkdir()
    (repository.path / "mlplatform" / "training" / "__pycache__" / "x.pyc").write_text("")
    again = delivery("image", "training")
    assert again.out == first.out
    assert "is in the registry" in again.err
    assert repository.asked("docker") == before


@pytest.mark.parametrize(
    "changed",
    ["docker/training.Dockerfile", "mlplatform/training/gate.py", "model/network.py", "requirements/training.txt"],
)
def test_a_changed_input_makes_another_image(
    repository: Repository, registry: Registry, delivery: Delivery, changed: str
) -> None:
    first = delivery("image", "training")
    with (repository.path / changed).open("a") as file:
        file.write("\n# Changed.\n")
    assert delivery("image", "training").out != first.out
    assert len(registry.tags(TRAINING)) == 2


def test_another_base_image_makes_another_image(
    repository: Repository, registry: Registry, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery("image", "training")
    monkeypatch.setenv("DELIVERY_BASE_IMAGE", "mirror.example.com/python:3.13")
    assert delivery("image", "training").code == 0
    assert len(registry.tags(TRAINING)) == 2
    assert "--build-arg=BASE_IMAGE=mirror.example.com/python:3.13" in repository.asked("docker")[-2]


def test_the_image_for_gpus_is_made_of_the_packages_for_gpus(
    repository: Repository, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELIVERY_TRAINING_DEVICE", "gpu")
    # A repository for CPUs has none.
    (repository.path / "requirements" / "training-gpu.txt").write_text("tensorflow[and-cuda]\n")
    assert delivery("image", "training").code == 0
    assert "--build-arg=REQUIREMENTS=requirements/training-gpu.txt" in repository.asked("docker")[0]


def test_an_image_built_again_by_force_is_the_one_used_from_then_on(
    repository: Repository, registry: Registry, delivery: Delivery
) -> None:
    delivery("image", "training")
    forced = delivery("image", "training", "--force")
    tags = registry.tags(TRAINING)
    assert len(tags) == 2
    assert tags[1].startswith(f"{tags[0]}-")
    assert json.loads(delivery("image", "training", "--json").out)["image"] == forced.out.strip()


def test_a_dry_run_says_what_would_be_built(repository: Repository, registry: Registry, delivery: Delivery) -> None:
    said = delivery("image", "training", "--dry-run")
    assert said.code == 0
    assert f"would build {registry.host}/{TRAINING}:" in said.err
    assert repository.asked("docker") == []


def test_a_build_that_fails_pushes_nothing(repository: Repository, registry: Registry, delivery: Delivery) -> None:
    (repository.programs / "fail").touch()
    said = delivery("image", "training")
    assert said.code == 1
    assert "failed to solve: no such package" in said.err
    assert "failed with exit code 1; its output is above" in said.err
    assert registry.manifests == {}


def test_a_registry_that_does_not_answer_is_said(
    repository: Repository, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELIVERY_CONTAINER_REGISTRY", "127.0.0.1:9/team")
    said = delivery("image", "training")
    assert said.code == 1
    assert "registry 127.0.0.1:9: no answer (ConnectionError); check container_registry of [delivery]" in said.err


def test_the_labels_say_commit_version_and_template(
    repository: Repository, registry: Registry, delivery: Delivery
) -> None:
    from mlplatform.delivery.images.registry import Image
    from mlplatform.delivery.images.registry import Registry as Client

    repository.publish("c0ffee")
    image = Image.parse(delivery("bundle", "c0ffee").out.strip())
    assert image is not None
    labels = Client(registry.host).labels(image)
    assert labels["org.opencontainers.image.version"] == "c0ffee"
    assert labels["org.opencontainers.image.revision"] == repository.environment["GIT_COMMIT"]
    assert labels["ml-service-template.version"] == "1.2.3"
    # What the model took while the image was built.
    assert labels["ml-service-template.memory-bytes"] == "300000000"


def test_a_repository_around_this_one_is_not_taken_for_its_commit(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlplatform.delivery.images.build import revision

    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=Test", "-c", "user.email=test@leaves.example")
        command = ["git", *identity, *arguments]
        return subprocess.run(command, cwd=repository.path, check=True, capture_output=True, text=True).stdout.strip()

    monkeypatch.delenv("GIT_COMMIT")
    monkeypatch.delenv("GIT_CEILING_DIRECTORIES")
    subprocess.run(["git", "init", "-q", str(repository.path.parent)], check=True)
    git("commit", "-q", "--allow-empty", "-m", "Of something else")
    assert revision() == ""
    git("init", "-q")
    git("add", "--all")
    git("commit", "-q", "-m", "Its own")
    assert revision() == git("rev-parse", "HEAD")


def test_labels_are_found_in_an_image_of_several_platforms(repository: Repository, registry: Registry) -> None:
    from mlplatform.delivery.images.registry import Image
    from mlplatform.delivery.images.registry import Registry as Client

    one = registry.add_image("r", "one", {"a": "1"})
    listed = [
        {"digest": f"sha256:{'0' * 64}", "platform": {"os": "unknown", "architecture": "unknown"}},
        {"digest": one, "platform": {"os": "linux", "architecture": "amd64"}},
    ]
    index = registry.add_manifest("r", "both", json.dumps({"schemaVersion": 2, "manifests": listed}).encode(), INDEX)
    assert Client(registry.host).labels(Image(registry.host, "r", index)) == {"a": "1"}


class TestBundle:
    """A model in a serving image."""

    def test_holds_the_model_and_what_the_server_is_made_of(
        self, repository: Repository, registry: Registry, delivery: Delivery
    ) -> None:
        repository.publish("c0ffee", {"saved_model/saved_model.pb": b"network"})
        said = delivery("bundle", "c0ffee", "--json")
        assert said.code == 0, said.err
        found = json.loads(said.out)
        assert found["image"] == f"{registry.host}/{SERVING}@{found['digest']}"
        assert found["built"] is True
        (context,) = (repository.programs / "built").glob("*/context")
        (network,) = (context / "store" / "models" / "c0ffee").rglob("saved_model.pb")
        assert network.read_bytes() == b"network"
        assert {path.name for path in context.iterdir()} >= {"mlplatform", "service.toml", "store"}
        assert not (context / "mlplatform" / "training").exists()

    def test_holds_the_hooks_of_the_team(self, repository: Repository, registry: Registry, delivery: Delivery) -> None:
        repository.publish("c0ffee")
        (repository.path / "serving_hooks.py").write_text("def register(application): ...\n")
        assert delivery("bundle", "c0ffee").code == 0
        assert list((repository.programs / "built").glob("*/context/serving_hooks.py"))

    def test_of_another_model_is_another_image(
        self, repository: Repository, registry: Registry, delivery: Delivery
    ) -> None:
        for version in ("one", "two"):
            repository.publish(version)
            assert delivery("bundle", version).code == 0
        assert len(registry.tags(SERVING)) == 2

    @pytest.mark.parametrize(("runtime", "file"), [("litert", "model.tflite"), ("onnx", "model.onnx")])
    def test_is_for_the_runtime_that_serving_is_set_to(
        self, runtime: str, file: str, repository: Repository, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SERVING_RUNTIME", runtime)
        repository.publish("c0ffee", {file: b"network"}, runtimes={runtime: {"path": file, "valid": True}})
        assert delivery("bundle", "c0ffee").code == 0
        assert f"--build-arg=RUNTIME={runtime}" in " ".join(repository.asked("docker"))

    def test_of_a_model_that_the_runtime_cannot_compute_names_the_op(
        self, repository: Repository, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SERVING_RUNTIME", "litert")
        reason = "op tf.TensorListReserve requires element_shape to be static"
        runtimes = {"litert": {"path": "model.tflite", "valid": False, "reason": reason}}
        repository.publish("c0ffee", runtimes=runtimes)
        said = delivery("bundle", "c0ffee")
        assert said.code == 1
        assert reason in said.err
        assert "build" not in " ".join(repository.asked("docker"))

    def test_without_a_version_is_of_the_newest_model(self, repository: Repository, delivery: Delivery) -> None:
        repository.publish("c0ffee")
        said = delivery("image", "serving")
        assert said.code == 0
        assert "verifying model c0ffee" in said.err

    def test_refuses_a_damaged_model(self, repository: Repository, registry: Registry, delivery: Delivery) -> None:
        repository.publish("c0ffee", {"saved_model/saved_model.pb": b"network"})
        (network,) = (repository.path / "store").rglob("saved_model.pb")
        network.write_bytes(b"netwOrk")
        said = delivery("bundle", "c0ffee")
        assert said.code == 1
        assert "saved_model.pb: its SHA-256 is not the one in the manifest" in said.err
        assert registry.manifests == {}

    def test_before_the_first_model_says_what_to_type(self, repository: Repository, delivery: Delivery) -> None:
        for command in (("bundle", "c0ffee"), ("image", "serving")):
            said = delivery(*command)
            assert said.code == 3
            assert "yet; train the first one: python -m mlplatform submit" in said.err

    def test_of_a_version_that_is_not_there_is_refused(self, repository: Repository, delivery: Delivery) -> None:
        repository.publish("c0ffee")
        for version in ("coffee", "../models/c0ffee", ""):
            said = delivery("bundle", version)
            assert said.code == 3
            assert f"model version {version!r}: not in" in said.err


class TestEcr:
    """A registry of AWS: ECR's own token opens it."""

    HOST = "123456789012.dkr.ecr.us-east-1.amazonaws.com"

    def test_docker_gets_the_token_and_no_file_holds_it(
        self, repository: Repository, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import mlplatform.delivery.images.registry as client
        from mlplatform.delivery.programs import follow

        monkeypatch.setattr(client, "_ecr_login", lambda host, region: client.Login("AWS", "s3cret-token"))
        registry.authorization = f"Basic {base64.b64encode(b'AWS:s3cret-token').decode()}"
        kept = repository.programs / "built" / f"{self.HOST}/r:1".replace("/", "_").replace(":", "_").replace(".", "_")
        kept = kept.with_name(kept.name.replace("-", "_"))
        (kept / "context").mkdir(parents=True)
        (kept / "arguments.json").write_text("{}")
        with client.docker_environment(client.Registry(self.HOST)) as environment:
            held = [path.read_text() for path in Path(environment["DOCKER_CONFIG"]).iterdir()]
            follow(
                "docker", "push", f"{self.HOST}/r:1", environment={**environment, "STAND_IN_REGISTRY": registry.host}
            )
        assert registry.tags("r") == ["1"]
        assert len(held) == 2
        assert not any("s3cret" in content for content in held)
        assert not Path(environment["DOCKER_CONFIG"]).exists()
        assert not any("s3cret" in command for command in repository.asked("docker"))

    def test_the_token_comes_from_aws(self, bucket: object) -> None:
        from mlplatform.delivery.images.registry import Registry as Client

        login = Client(self.HOST).login()
        assert login is not None
        assert (login.user, login.password) == ("AWS", "123456789012-auth-token")


def test_a_login_that_docker_keeps_is_used(
    repository: Repository, registry: Registry, delivery: Delivery, tmp_path: Path
) -> None:
    secret = base64.b64encode(b"me:mine").decode()
    registry.authorization = f"Basic {secret}"
    refused = delivery("image", "training", "--dry-run")
    assert refused.code == 1
    assert f"access to {TRAINING} denied (401); docker login {registry.host}" in refused.err
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker" / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": secret}}}))
    assert delivery("image", "training", "--dry-run").code == 0


class TestBuildah:
    """`builder = "buildah"`: the same image, built where there is no daemon."""

    @pytest.fixture(autouse=True)
    def selected(self, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DELIVERY_BUILDER", "buildah")

    def test_the_image_is_of_the_same_files_arguments_and_labels(
        self, repository: Repository, registry: Registry, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        repository.publish("c0ffee")
        digests = []
        for builder in ("buildah", "docker"):
            monkeypatch.setenv("DELIVERY_BUILDER", builder)
            said = delivery("bundle", "c0ffee", "--force", "--json")
            assert said.code == 0, said.err
            digests.append(json.loads(said.out)["digest"])
        assert digests[0] == digests[1]

    def test_no_docker_is_needed(self, repository: Repository, delivery: Delivery) -> None:
        repository.publish("c0ffee")
        assert delivery("bundle", "c0ffee").code == 0
        assert repository.asked("docker") == []

    def test_the_format_is_the_one_that_keeps_a_health_check(self, repository: Repository, delivery: Delivery) -> None:
        assert delivery("image", "training").code == 0
        (command,) = (asked for asked in repository.asked("buildah") if asked.startswith("build "))
        assert "--format=docker --layers" in command

    def test_labels_are_part_of_the_text_that_its_cache_compares(
        self, repository: Repository, delivery: Delivery
    ) -> None:
        assert delivery("image", "training").code == 0
        (dockerfile,) = (repository.programs / "built").glob("*/Dockerfile")
        commit = repository.environment["GIT_COMMIT"]
        for line in (f'ENV GIT_COMMIT="{commit}"', f'LABEL org.opencontainers.image.revision="{commit}"'):
            assert line in dockerfile.read_text()

    def test_logins_are_those_that_docker_keeps(
        self, repository: Repository, registry: Registry, delivery: Delivery, tmp_path: Path
    ) -> None:
        (tmp_path / ".docker").mkdir()
        logins = tmp_path / ".docker" / "config.json"
        logins.write_text(json.dumps({"auths": {registry.host: {"auth": base64.b64encode(b"me:mine").decode()}}}))
        assert delivery("image", "training").code == 0
        assert f"--authfile={logins} --tls-verify=false" in repository.asked("buildah")[-1]

    def test_a_container_that_a_file_is_read_in_is_removed(self, repository: Repository, delivery: Delivery) -> None:
        (repository.programs / "sbom.cdx.json").write_text('{"components": []}')
        image = f"registry.example.com/team/under-test-serving@sha256:{'1' * 64}"
        assert delivery("sbom", image).code == 0
        assert repository.asked("buildah") == [
            f"from {image}",
            "run under-test-working-container -- cat /opt/venv/share/sbom.cdx.json",
            "rm under-test-working-container",
        ]

    def test_one_that_is_too_old_is_refused(self, repository: Repository, delivery: Delivery) -> None:
        (repository.programs / "buildah-version").write_text("buildah version 1.28.2 (image-spec 1.1.0-rc2)")
        said = delivery("image", "training")
        assert said.code == 1
        assert "buildah version 1.28.2 (image-spec 1.1.0-rc2): must be 1.39 or newer" in said.err
