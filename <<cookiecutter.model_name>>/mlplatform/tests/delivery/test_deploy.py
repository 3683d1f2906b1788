"""`deploy`, `rollback`, `status`, `history`, `promote`: releases that work, and what is seen of those that do not.

Manifests are rendered by the real kubectl; the cluster is a stand-in that keeps Deployments and their ReplicaSets.
"""

import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from mlplatform.contract.memory import LABEL
from mlplatform.ghost.keep_shipping import ENDED
from mlplatform.store.releases import production
from mlplatform.tests.conftest import ROOT
from mlplatform.tests.delivery.conftest import VERSIONS, Delivery, Repository
from mlplatform.tests.delivery.datadog_api import FakeDatadog
from mlplatform.tests.delivery.releasing import (
    OVERLAYS,
    behave,
    bundled,
    deployed,
    forbid,
    history,
    image_of,
    in_cluster,
    objects,
    unanswered,
)

pytestmark = pytest.mark.apart


def set_memory(cluster: Repository, overlay: str, limit: str) -> None:
    """As an operator would: a patch in the overlay."""
    limits = {"containers": [{"name": "serving", "resources": {"limits": {"memory": limit}}}]}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "under-test"}}
    file = cluster.path / OVERLAYS / overlay / "kustomization.yaml"
    content = yaml.safe_load(file.read_text())
    content["patches"].append({"patch": json.dumps({**deployment, "spec": {"template": {"spec": limits}}})})
    file.write_text(yaml.safe_dump(content))


