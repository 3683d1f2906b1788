"""The manifests of deploy/k8s: that Kubernetes takes them, and that they say the same as the server and its image."""

import copy
import json
import os
import re
import shutil
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import kubernetes_validate
import pytest

from mlplatform.config.settings import load
from mlplatform.ghost import keep_shipping
from mlplatform.serving.server import gunicorn_options
from mlplatform.serving.settings import ServingSettings
from mlplatform.tests.deploy.manifests import (
    COMPONENTS,
    K8S,
    OVERLAYS,
    ROOT,
    VERSIONS,
    Manifest,
    breaches,
    build,
    build_with,
    check_schema,
    container,
    one,
    pod,
    reaches,
    selectors,
    selects,
)
from mlplatform.tests.serving.running import service_toml, serving

SERVICE = tomllib.loads((ROOT / "service.toml").read_text(encoding="utf-8"))
NAME = SERVICE["service"]["name"]
# What each overlay adds to the name of the service.
SUFFIXES = {"production": "", "staging": "-staging", "ghost": "-ghost"}
DOCKERFILE = (ROOT / "docker" / "serving.Dockerfile").read_text(encoding="utf-8")
# Between gunicorn's killing its worker and its own end.
SECONDS_TO_END = 3


@cache
def built(overlay: str) -> list[Manifest]:
    """The objects of an overlay."""
    return build(K8S / "overlays" / overlay)


def overlays() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("overlay", OVERLAYS)


