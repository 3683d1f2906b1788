"""Dashboard, monitors and SLO of deploy/datadog, created in Datadog through its official client.

A monitor or SLO is identified by its tags (`service:`, `managed-by:delivery`, `resource:<file>`), the dashboard by its
title. `$SLO_ID` in a file stands for the id that Datadog gave to the SLO.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datadog_api_client import ApiClient, Configuration
from datadog_api_client.exceptions import ApiException, NotFoundException
from datadog_api_client.model_utils import validate_and_convert_types
from datadog_api_client.v1.api.dashboards_api import DashboardsApi
from datadog_api_client.v1.api.metrics_api import MetricsApi as MetadataApi
from datadog_api_client.v1.api.monitors_api import MonitorsApi
from datadog_api_client.v1.api.service_level_objectives_api import ServiceLevelObjectivesApi
from datadog_api_client.v1.model.dashboard import Dashboard
from datadog_api_client.v1.model.metric_metadata import MetricMetadata
from datadog_api_client.v1.model.monitor import Monitor
from datadog_api_client.v1.model.monitor_update_request import MonitorUpdateRequest
from datadog_api_client.v1.model.service_level_objective import ServiceLevelObjective
from datadog_api_client.v1.model.service_level_objective_request import ServiceLevelObjectiveRequest
from datadog_api_client.v2.api.metrics_api import MetricsApi as TagsApi
from datadog_api_client.v2.model.metric_tag_configuration_create_request import MetricTagConfigurationCreateRequest
from urllib3.exceptions import HTTPError

from mlplatform.config.settings import ServiceSettings, load
from mlplatform.delivery.console import Console
from mlplatform.delivery.errors import BadRequestError, DeliveryError
from mlplatform.delivery.settings import DeliverySettings
from mlplatform.telemetry.registry import COMMON_TAGS, Metric

FILES = Path("deploy/datadog")
_SLO_ID = "$SLO_ID"


@dataclass(frozen=True)
class Resource:
    """One thing in Datadog. kind: slo, monitor or dashboard; name: of its file; content: as the API takes it."""

    kind: str
    name: str
    content: dict[str, Any]


@dataclass(frozen=True)
class Change:
    """What is to be done with a resource. action: create, update, delete or none; id: Datadog's, empty if new."""

    resource: Resource
    action: str
    id: str
    differences: tuple[str, ...] = ()

    def describe(self) -> str:
        """The change in words, a line for each difference."""
        return "\n    ".join([f"{self.action:7}{self.resource.kind} {self.resource.name}", *self.differences])


def read_resources(directory: Path = FILES) -> list[Resource]:
    """The files of deploy/datadog: the SLO first, as others name it. Raises DeliveryError naming file and fault."""
    resources = [_read("slo", directory / "slo.json"), _read("dashboard", directory / "dashboard.json")]
    return resources + [_read("monitor", path) for path in sorted((directory / "monitors").glob("*.json"))]