def sample_rate(cluster: Repository) -> str:
    """What the live pods of production read, in the ConfigMap that they mount."""
    overlay = cluster.path / OVERLAYS / "production"
    command = [os.environ["REAL_KUBECTL"], "kustomize", str(overlay)]
    manifests = yaml.safe_load_all(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    (live,) = (each for each in manifests if each["kind"] == "Deployment")
    spec = live["spec"]["template"]["spec"]
    (volume,) = (each["configMap"] for each in spec["volumes"] if each["name"] == "ghost")
    (mount,) = (each for each in spec["containers"][0]["volumeMounts"] if each["name"] == "ghost")
    found = objects(cluster)[f"ConfigMap/{volume['name']}"]
    assert found["metadata"]["labels"] == {"app.kubernetes.io/instance": "under-test-ghost"}
    settings = (overlay / "kustomization.yaml").read_text()
    path = re.findall("SERVING_GHOST_SAMPLE_RATE_FILE=(.*)", settings)[0]
    return str(found["data"][path.removeprefix(f"{mount['mountPath']}/")])


class TestDeploy:
    """A release that works."""

    def test_brings_the_image_by_digest_with_model_and_commit_as_version(
        self, cluster: Repository, delivery: Delivery
    ) -> None:
        image = bundled(delivery, VERSIONS[0])
        said = delivery("deploy", "--environment", "staging", "--image", image)
        assert said.code == 0, said.err
        assert said.out == f"staging runs {VERSIONS[0]}\n  image  {image}\n"
        assert "deploy: it serves under-test aaaaaaaaaaaa and predicts 1 samples" in said.err
        found = in_cluster(cluster, "under-test-staging")
        assert found["template"]["spec"]["containers"][0]["image"] == image
        version = f"{VERSIONS[0]}-0123456"
        assert found["template"]["metadata"]["labels"]["tags.datadoghq.com/version"] == version
        assert found["found"]["metadata"]["labels"]["tags.datadoghq.com/version"] == version
        assert "model aaaaaaaaaaaa" in found["found"]["metadata"]["annotations"]["kubernetes.io/change-cause"]

    def test_changes_no_file_of_the_repository(self, cluster: Repository, delivery: Delivery) -> None:
        files = {path: path.read_bytes() for path in (cluster.path / "deploy").rglob("*.yaml")}
        deployed(cluster, delivery, "staging", VERSIONS[0])
        assert {path: path.read_bytes() for path in (cluster.path / "deploy").rglob("*.yaml")} == files

    def test_goes_to_the_namespace_that_the_settings_name(
        self, cluster: Repository, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DELIVERY_KUBERNETES_NAMESPACE", "elsewhere")
        deployed(cluster, delivery, "staging", VERSIONS[0])
        assert in_cluster(cluster, "under-test-staging")["found"]["metadata"]["namespace"] == "elsewhere"

    def test_to_production_says_in_the_store_what_is_in_production(
        self, cluster: Repository, delivery: Delivery
    ) -> None:
        deployed(cluster, delivery, "staging", VERSIONS[0])
        assert production(cluster.store) is None
        deployed(cluster, delivery, "production", VERSIONS[0])
        assert production(cluster.store) == VERSIONS[0]

    def test_of_a_model_takes_the_image_that_was_bundled(self, cluster: Repository, delivery: Delivery) -> None:
        refused = delivery("deploy", "--environment", "staging", "--model", VERSIONS[0])
        assert refused.code == 3
        assert f"make it first: python -m mlplatform bundle {VERSIONS[0]}" in refused.err
        image = bundled(delivery, VERSIONS[0])
        assert delivery("deploy", "--environment", "staging", "--model", VERSIONS[0]).code == 0
        assert in_cluster(cluster, "under-test-staging")["template"]["spec"]["containers"][0]["image"] == image

    def test_of_a_model_finds_its_image_without_the_models_files(self, cluster: Repository, delivery: Delivery) -> None:
        bundled(delivery, VERSIONS[0])
        for key in list(cluster.store.keys(f"models/{VERSIONS[0]}/")):
            if not key.endswith("manifest.json"):
                cluster.store.delete(key)
        said = delivery("deploy", "--environment", "staging", "--model", VERSIONS[0])
        assert said.code == 0, said.err

    def test_of_a_ghost_is_content_with_what_a_ghost_answers(self, cluster: Repository, delivery: Delivery) -> None:
        said = delivery("deploy", "--environment", "ghost", "--image", image_of(cluster, VERSIONS[0]))
        assert said.code == 0, said.err
        assert "takes what is mirrored to it" in said.err

    def test_of_a_ghost_says_what_share_of_the_live_requests_it_gets(
        self, cluster: Repository, delivery: Delivery
    ) -> None:
        image = bundled(delivery, VERSIONS[0])
        said = delivery("deploy", "--environment", "ghost", "--image", image, "--sample-rate", "0.25")
        assert said.code == 0, said.err
        assert "deploy: copies of 0.25 of the live requests, in a minute or two" in said.err
        assert sample_rate(cluster) == "0.25"
        assert delivery("ghost", "sample-rate", "0").code == 0
        assert sample_rate(cluster) == "0"

    @pytest.mark.parametrize(
        ("environment", "share", "message"),
        [
            ("ghost", "1.5", "Invalid value for '--sample-rate': 1.5 is not in the range 0<=x<=1."),
            ("ghost", "many", "Invalid value for '--sample-rate': 'many' is not a valid float range."),
            ("staging", "0.5", "--sample-rate 0.5: of --environment ghost only, not of staging"),
        ],
    )
    def test_with_a_share_that_cannot_be_is_refused(
        self, cluster: Repository, delivery: Delivery, environment: str, share: str, message: str
    ) -> None:
        said = delivery("deploy", "--environment", environment, "--image", "any", "--sample-rate", share)
        assert said.code == 2
        assert message in said.err
        assert cluster.asked("kubectl") == []

    def test_is_written_down_with_who_and_what(
        self, cluster: Repository, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("BUILD_URL", "https://jenkins/job/7/")
        monkeypatch.setenv("STARTED_BY", "ada")
        image = deployed(cluster, delivery, "staging", VERSIONS[0])
        (entry,) = history(cluster)
        assert (entry["by"], entry["environment"], entry["action"]) == (
            "ada, https://jenkins/job/7/",
            "staging",
            "deploy",
        )
        assert (entry["image"], entry["model"], entry["outcome"]) == (image, VERSIONS[0], "done")
        assert entry["git_commit"] == cluster.environment["GIT_COMMIT"]
        listed = delivery("history").out.splitlines()
        assert listed[0].split() == ["at", "environment", "action", "model", "commit", "by", "outcome"]
        assert listed[1].split()[1:5] == ["staging", "deploy", VERSIONS[0], "0123456789"]

    def test_as_a_dry_run_prints_the_manifests_and_asks_no_cluster(
        self, cluster: Repository, delivery: Delivery
    ) -> None:
        image = image_of(cluster, VERSIONS[0])
        said = delivery("deploy", "--environment", "production", "--image", image, "--dry-run")
        assert said.code == 0, said.err
        manifests = list(yaml.safe_load_all(said.out))
        (found,) = [each for each in manifests if each["kind"] == "Deployment"]
        assert found["spec"]["template"]["spec"]["containers"][0]["image"] == image
        asked = cluster.asked("kubectl")
        assert all(command.startswith("kustomize") or "--local" in command for command in asked)

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (("--image", "r/under-test-serving:latest"), 1, "must name its digest"),
            ((), 2, "give either --image REF or --model VERSION"),
            (("--model", "dddddddddddd"), 3, "model version 'dddddddddddd': not in"),
        ],
    )
    def test_of_what_there_is_not_is_refused(
        self, cluster: Repository, delivery: Delivery, arguments: tuple[str, ...], code: int, message: str
    ) -> None:
        said = delivery("deploy", "--environment", "staging", *arguments)
        assert said.code == code
        assert message in said.err

    @pytest.mark.parametrize(("peak", "memory"), [(str(500 << 20), "792Mi"), ("", "1Gi")])
    def test_gives_the_container_the_memory_that_its_model_needs(
        self, cluster: Repository, delivery: Delivery, peak: str, memory: str
    ) -> None:
        image = image_of(cluster, VERSIONS[0], **{LABEL: peak})
        said = delivery("deploy", "--environment", "staging", "--image", image)
        assert said.code == 0, said.err
        (server,) = in_cluster(cluster, "under-test-staging")["template"]["spec"]["containers"]
        assert server["resources"]["requests"] == server["resources"]["limits"] == {"cpu": "1", "memory": memory}

    def test_leaves_the_memory_as_an_overlay_sets_it(self, cluster: Repository, delivery: Delivery) -> None:
        set_memory(cluster, "staging", "3Gi")
        image = image_of(cluster, VERSIONS[0], **{LABEL: str(500 << 20)})
        said = delivery("deploy", "--environment", "staging", "--image", image, "--dry-run")
        (found,) = [each for each in yaml.safe_load_all(said.out) if each["kind"] == "Deployment"]
        (server,) = found["spec"]["template"]["spec"]["containers"]
        assert server["resources"] == {"requests": {"cpu": "1"}, "limits": {"cpu": "1", "memory": "3Gi"}}

    def test_of_a_model_that_its_container_cannot_hold_is_refused(
        self, cluster: Repository, delivery: Delivery
    ) -> None:
        set_memory(cluster, "staging", "1Gi")
        image = image_of(cluster, VERSIONS[0], **{LABEL: str(2 << 30)})
        said = delivery("deploy", "--environment", "staging", "--image", image)
        assert said.code == 3
        assert (
            "container 'serving' has a memory limit of 1Gi; this model needs 2650Mi, by what loading it took"
            in said.err
        )
        assert "set at least that in deploy/k8s, or leave memory out there" in said.err
        assert objects(cluster) == {}

    def test_of_another_services_image_is_refused(self, cluster: Repository, delivery: Delivery) -> None:
        digest = cluster.registry.add_image("team/other-serving", "1", {"org.opencontainers.image.version": "x"})
        image = f"{cluster.registry.host}/team/other-serving@{digest}"
        said = delivery("deploy", "--environment", "staging", "--image", image)
        assert said.code == 3
        assert "is not an image of under-test-serving" in said.err

    def test_without_a_namespace_says_how_to_make_it(self, cluster: Repository, delivery: Delivery) -> None:
        image = image_of(cluster, VERSIONS[0])
        (cluster.programs / "no-namespace").touch()
        said = delivery("deploy", "--environment", "staging", "--image", image)
        assert said.code == 3
        assert "create it: kubectl create namespace models" in said.err


class TestEvents:
    """Where an overlay takes the component `events`, a second image goes along with the server's."""

    @pytest.fixture
    def shipping(self, cluster: Repository, monkeypatch: pytest.MonkeyPatch) -> Repository:
        monkeypatch.setattr("mlplatform.delivery.releases.release.SIDECAR_SECONDS", 0)
        overlay = cluster.path / OVERLAYS / "production" / "kustomization.yaml"
        text = overlay.read_text()
        assert "components: []" in text
        overlay.write_text(text.replace("components: []", "components: [../../components/events]"))
        return cluster

    def containers(self, cluster: Repository) -> dict[str, str]:
        spec = in_cluster(cluster, "under-test")["template"]["spec"]
        return {each["name"]: each["image"] for each in [*spec["containers"], *spec.get("initContainers", [])]}

    def test_bundle_builds_it_and_deploy_takes_it_by_digest(self, shipping: Repository, delivery: Delivery) -> None:
        image = bundled(delivery, VERSIONS[0])
        (tag,) = shipping.registry.tags("team/under-test-events")
        said = delivery("deploy", "--environment", "production", "--image", image)
        assert said.code == 0, said.err
        events = json.loads(delivery("image", "events", "--json").out)
        assert (events["tag"], events["built"]) == (tag, False)
        assert self.containers(shipping) == {"serving": image, "events": events["image"]}

    def test_without_it_the_deployment_says_what_to_type(self, shipping: Repository, delivery: Delivery) -> None:
        said = delivery("deploy", "--environment", "production", "--image", image_of(shipping, VERSIONS[0]))
        assert said.code == 3
        assert "there is no image of it in" in said.err
        assert "make it first: python -m mlplatform image events" in said.err
        assert not (shipping.programs / "cluster.json").exists()

    def test_of_other_code_keeps_the_one_that_runs(self, shipping: Repository, delivery: Delivery) -> None:
        image = bundled(delivery, VERSIONS[0])
        delivery("deploy", "--environment", "production", "--image", image)
        before = self.containers(shipping)["events"]
        with (shipping.path / "docker" / "events.Dockerfile").open("a") as file:
            file.write("# Changed, and not built.\n")
        said = delivery("deploy", "--environment", "production", "--image", image_of(shipping, VERSIONS[1]))
        assert said.code == 0, said.err
        assert self.containers(shipping)["events"] == before

    def test_a_release_whose_events_are_not_shipped_is_taken_back(
        self, shipping: Repository, delivery: Delivery
    ) -> None:
        image = bundled(delivery, VERSIONS[0])
        assert delivery("deploy", "--environment", "production", "--image", image).code == 0
        trouble = f"error: no such bucket\n{ENDED} with exit code 1; started again in 1 s"
        (shipping.programs / "sidecar.json").write_text(json.dumps({"events": trouble}))
        said = delivery("deploy", "--environment", "production", "--image", image_of(shipping, VERSIONS[1]))
        assert said.code == 1
        assert "container events does not keep running" in said.err
        assert "  log: error: no such bucket" in said.err
        assert "rolled back: production runs aaaaaaaaaaaa-0123456 as before" in said.err

    def test_an_overlay_without_it_makes_no_second_image(self, cluster: Repository, delivery: Delivery) -> None:
        bundled(delivery, VERSIONS[0])
        assert cluster.registry.tags("team/under-test-events") == []


class TestFailure:
    """A release that does not work is taken back, and what is seen of it says why."""

    def test_a_container_that_crashes_is_rolled_back_with_states_events_and_log(
        self, cluster: Repository, delivery: Delivery
    ) -> None:
        good = deployed(cluster, delivery, "production", VERSIONS[0])
        bad = image_of(cluster, VERSIONS[1])
        behave(cluster, bad, "crash")
        said = delivery("deploy", "--environment", "production", "--image", bad)
        assert said.code == 1
        told = said.err[said.err.index("deploy: bbbbbbbbbbbb does not run in production:") :].splitlines()
        pod = r"under-test-[0-9a-f]{10}-x7k2p"
        assert re.fullmatch(rf".*: pod {pod} does not start: container serving is in CrashLoopBackOff", told[0])
        assert re.fullmatch(rf"pod {pod}: Running", told[1])
        assert told[2:] == [
            "  serving waits: CrashLoopBackOff back-off 20s restarting failed container=serving",
            "  serving ended with exit code 1 (Error)",
            "  event BackOff: Back-off restarting failed container serving",
            "  log: serving: the model in /model cannot be loaded",
            "  log: serving: stopped",
            "rolled back: production runs aaaaaaaaaaaa-0123456 as before",
        ]
        assert in_cluster(cluster, "under-test")["template"]["spec"]["containers"][0]["image"] == good
        assert production(cluster.store) == VERSIONS[0]
        assert history(cluster)[-1]["outcome"] == "failed, rolled back"

    def test_a_service_that_serves_another_model_is_rolled_back(
        self, cluster: Repository, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mlplatform.delivery.releases.smoke.SETTLE_SECONDS", 0)
        deployed(cluster, delivery, "production", VERSIONS[0])
        bad = image_of(cluster, VERSIONS[1])
        behave(cluster, bad, "wrong")
        said = delivery("deploy", "--environment", "production", "--image", bad)
        assert said.code == 1
        assert "it serves under-test another instead of bbbbbbbbbbbb" in said.err
        assert "rolled back: production runs aaaaaaaaaaaa-0123456 as before" in said.err
        assert production(cluster.store) == VERSIONS[0]

    def test_pods_that_find_no_node_are_rolled_back_after_the_time_that_they_have(
        self, cluster: Repository, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DELIVERY_ROLLOUT_SECONDS", "1")
        deployed(cluster, delivery, "production", VERSIONS[0])
        bad = image_of(cluster, VERSIONS[1])
        behave(cluster, bad, "pending")
        said = delivery("deploy", "--environment", "production", "--image", bad)
        assert said.code == 1
        assert "it was not ready within 1 s (rollout_seconds of [delivery])" in said.err
        assert "  not scheduled: 0/3 nodes: 3 Insufficient cpu." in said.err
        assert "rolled back" in said.err

    def test_pods_that_are_not_let_in_are_explained_by_what_keeps_them_out(
        self, cluster: Repository, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DELIVERY_ROLLOUT_SECONDS", "1")
        bad = image_of(cluster, VERSIONS[0])
        behave(cluster, bad, "quota")
        said = delivery("deploy", "--environment", "staging", "--image", bad)
        assert said.code == 1
        assert "no pod was made: pods are forbidden: exceeded quota: small" in said.err

    def test_a_sidecar_that_crashes_is_rolled_back_at_once_with_its_own_state_and_log(
        self, cluster: Repository, delivery: Delivery
    ) -> None:
        deployed(cluster, delivery, "production", VERSIONS[0])
        bad = image_of(cluster, VERSIONS[1])
        behave(cluster, bad, "sidecar")
        said = delivery("deploy", "--environment", "production", "--image", bad)
        assert said.code == 1
        assert "does not start: container events is in CrashLoopBackOff" in said.err
        assert "  events waits: CrashLoopBackOff back-off 20s restarting failed container=events" in said.err
        assert "rolled back: production runs aaaaaaaaaaaa-0123456 as before" in said.err

    def test_a_container_whose_settings_come_late_is_waited_for(self, cluster: Repository, delivery: Delivery) -> None:
        image = image_of(cluster, VERSIONS[0])
        behave(cluster, image, "late")
        said = delivery("deploy", "--environment", "production", "--image", image)
        assert said.code == 0, said.err
        assert production(cluster.store) == VERSIONS[0]

    def test_a_service_that_cannot_be_asked_is_rolled_back(self, cluster: Repository, delivery: Delivery) -> None:
        deployed(cluster, delivery, "production", VERSIONS[0])
        unanswered(cluster, "port-forward", 2)
        said = delivery("deploy", "--environment", "production", "--image", image_of(cluster, VERSIONS[1]))
        assert said.code == 1
        assert "kubectl port-forward service/under-test failed" in said.err
        assert "rolled back: production runs aaaaaaaaaaaa-0123456 as before" in said.err
        assert production(cluster.store) == VERSIONS[0]

    def test_the_first_release_of_all_is_removed_with_all_that_it_made(
        self, cluster: Repository, delivery: Delivery
    ) -> None:
        bad = image_of(cluster, VERSIONS[0])
        behave(cluster, bad, "crash")
        said = delivery("deploy", "--environment", "production", "--image", bad)
        assert said.code == 1
        assert "nothing ran in production before, so all that was made there is removed" in said.err
        assert objects(cluster) == {}
        assert production(cluster.store) is None
        assert "nothing runs" in delivery("status").out

    def test_everything_else_that_it_changed_is_taken_back_too(self, cluster: Repository, delivery: Delivery) -> None:
        deployed(cluster, delivery, "production", VERSIONS[0])
        before = objects(cluster)
        bad = image_of(cluster, VERSIONS[1])
        behave(cluster, bad, "crash")
        for file, old, new in (
            ("horizontalpodautoscaler.yaml", "maxReplicas: 10", "maxReplicas: 20"),
            ("kustomization.yaml", "SERVING_FINISH_SECONDS=20", "SERVING_FINISH_SECONDS=25"),
            ("deployment.yaml", "minReadySeconds: 5", "minReadySeconds: 6"),
        ):
            path = cluster.path / "deploy" / "k8s" / "base" / file
            assert old in path.read_text()
            path.write_text(path.read_text().replace(old, new))
        assert delivery("deploy", "--environment", "production", "--image", bad).code == 1
        assert objects(cluster) == before


class TestRefusal:
    """What the cluster does not take."""

    def test_is_found_before_the_first_change(self, cluster: Repository, delivery: Delivery) -> None:
        deployed(cluster, delivery, "staging", VERSIONS[0])
        before = objects(cluster)
        forbid(cluster, "NetworkPolicy", "always")
        said = delivery("deploy", "--environment", "staging", "--image", image_of(cluster, VERSIONS[1]))
        assert said.code == 1
        message = (
            'the cluster refuses it: networkpolicies.networking.k8s.io "under-test-staging" is forbidden: User "ci" '
            'cannot patch resource "networkpolicies" in API group "networking.k8s.io" in the namespace "models"'
        )
        assert said.err.splitlines() == [
            f"deploy: bbbbbbbbbbbb was not released to staging, and nothing was changed: {message}"
        ]
        assert objects(cluster) == before
        assert history(cluster)[-1]["reason"] == message

    def test_half_way_is_taken_back(self, cluster: Repository, delivery: Delivery) -> None:
        deployed(cluster, delivery, "staging", VERSIONS[0])
        before = objects(cluster)
        forbid(cluster, "NetworkPolicy", "not in a dry run")
        said = delivery("deploy", "--environment", "staging", "--image", image_of(cluster, VERSIONS[1]))
        assert said.code == 1
        assert "bbbbbbbbbbbb does not run in staging: the cluster refuses it: networkpolicies" in said.err
        assert said.err.splitlines()[-1] == "rolled back: staging runs aaaaaaaaaaaa-0123456 as before"
        assert objects(cluster) == before
        assert history(cluster)[-1]["outcome"] == "failed, rolled back"
        assert history(cluster)[-1]["reason"].startswith("the cluster refuses it: networkpolicies")


class TestClusterAway:
    """A cluster that does not answer for a while, and one that stays away."""

    @pytest.mark.parametrize("command", ["get", "apply", "port-forward"])
    def test_for_a_while_does_not_end_the_release(
        self, cluster: Repository, delivery: Delivery, monkeypatch: pytest.MonkeyPatch, command: str
    ) -> None:
        away_after_the_mark(cluster, monkeypatch, command, 1 if command == "port-forward" else 6)
        image = image_of(cluster, VERSIONS[0])
        said = delivery("deploy", "--environment", "staging", "--image", image)
        assert said.code == 0, said.err
        assert json.loads((cluster.programs / "unanswered.json").read_text())[command] == 0
        if command != "port-forward":
            assert said.err.count("the cluster does not answer, asked again for 600 s: Unable to connect") == 1
            assert said.err.count("the cluster answers again") == 1

    def test_for_good_says_what_to_run_and_that_takes_it_back(
        self, cluster: Repository, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DELIVERY_ROLLOUT_SECONDS", "1")
        deployed(cluster, delivery, "production", VERSIONS[0])
        before = objects(cluster)
        away_after_the_mark(cluster, monkeypatch, "get", 9999)
        said = delivery("deploy", "--environment", "production", "--image", image_of(cluster, VERSIONS[1]))
        assert said.code == 1
        told = said.err[said.err.index("deploy: bbbbbbbbbbbb does not run in production") :].splitlines()
        assert re.search(
            r"does not run in production: the cluster does not answer for \d s: Unable to connect", told[0]
        )
        assert "AND THE ROLLBACK FAILED: the cluster does not answer" in told[-2]
        assert told[-1] == ("the next command does that when the cluster can be reached: python -m mlplatform status")
        assert history(cluster)[-1]["outcome"] == "failed"
        assert objects(cluster) != before
        still = delivery("status")
        assert still.code == 1
        assert "was cut off, and cannot be taken back now: the cluster does not answer" in still.err
        unanswered(cluster, "get", 0)
        status = delivery("status")
        assert status.code == 0, status.err
        assert "was cut off; rolled back: production runs aaaaaaaaaaaa-0123456 as before" in status.err
        assert objects(cluster) == before
        assert history(cluster)[-1]["outcome"] == "failed, rolled back"
        assert production(cluster.store) == VERSIONS[0]

    def test_before_anything_was_changed_is_said_at_once(self, cluster: Repository, delivery: Delivery) -> None:
        unanswered(cluster, "apply", 1)
        said = delivery("deploy", "--environment", "staging", "--image", image_of(cluster, VERSIONS[0]))
        assert said.code == 1
        assert "nothing was changed: the cluster does not answer: Unable to connect to the server" in said.err


def away_after_the_mark(cluster: Repository, monkeypatch: pytest.MonkeyPatch, command: str, times: int) -> None:
    """The cluster gives no answer to a command, so many times, as soon as a release is under way."""
    from mlplatform.delivery.releases.release import Releaser

    carry_out = Releaser._carry_out

    def away(self: Releaser, entry: Any, taken: Any, bring: Any) -> Any:
        def bring_without_answers() -> str:
            unanswered(cluster, command, times)
            said: str = bring()
            return said

        return carry_out(self, entry, taken, bring_without_answers)

    monkeypatch.setattr(Releaser, "_carry_out", away)


class TestRollback:
    """Back to what ran before."""

    def test_goes_to_the_release_before(self, cluster: Repository, delivery: Delivery) -> None:
        first = deployed(cluster, delivery, "production", VERSIONS[0])
        deployed(cluster, delivery, "production", VERSIONS[1])
        said = delivery("rollback", "--environment", "production")
        assert said.code == 0, said.err
        assert f"production runs {VERSIONS[0]}" in said.out
        assert in_cluster(cluster, "under-test")["template"]["spec"]["containers"][0]["image"] == first
        assert production(cluster.store) == VERSIONS[0]
        assert history(cluster)[-1]["action"] == "rollback"

    def test_never_goes_to_one_that_failed(self, cluster: Repository, delivery: Delivery) -> None:
        deployed(cluster, delivery, "production", VERSIONS[0])
        bad = image_of(cluster, VERSIONS[1])
        behave(cluster, bad, "crash")
        delivery("deploy", "--environment", "production", "--image", bad)
        deployed(cluster, delivery, "production", VERSIONS[2])
        assert f"production runs {VERSIONS[0]}" in delivery("rollback", "--environment", "production").out

    def test_goes_to_a_named_version(self, cluster: Repository, delivery: Delivery) -> None:
        for version in VERSIONS:
            deployed(cluster, delivery, "production", version)
        said = delivery("rollback", "--environment", "production", "--to", VERSIONS[0])
        assert said.code == 0, said.err
        assert production(cluster.store) == VERSIONS[0]

    def test_twice_goes_on_backwards(self, cluster: Repository, delivery: Delivery) -> None:
        for version in VERSIONS:
            deployed(cluster, delivery, "production", version)
        for version in (VERSIONS[1], VERSIONS[0]):
            said = delivery("rollback", "--environment", "production")
            assert f"production runs {version}" in said.out, said.err
        refused = delivery("rollback", "--environment", "production")
        assert refused.code == 3
        assert production(cluster.store) == VERSIONS[0]

    def test_never_goes_to_a_release_that_was_gone_back_from(self, cluster: Repository, delivery: Delivery) -> None:
        deployed(cluster, delivery, "production", VERSIONS[0])
        deployed(cluster, delivery, "production", VERSIONS[1])
        assert delivery("rollback", "--environment", "production").code == 0
        deployed(cluster, delivery, "production", VERSIONS[2])
        assert f"production runs {VERSIONS[0]}" in delivery("rollback", "--environment", "production").out

    def test_goes_forward_again_to_a_version_that_is_named(self, cluster: Repository, delivery: Delivery) -> None:
        for version in VERSIONS:
            deployed(cluster, delivery, "production", version)
        assert delivery("rollback", "--environment", "production").code == 0
        forward = delivery("rollback", "--environment", "production", "--to", VERSIONS[2])
        assert f"production runs {VERSIONS[2]}" in forward.out, forward.err
        assert f"production runs {VERSIONS[1]}" in delivery("rollback", "--environment", "production").out

    def test_goes_on_backwards_also_where_the_cluster_has_forgotten_the_pods(
        self, cluster: Repository, delivery: Delivery
    ) -> None:
        for version in VERSIONS:
            deployed(cluster, delivery, "staging", version)
            forget(cluster, "under-test-staging")
        for version in (VERSIONS[1], VERSIONS[0]):
            said = delivery("rollback", "--environment", "staging")
            assert f"staging runs {version}" in said.out, said.err
            forget(cluster, "under-test-staging")

    def test_on_a_terminal_says_what_it_will_do_and_asks(self, cluster: Repository, delivery: Delivery) -> None:
        deployed(cluster, delivery, "staging", VERSIONS[0])
        deployed(cluster, delivery, "staging", VERSIONS[1])
        asked = "staging runs bbbbbbbbbbbb-0123456; go back to aaaaaaaaaaaa, released "
        code, said = on_a_terminal("n\n", "rollback", "--environment", "staging")
        assert (code, asked in said, "[y/N]" in said) == (130, True, True), said
        assert in_cluster(cluster, "under-test-staging")["template"]["metadata"]["labels"][
            "tags.datadoghq.com/version"
        ].startswith(VERSIONS[1])
        code, said = on_a_terminal("y\n", "rollback", "--environment", "staging")
        assert (code, asked in said) == (0, True), said
        assert f"staging runs {VERSIONS[0]}" in said

    def test_of_a_ghost_that_was_stopped_brings_the_last_one_back(
        self, cluster: Repository, delivery: Delivery
    ) -> None:
        deployed(cluster, delivery, "ghost", VERSIONS[0])
        assert delivery("ghost", "stop").code == 0
        said = delivery("rollback", "--environment", "ghost")
        assert said.code == 0, said.err
        assert f"ghost runs {VERSIONS[0]}" in said.out
        assert [entry["action"] for entry in history(cluster)] == ["deploy", "stop", "rollback"]

    def test_deploys_again_what_the_cluster_has_forgotten(self, cluster: Repository, delivery: Delivery) -> None:
        deployed(cluster, delivery, "staging", VERSIONS[0])
        deployed(cluster, delivery, "staging", VERSIONS[1])
        forget(cluster, "under-test-staging")
        said = delivery("rollback", "--environment", "staging")
        assert said.code == 0, said.err
        assert f"staging runs {VERSIONS[0]}" in said.out

    def test_that_does_not_get_there_says_why_and_leaves_what_ran(
        self, cluster: Repository, delivery: Delivery
    ) -> None:
        first = deployed(cluster, delivery, "production", VERSIONS[0])
        deployed(cluster, delivery, "production", VERSIONS[1])
        behave(cluster, first, "crash")
        said = delivery("rollback", "--environment", "production")
        assert said.code == 1
        assert "production is not back at aaaaaaaaaaaa: pod under-test-" in said.err
        assert "  log: serving: the model in /model cannot be loaded" in said.err
        assert "rolled back: production runs bbbbbbbbbbbb-0123456 as before" in said.err
        assert (history(cluster)[-1]["action"], history(cluster)[-1]["outcome"]) == ("rollback", "failed, rolled back")
        assert production(cluster.store) == VERSIONS[1]

    def test_with_nothing_to_go_back_to_is_refused(self, cluster: Repository, delivery: Delivery) -> None:
        deployed(cluster, delivery, "staging", VERSIONS[0])
        said = delivery("rollback", "--environment", "staging")
        assert said.code == 3
        assert "there is no good release before the one that runs in staging" in said.err

    def test_as_a_dry_run_says_where_it_would_go(self, cluster: Repository, delivery: Delivery) -> None:
        deployed(cluster, delivery, "staging", VERSIONS[0])
        deployed(cluster, delivery, "staging", VERSIONS[1])
        said = delivery("rollback", "--environment", "staging", "--dry-run")
        assert f"would go back to {VERSIONS[0]}" in said.out
        assert len(history(cluster)) == 2


def forget(cluster: Repository, name: str) -> None:
    """The cluster keeps no ReplicaSet of a Deployment but the one that runs."""
    kept = cluster.programs / "cluster.json"
    state = json.loads(kept.read_text())
    newest = max(state["sets"][name].items(), key=lambda item: item[1]["revision"])
    state["sets"][name] = dict([newest])
    kept.write_text(json.dumps(state))


def on_a_terminal(typed: str, *arguments: str) -> tuple[int, str]:
    """Exit code and screen of a command that runs on a terminal, where this is typed."""
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "mlplatform", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        os.write(ours, typed.encode())
        screen = b""
        # A terminal whose last program is gone reports an error.
        with suppress(OSError):
            while part := os.read(ours, 4096):
                screen += part
        code = process.wait()
    os.close(ours)
    return code, screen.decode()


class TestStatus:
    """What runs where."""

    def test_before_the_first_release_says_what_to_type(self, cluster: Repository, delivery: Delivery) -> None:
        said = delivery("status")
        assert said.code == 0
        assert said.out.count("nothing runs") == 3
        assert "the first release: python -m mlplatform deploy --environment staging --model VERSION" in said.out
        assert "nothing was released yet" in delivery("history").out

    def test_shows_each_environment(self, cluster: Repository, delivery: Delivery) -> None:
        image = deployed(cluster, delivery, "production", VERSIONS[0])
        rows = delivery("status").out.splitlines()
        assert rows[3].split() == ["production", f"{VERSIONS[0]}-0123456", "2", "of", "2", "settled", image]
        assert rows[4] == f"in production, as the store has it: {VERSIONS[0]}"

    def test_says_that_cluster_and_store_differ(self, cluster: Repository, delivery: Delivery) -> None:
        from mlplatform.store.releases import set_production

        deployed(cluster, delivery, "production", VERSIONS[0])
        set_production(cluster.store, VERSIONS[1])
        assert f"THEY DIFFER: the cluster runs {VERSIONS[0]}-0123456" in delivery("status").out


class TestPromote:
    """A ghost goes to production."""

    def report(self, cluster: Repository, version: str, decision: str, live: str | None) -> None:
        made_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        content = {
            "made_at": made_at,
            "version": version,
            "verdict": {"decision": decision, "reasons": ["as the test wants it"]},
            "live": {"version": live} if live else None,
        }
        cluster.store.write(f"releases/ghost-reports/{version}/{made_at}.json", json.dumps(content).encode())

    def test_with_a_good_report_is_released(self, cluster: Repository, delivery: Delivery) -> None:
        deployed(cluster, delivery, "production", VERSIONS[0])
        ghost = deployed(cluster, delivery, "ghost", VERSIONS[1])
        self.report(cluster, VERSIONS[1], "promote", VERSIONS[0])
        said = delivery("promote")
        assert said.code == 0, said.err
        assert said.out == f"production runs {VERSIONS[1]}\n  image  {ghost}\n"
        assert production(cluster.store) == VERSIONS[1]
        assert history(cluster)[-1]["action"] == "promote"

    def test_without_a_ghost_says_how_to_begin(self, cluster: Repository, delivery: Delivery) -> None:
        said = delivery("promote")
        assert said.code == 3
        assert "no ghost runs; the first: python -m mlplatform deploy --environment ghost --model VERSION" in said.err

    def test_without_a_report_is_refused(self, cluster: Repository, delivery: Delivery) -> None:
        deployed(cluster, delivery, "ghost", VERSIONS[1])
        said = delivery("promote")
        assert said.code == 3
        assert f"{VERSIONS[1]} is not promoted: there is no ghost report on {VERSIONS[1]}" in said.err
        assert production(cluster.store) is None

    def test_with_a_bad_report_is_refused_unless_somebody_says_why(
        self, cluster: Repository, delivery: Delivery
    ) -> None:
        deployed(cluster, delivery, "production", VERSIONS[0])
        deployed(cluster, delivery, "ghost", VERSIONS[1])
        self.report(cluster, VERSIONS[1], "hold", VERSIONS[0])
        said = delivery("promote")
        assert said.code == 3
        assert "says hold: as the test wants it" in said.err
        said = delivery("promote", "--override", "the labels come on Monday")
        assert said.code == 0, said.err
        assert history(cluster)[-1]["reason"] == "in spite of it: the labels come on Monday"


def test_who_records_another_version_meanwhile_is_told(
    cluster: Repository, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlplatform.delivery.releases import smoke
    from mlplatform.store.releases import set_production

    deployed(cluster, delivery, "production", VERSIONS[0])
    before = smoke.check

    def meanwhile(*arguments: Any) -> str:
        set_production(cluster.store, VERSIONS[2])
        return before(*arguments)

    monkeypatch.setattr(smoke, "check", meanwhile)
    said = delivery("deploy", "--environment", "production", "--image", image_of(cluster, VERSIONS[1]))
    assert said.code == 1
    assert "meanwhile somebody else recorded another version" in said.err
    assert production(cluster.store) == VERSIONS[2]


def test_datadog_is_told_of_a_release_that_works_and_of_one_that_does_not(
    cluster: Repository, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeDatadog()
    with fake.serving() as url:
        monkeypatch.setenv("DD_API_KEY", "api")
        monkeypatch.setenv("DELIVERY_DATADOG_URL", url)
        deployed(cluster, delivery, "staging", VERSIONS[0])
        broken = image_of(cluster, VERSIONS[1])
        behave(cluster, broken, "crash")
        assert delivery("deploy", "--environment", "staging", "--image", broken).code != 0
    works, fails = fake.events
    assert works["title"] == f"under-test: deploy of {VERSIONS[0]} to staging (done)"
    assert {"service:under-test", "env:staging", "role:live", f"model_version:{VERSIONS[0]}"} <= set(works["tags"])
    assert (works["alert_type"], fails["alert_type"]) == ("info", "error")
    assert "rolled back" in fails["title"]


def test_a_release_does_not_fail_because_datadog_is_not_there(
    cluster: Repository, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DD_API_KEY", "api")
    monkeypatch.setenv("DELIVERY_DATADOG_URL", "http://127.0.0.1:9")
    said = delivery("deploy", "--environment", "staging", "--image", image_of(cluster, VERSIONS[0]))
    assert said.code == 0
    assert "deploy: the event could not be sent to Datadog" in said.err