def settings(overlay: str, monkeypatch: pytest.MonkeyPatch) -> ServingSettings:
    """What the server of an overlay reads from its environment and from service.toml."""
    for name in [name for name in os.environ if name.startswith("SERVING_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SERVICE_TOML", str(ROOT / "service.toml"))
    for name, value in one(built(overlay), "ConfigMap")["data"].items():
        # In the template itself the name is a placeholder, which no address may hold.
        monkeypatch.setenv(name, value.replace(NAME, "model"))
    return load(ServingSettings)


class TestSchemas:
    @pytest.mark.parametrize("version", VERSIONS)
    @overlays()
    def test_an_overlay_is_valid_in_every_supported_version(self, overlay: str, version: str) -> None:
        for manifest in built(overlay):
            check_schema(manifest, version)

    def test_a_field_that_does_not_exist_is_not_valid(self) -> None:
        wrong = copy.deepcopy(one(built("production"), "Deployment"))
        wrong["spec"]["template"]["spec"]["containers"][0]["resorces"] = {}
        with pytest.raises(kubernetes_validate.ValidationError, match="'resorces' was unexpected"):
            check_schema(wrong, VERSIONS[-1])

    @pytest.mark.parametrize("component", COMPONENTS)
    @overlays()
    def test_an_overlay_with_a_component_is_valid(self, overlay: str, component: str, tmp_path: Path) -> None:
        extended = build_with(overlay, component, tmp_path)
        assert extended != built(overlay)
        for manifest in extended:
            if manifest["kind"] != "HTTPRoute":
                check_schema(manifest, VERSIONS[-1])

    def test_the_mirroring_route_is_valid_in_gateway_api(self, tmp_path: Path) -> None:
        schema = json.loads(Path(__file__).with_name("httproute-v1.json").read_text(encoding="utf-8"))
        route = one(build_with("production", "gateway-mirror", tmp_path), "HTTPRoute")
        assert route["apiVersion"] == "gateway.networking.k8s.io/v1"
        # In the template itself the name is a placeholder.
        spec = json.loads(json.dumps(route["spec"]).replace(NAME, "model"))
        jsonschema_rs.validate(schema, spec)
        spec["rules"][0]["filters"][0]["requestMirror"]["percentage"] = 10
        with pytest.raises(jsonschema_rs.ValidationError, match="percentage"):
            jsonschema_rs.validate(schema, spec)


class TestNames:
    @overlays()
    def test_every_object_is_named_after_the_service_and_the_environment(self, overlay: str) -> None:
        for manifest in built(overlay):
            name = manifest["metadata"]["name"]
            # The name of a ConfigMap ends in a hash of what it holds.
            name = re.sub(r"-[a-z0-9]{10}$", "", name) if manifest["kind"] == "ConfigMap" else name
            assert name == NAME + SUFFIXES[overlay]
            assert manifest["metadata"]["namespace"] == SERVICE["delivery"]["kubernetes_namespace"]

    @overlays()
    def test_unified_service_tags_are_labels_of_the_deployment_and_of_its_pods(self, overlay: str) -> None:
        expected = {
            "app.kubernetes.io/name": NAME,
            "app.kubernetes.io/component": "serving",
            "role": "ghost" if overlay == "ghost" else "live",
            "team": SERVICE["service"]["team"],
            "tags.datadoghq.com/env": "staging" if overlay == "staging" else "production",
            "tags.datadoghq.com/service": NAME,
        }
        for labels in (
            one(built(overlay), "Deployment")["metadata"]["labels"],
            pod(built(overlay))["metadata"]["labels"],
        ):
            assert expected.items() <= labels.items()
            assert "tags.datadoghq.com/version" in labels

    @overlays()
    def test_datadog_gets_the_tags_from_these_labels_and_is_reached_on_the_node(self, overlay: str) -> None:
        fields = {
            each["name"]: each["valueFrom"]["fieldRef"]["fieldPath"]
            for each in container(built(overlay))["env"]
            if "valueFrom" in each
        }
        assert fields["DD_AGENT_HOST"] == "status.hostIP"
        for tag in ("env", "service", "version"):
            assert fields[f"DD_{tag.upper()}"] == f"metadata.labels['tags.datadoghq.com/{tag}']"

    @overlays()
    def test_datadog_is_told_what_the_logs_of_the_container_are(self, overlay: str) -> None:
        annotations = pod(built(overlay))["metadata"]["annotations"]
        (config,) = json.loads(annotations[f"ad.datadoghq.com/{container(built(overlay))['name']}.logs"])
        assert config == {"source": "python", "service": NAME}


class TestEnvironmentsSideBySide:
    @overlays()
    def test_every_selector_finds_the_pods_of_its_own_environment_and_no_others(self, overlay: str) -> None:
        for kind, selector in selectors(built(overlay)):
            found = [other for other in OVERLAYS if selects(selector, pod(built(other))["metadata"]["labels"])]
            assert found == [overlay], kind

    def test_only_the_live_service_reaches_the_ghost(self) -> None:
        policies = [one(built("ghost"), "NetworkPolicy")]
        port = one(built("ghost"), "Service")["spec"]["ports"][0]["port"]
        callers = {**{overlay: pod(built(overlay))["metadata"]["labels"] for overlay in OVERLAYS}, "stranger": {}}
        assert [who for who, labels in callers.items() if reaches(policies, "ingress", port, labels)] == ["production"]

    def test_the_live_service_may_call_the_ghost_and_not_others(self) -> None:
        policies = [one(built("production"), "NetworkPolicy")]
        port = one(built("ghost"), "Service")["spec"]["ports"][0]["port"]
        assert reaches(policies, "egress", port, pod(built("ghost"))["metadata"]["labels"])
        assert not reaches(policies, "egress", port, {})

    def test_the_live_service_has_the_ghosts_address_and_the_ghost_its_role(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        service = one(built("ghost"), "Service")
        address = f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
        assert settings("production", monkeypatch).ghost_url == address.replace(NAME, "model")
        assert [settings(overlay, monkeypatch).role for overlay in ("production", "staging")] == ["live", "live"]
        assert settings("ghost", monkeypatch).role == "ghost"

    def test_others_reach_the_ghost_with_the_component_for_it(self, tmp_path: Path) -> None:
        opened = build_with("ghost", "ghost-callers", tmp_path)
        policies = [manifest for manifest in opened if manifest["kind"] == "NetworkPolicy"]
        labels = pod(opened)["metadata"]["labels"]
        assert all(selects(policy["spec"]["podSelector"], labels) for policy in policies)
        assert reaches(policies, "ingress", one(opened, "Service")["spec"]["ports"][0]["port"], {})

    def test_a_mirroring_route_goes_to_the_services_that_are_there(self, tmp_path: Path) -> None:
        route = one(build_with("production", "gateway-mirror", tmp_path), "HTTPRoute")
        mirrored, rest = route["spec"]["rules"]
        live, ghost = (one(built(overlay), "Service") for overlay in ("production", "ghost"))
        backend = {"name": live["metadata"]["name"], "port": live["spec"]["ports"][0]["port"]}
        assert mirrored["backendRefs"] == rest["backendRefs"] == [backend]
        (copied,) = mirrored["filters"]
        assert copied["requestMirror"]["backendRef"] == {
            "name": ghost["metadata"]["name"],
            "port": ghost["spec"]["ports"][0]["port"],
        }


class TestAgreement:
    """One number in two places is the same number."""

    @overlays()
    def test_the_port_is_the_servers(self, overlay: str, monkeypatch: pytest.MonkeyPatch) -> None:
        port = settings(overlay, monkeypatch).port
        (named,) = container(built(overlay))["ports"]
        (public,) = one(built(overlay), "Service")["spec"]["ports"]
        assert named["containerPort"] == public["port"] == port
        assert named["name"] == public["targetPort"]
        assert reaches(
            [one(built(overlay), "NetworkPolicy")], "ingress", port, pod(built("production"))["metadata"]["labels"]
        )

    @overlays()
    def test_the_user_is_the_images(self, overlay: str) -> None:
        context = pod(built(overlay))["spec"]["securityContext"]
        assert f"USER {context['runAsUser']}:{context['runAsGroup']}\n" in DOCKERFILE

    @overlays()
    def test_what_the_server_writes_to_is_mounted_in_memory(
        self, overlay: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        heartbeat = gunicorn_options(settings(overlay, monkeypatch), NAME)["worker_tmp_dir"]
        (home,) = re.findall(r"HOME=(\S+)", DOCKERFILE)
        mounts = {
            mount["mountPath"]: mount["name"]
            for mount in container(built(overlay))["volumeMounts"]
            if not mount.get("readOnly")
        }
        assert set(mounts) == {home, heartbeat}
        volumes = {volume["name"]: volume for volume in pod(built(overlay))["spec"]["volumes"]}
        assert all(volumes[name]["emptyDir"]["medium"] == "Memory" for name in mounts.values())

    def test_the_probes_ask_what_the_server_answers(self, tmp_path: Path) -> None:
        # No model in its store: alive, but not ready.
        expected = {"startupProbe": 503, "readinessProbe": 503, "livenessProbe": 200}
        with serving(service_toml(tmp_path), runtime="litert") as server:
            server.wait_for(503, saying="no model")
            for overlay in OVERLAYS:
                probes = {name: probe for name, probe in container(built(overlay)).items() if name.endswith("Probe")}
                assert {name: server.get(probe["httpGet"]["path"]).status for name, probe in probes.items()} == expected

    @overlays()
    def test_the_longest_start_is_the_servers(self, overlay: str, monkeypatch: pytest.MonkeyPatch) -> None:
        probe = container(built(overlay))["startupProbe"]
        longest = probe["periodSeconds"] * probe["failureThreshold"]
        assert longest == settings(overlay, monkeypatch).load_seconds
        assert one(built(overlay), "Deployment")["spec"]["progressDeadlineSeconds"] > longest

    @overlays()
    def test_a_pod_is_given_the_time_that_the_server_takes_to_stop(
        self, overlay: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        waited = container(built(overlay))["lifecycle"]["preStop"]["sleep"]["seconds"]
        stopping = gunicorn_options(settings(overlay, monkeypatch), NAME)["graceful_timeout"]
        assert pod(built(overlay))["spec"]["terminationGracePeriodSeconds"] == waited + stopping + SECONDS_TO_END

    @overlays()
    def test_load_balancers_are_given_as_long_as_without_kubernetes(
        self, overlay: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        waited = container(built(overlay))["lifecycle"]["preStop"]["sleep"]["seconds"]
        drained = settings(overlay, monkeypatch).drain_seconds
        assert waited + drained == ServingSettings.model_fields["drain_seconds"].default


class TestOperation:
    @overlays()
    def test_the_autoscaler_alone_sets_the_number_of_pods(self, overlay: str) -> None:
        deployment, scaler = one(built(overlay), "Deployment"), one(built(overlay), "HorizontalPodAutoscaler")
        assert "replicas" not in deployment["spec"]
        assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
        assert 1 <= scaler["spec"]["minReplicas"] <= scaler["spec"]["maxReplicas"]
        (metric,) = scaler["spec"]["metrics"]
        assert metric["containerResource"]["container"] == container(built(overlay))["name"]

    @overlays()
    def test_a_pod_has_what_it_asks_for_and_no_more(self, overlay: str) -> None:
        resources = container(built(overlay))["resources"]
        assert resources["requests"] == resources["limits"]
        # `deploy` adds the memory, which follows from the model.
        assert set(resources["limits"]) == {"cpu"}

    def test_the_sidecar_of_events_does_not_end_when_the_process_that_ships_does(self, tmp_path: Path) -> None:
        (sidecar,) = pod(build_with("production", "events", tmp_path))["spec"]["initContainers"]
        assert sidecar["command"] == ["python", "-m", keep_shipping.__name__]
        assert (sidecar["restartPolicy"], [name for name in sidecar if name.endswith("Probe")]) == ("Always", [])
        memory = int(sidecar["resources"]["limits"]["memory"].removesuffix("Mi")) << 20
        # A process of Python, and the files that both have mapped.
        assert memory - keep_shipping.MOST_BYTES >= 48 << 20

    def test_a_changed_setting_is_rolled_out(self, tmp_path: Path) -> None:
        shutil.copytree(K8S, tmp_path / "k8s")
        file = tmp_path / "k8s" / "base" / "kustomization.yaml"
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace("SERVING_FINISH_SECONDS=20", "SERVING_FINISH_SECONDS=25"), encoding="utf-8")
        changed = build(tmp_path / "k8s" / "overlays" / "production")
        assert one(changed, "ConfigMap")["data"]["SERVING_FINISH_SECONDS"] == "25"
        (source,) = container(changed)["envFrom"]
        assert source["configMapRef"]["name"] == one(changed, "ConfigMap")["metadata"]["name"]
        assert pod(changed) != pod(built("production"))

    @overlays()
    def test_pods_are_within_pod_security_restricted(self, overlay: str) -> None:
        assert not breaches(pod(built(overlay))["spec"])

    @pytest.mark.parametrize("component", COMPONENTS)
    def test_a_component_leaves_pods_within_pod_security_restricted(self, component: str, tmp_path: Path) -> None:
        assert not breaches(pod(build_with("production", component, tmp_path))["spec"])

    @pytest.mark.parametrize(
        ("change", "breach"),
        [
            ({"hostNetwork": True}, "hostNetwork"),
            ({"securityContext": {}}, "runAsNonRoot"),
            ({"volumes": [{"name": "logs", "hostPath": {"path": "/var/log"}}]}, "volume logs"),
        ],
    )
    def test_a_pod_outside_of_it_would_be_found(self, change: dict[str, Any], breach: str) -> None:
        assert breach in " ".join(breaches({**pod(built("production"))["spec"], **change}))