class Datadog:
    """Datadog's API for the resources of one service."""

    def __init__(self, client: ApiClient, service: str) -> None:
        self._client = client
        self._monitors = MonitorsApi(client)
        self._slos = ServiceLevelObjectivesApi(client)
        self._dashboards = DashboardsApi(client)
        self._service = service

    def existing(self, resources: Sequence[Resource]) -> dict[tuple[str, str], dict[str, Any]]:
        """What Datadog has of this service, by kind and name; `id` is in it."""
        tags = f"service:{self._service},managed-by:delivery"
        existing = {}
        for monitor in _plain(self._monitors.list_monitors(monitor_tags=tags)):
            existing["monitor", _name_in(monitor["tags"])] = monitor
        for slo in _plain(self._slos.list_slos(tags_query=f"service:{self._service} AND managed-by:delivery")).get(
            "data", []
        ):
            if {f"service:{self._service}", "managed-by:delivery"} <= set(slo["tags"]):
                existing["slo", _name_in(slo["tags"])] = slo
        titles = {resource.content["title"]: resource.name for resource in resources if resource.kind == "dashboard"}
        for summary in _plain(self._dashboards.list_dashboards()).get("dashboards", []):
            if summary["title"] in titles:
                existing["dashboard", titles[summary["title"]]] = _plain(self._dashboards.get_dashboard(summary["id"]))
        return existing

    def put(self, change: Change, content: dict[str, Any]) -> str:
        """Create or update a resource, and give its id."""
        kind, new = change.resource.kind, change.action == "create"
        if kind == "monitor":
            if new:
                return str(_plain(self._monitors.create_monitor(_typed(content, Monitor)))["id"])
            body = {name: value for name, value in content.items() if name != "type"}
            return str(_plain(self._monitors.update_monitor(int(change.id), _typed(body, MonitorUpdateRequest)))["id"])
        if kind == "slo":
            if new:
                made = self._slos.create_slo(_typed(content, ServiceLevelObjectiveRequest))
            else:
                made = self._slos.update_slo(change.id, _typed(content, ServiceLevelObjective))
            return str(_plain(made)["data"][0]["id"])
        if new:
            return str(_plain(self._dashboards.create_dashboard(_typed(content, Dashboard)))["id"])
        return str(_plain(self._dashboards.update_dashboard(change.id, _typed(content, Dashboard)))["id"])

    def delete(self, change: Change) -> None:
        """Remove a resource."""
        if change.resource.kind == "monitor":
            self._monitors.delete_monitor(int(change.id))
        elif change.resource.kind == "slo":
            self._slos.delete_slo(change.id)
        else:
            self._dashboards.delete_dashboard(change.id)

    def describe_metric(self, metric: Metric) -> bool:
        """Set kind, unit, meaning and percentiles of a metric; False if Datadog does not know it yet."""
        metadata = {"type": metric.kind, "description": metric.meaning[:400]}
        if metric.unit:
            metadata["unit"] = metric.unit
        try:
            MetadataApi(self._client).update_metric_metadata(metric.name, _typed(metadata, MetricMetadata))
            if metric.percentiles:
                self._keep_percentiles(metric)
        except NotFoundException:
            return False
        return True

    def _keep_percentiles(self, metric: Metric) -> None:
        attributes = {
            "metric_type": "distribution",
            "include_percentiles": True,
            "tags": [*COMMON_TAGS, *metric.all_tags],
        }
        body = {"data": {"id": metric.name, "type": "manage_tags", "attributes": attributes}}
        try:
            TagsApi(self._client).create_tag_configuration(
                metric.name, _typed(body, MetricTagConfigurationCreateRequest)
            )
        except ApiException as error:
            # It has one already.
            if error.status != 409:
                raise


def plan(datadog: Datadog, resources: Sequence[Resource]) -> list[Change]:
    """The changes after which Datadog has the resources, and none of this service that lack a file."""
    existing = datadog.existing(resources)
    slo = existing.get(("slo", "slo"), {})
    changes = []
    for resource in resources:
        there = existing.pop((resource.kind, resource.name), None)
        if there is None:
            changes.append(Change(resource, "create", ""))
            continue
        wanted = _with_slo(resource.content, str(slo.get("id", _SLO_ID)))
        differences = tuple(_differences(wanted, there, ""))
        changes.append(Change(resource, "update" if differences else "none", str(there["id"]), differences))
    for (kind, name), there in existing.items():
        changes.append(Change(Resource(kind, name, there), "delete", str(there["id"])))
    return changes


def apply(datadog: Datadog, changes: Sequence[Change], console: Console) -> None:
    """Carry out a plan. Raises DeliveryError naming the resource that Datadog refuses."""
    slo = next((change.id for change in changes if change.resource.kind == "slo" and change.action != "delete"), "")
    for change in changes:
        if change.action == "none":
            continue
        try:
            if change.action == "delete":
                datadog.delete(change)
            else:
                made = datadog.put(change, _with_slo(change.resource.content, slo))
                slo = made if change.resource.kind == "slo" else slo
        except ApiException as error:
            raise _refused(error, f"{change.resource.kind} {change.resource.name}") from None
        console.say(change.describe())


@contextmanager
def connected() -> Iterator[Datadog]:
    """Raises BadRequestError without keys, DeliveryError if Datadog is not reached or refuses."""
    settings, service = load(DeliverySettings), load(ServiceSettings).name
    missing = [name for name in ("DD_API_KEY", "DD_APP_KEY") if not os.environ.get(name)]
    if missing:
        raise BadRequestError(f"{' and '.join(missing)} must be in the environment")
    configuration = Configuration(host=settings.datadog_url or f"https://api.{settings.datadog_site}")
    configuration.api_key["apiKeyAuth"] = os.environ["DD_API_KEY"]
    configuration.api_key["appKeyAuth"] = os.environ["DD_APP_KEY"]
    try:
        with ApiClient(configuration) as client:
            yield Datadog(client, service)
    except ApiException as error:
        raise _refused(error, "the request") from None
    except HTTPError as error:
        raise DeliveryError(f"Datadog is not reached at {configuration.host}: {error}") from None


def _read(kind: str, path: Path) -> Resource:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DeliveryError(f"{path}: {error}") from None
    model = {"slo": ServiceLevelObjectiveRequest, "dashboard": Dashboard, "monitor": Monitor}[kind]
    try:
        typed = _typed(content, model)
    except Exception as error:
        # The client raises errors of five kinds.
        raise DeliveryError(f"{path}: {error}") from None
    fault = next(unparsed(typed, path.name), "")
    if fault:
        raise DeliveryError(f"{path}: Datadog's client does not know {fault}")
    return Resource(kind, path.stem, content)


def unparsed(value: Any, place: str) -> Iterator[str]:
    """Where a model of the client holds values unknown to it; the client marks them and sends them all the same."""
    if getattr(value, "_unparsed", False) or type(value).__name__ == "UnparsedObject":
        inner = [
            fault
            for name, part in getattr(value, "_data_store", {}).items()
            for fault in unparsed(part, f"{place}.{name}")
        ]
        yield from inner or [place]
    elif isinstance(value, list):
        for position, part in enumerate(value):
            yield from unparsed(part, f"{place}[{position}]")
    elif hasattr(value, "_data_store"):
        unknown = value._data_store.keys() - value.openapi_types.keys()
        yield from (f"{place}.{name}" for name in sorted(unknown))
        for name, part in value._data_store.items():
            yield from unparsed(part, f"{place}.{name}")


def _typed(content: Mapping[str, Any], model: Any) -> Any:
    return validate_and_convert_types(dict(content), (model,), ["body"], True, True, Configuration())


def _plain(answer: Any) -> Any:
    """A client's answer as JSON values."""
    if isinstance(answer, list):
        return [_plain(item) for item in answer]
    return answer.to_dict() if hasattr(answer, "to_dict") else answer


def _name_in(tags: Sequence[str]) -> str:
    return next((tag.removeprefix("resource:") for tag in tags if tag.startswith("resource:")), "")


def _with_slo(content: dict[str, Any], slo: str) -> dict[str, Any]:
    filled: dict[str, Any] = json.loads(json.dumps(content).replace(_SLO_ID, slo))
    return filled


def _differences(wanted: Any, there: Any, place: str) -> Iterator[str]:
    """Where something differs; what Datadog adds of its own does not count."""
    if isinstance(wanted, dict) and isinstance(there, dict):
        for name, value in wanted.items():
            yield from _differences(value, there.get(name), f"{place}.{name}".lstrip("."))
    elif isinstance(wanted, list) and isinstance(there, list) and len(wanted) == len(there):
        pairs = (
            zip(sorted(wanted), sorted(there), strict=True)
            if place.endswith("tags")
            else zip(wanted, there, strict=True)
        )
        for position, (one, other) in enumerate(pairs):
            yield from _differences(one, other, f"{place}[{position}]")
    elif wanted != there:
        yield f"{place}: {json.dumps(there, default=str)} -> {json.dumps(wanted)}"


def _refused(error: ApiException, what: str) -> DeliveryError:
    body = error.body if isinstance(error.body, Mapping) else {}
    reasons = body.get("errors") or [error.reason]
    return DeliveryError(f"Datadog refuses {what}: {error.status} {'; '.join(map(str, reasons))}")
