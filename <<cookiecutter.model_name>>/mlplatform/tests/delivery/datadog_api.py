"""Datadog's API as far as `delivery datadog` uses it: keeps what it takes, and refuses what Datadog refuses."""

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

from mlplatform.telemetry.registry import DATADOG_METRICS, METRICS

MONITORS = {"query alert", "metric alert", "slo alert", "event-v2 alert", "service check", "log alert"}
WIDGETS = {"timeseries", "query_value", "slo", "event_stream", "group", "toplist", "note", "heatmap"}
DISPLAYS = {"line", "area", "bars"}
METRIC = re.compile(r"\b(avg|sum|min|max|p50|p75|p90|p95|p99):([a-z][\w.]*)\{([^}]*)\}( by \{[^}]*\})?")
WINDOW = re.compile(
    r"(percentile|avg|sum|min|max|change)\((?:(?:avg|sum|min|max)\()?last_\d+[mhd]\)?(?:,last_\d+[mhd]\))?:"
)
COMPARISON = re.compile(r" (>|>=|<|<=) (-?[\d.]+)$")


class Refused(Exception):  # noqa: N818
    """An answer other than 200."""

    def __init__(self, status: int, *reasons: str) -> None:
        super().__init__(*reasons)
        self.status = status


class FakeDatadog:
    """What the server holds. known: metrics that it has met."""

    def __init__(self) -> None:
        self.monitors: dict[str, dict[str, Any]] = {}
        self.slos: dict[str, dict[str, Any]] = {}
        self.dashboards: dict[str, dict[str, Any]] = {}
        self.metadata: dict[str, dict[str, Any]] = {}
        self.percentiles: set[str] = set()
        self.known = set(METRICS)
        self.writes: list[str] = []
        self.events: list[dict[str, Any]] = []

    def answer(self, method: str, path: str, query: Mapping[str, str], body: Any) -> Any:
        if method != "GET":
            self.writes.append(f"{method} {path}")
        match path.strip("/").split("/"):
            case ["api", "v1", "monitor", *rest]:
                return self._monitor(method, rest, query, body)
            case ["api", "v1", "slo", *rest]:
                return self._slo(method, rest, body)
            case ["api", "v1", "dashboard", *rest]:
                return self._dashboard(method, rest, body)
            case ["api", "v1", "events"]:
                if body["alert_type"] not in ("error", "warning", "info", "success"):
                    raise Refused(400, "unknown alert_type")
                self.events.append(body)
                return {"status": "ok"}
            case ["api", "v1", "metrics", name]:
                self._met(name)
                self.metadata[name] = body
                return body
            case ["api", "v2", "metrics", name, "tags"]:
                self._met(name)
                if name in self.percentiles:
                    raise Refused(409, "there is a tag configuration")
                if METRICS[name].kind != "distribution":
                    raise Refused(400, "include_percentiles is for distributions")
                self.percentiles.add(name)
                return body
        raise Refused(404, f"no {path}")

    def _met(self, name: str) -> None:
        if name not in self.known:
            raise Refused(404, "metric not found")

    def _monitor(self, method: str, rest: list[str], query: Mapping[str, str], body: Any) -> Any:
        if method == "GET":
            wanted = set(query["monitor_tags"].split(","))
            return [each for each in self.monitors.values() if wanted <= set(each["tags"])]
        if method == "DELETE":
            return {"deleted_monitor_id": int(self.monitors.pop(rest[0])["id"])}
        self.check_monitor(body if method == "POST" else {"type": self.monitors[rest[0]]["type"], **body})
        identifier = rest[0] if rest else str(1000 + len(self.monitors))
        self.monitors[identifier] = {**self.monitors.get(identifier, {}), **body, "id": int(identifier)}
        # Datadog fills in what was left out.
        self.monitors[identifier]["options"] = {"silenced": {}, **self.monitors[identifier]["options"]}
        return self.monitors[identifier]

    def check_monitor(self, body: dict[str, Any]) -> None:
        if body["type"] not in MONITORS:
            raise Refused(400, f"The value provided for parameter 'type' is invalid: {body['type']}")
        text, thresholds = body["query"], body["options"]["thresholds"]
        comparison = COMPARISON.search(text)
        if comparison is None or float(comparison[2]) != thresholds["critical"]:
            raise Refused(400, "Alert threshold does not match that used in the query")
        rising = comparison[1].startswith(">")
        if "warning" in thresholds and (thresholds["warning"] < thresholds["critical"]) is not rising:
            raise Refused(400, "Warning threshold must be between normal and critical")
        if body["type"] == "slo alert":
            found = re.match(r'burn_rate\("(\w+)"\)\.over\("30d"\)\.long_window\("1h"\)\.short_window\("5m"\)', text)
            if found is None or found[1] not in self.slos:
                raise Refused(400, "burn_rate: no such SLO")
            return
        if WINDOW.match(text) is None:
            raise Refused(400, f"The value provided for parameter 'query' is invalid: {text}")
        self.check_query(text)
        if "anomalies(" in text and "threshold_windows" not in body["options"]:
            raise Refused(400, "threshold_windows must be set for anomaly monitors")

    def check_query(self, text: str) -> None:
        if text.count("(") != text.count(")") or text.count("{") != text.count("}"):
            raise Refused(400, f"query is invalid: {text}")
        found = METRIC.findall(text)
        if not found:
            raise Refused(400, f"query names no metric: {text}")
        for aggregator, name, scope, by in found:
            metric = METRICS.get(name)
            if metric is None and name not in DATADOG_METRICS:
                raise Refused(400, f"no metric {name}")
            if aggregator.startswith("p") and (metric is None or not metric.percentiles):
                raise Refused(400, f"{name} has no percentiles")
            if metric is not None:
                tags = re.findall(r"(?:^|,)!?(\w+):", scope) + re.findall(r"\w+", by.removeprefix(" by "))
                unknown = set(tags) - {"env", "service", "version", "role", *metric.tags}
                if unknown:
                    raise Refused(400, f"{name} has no tag {', '.join(unknown)}")

    def _slo(self, method: str, rest: list[str], body: Any) -> Any:
        if method == "GET":
            return {"data": list(self.slos.values())}
        if method == "DELETE":
            if any(rest[0] in monitor["query"] for monitor in self.monitors.values()):
                raise Refused(409, "the SLO has monitors")
            self.slos.pop(rest[0])
            return {"data": rest}
        for part in body["query"].values():
            self.check_query(part)
            if not part.endswith(".as_count()"):
                raise Refused(400, "a metric SLO counts")
        if {each["timeframe"] for each in body["thresholds"]} - {"7d", "30d", "90d"}:
            raise Refused(400, "unknown timeframe")
        identifier = rest[0] if rest else uuid4().hex
        self.slos[identifier] = {**body, "id": identifier}
        return {"data": [self.slos[identifier]]}

    def _dashboard(self, method: str, rest: list[str], body: Any) -> Any:
        if method == "GET" and not rest:
            kept = ("id", "title", "description")
            return {"dashboards": [{name: each[name] for name in kept} for each in self.dashboards.values()]}
        if method == "GET":
            return self.dashboards[rest[0]]
        if method == "DELETE":
            self.dashboards.pop(rest[0])
            return {"deleted_dashboard_id": rest[0]}
        for widget in body["widgets"]:
            self.check_widget(widget["definition"])
        identifier = rest[0] if rest else "abc-def-ghi"
        self.dashboards[identifier] = {**body, "id": identifier, "url": f"/dashboard/{identifier}"}
        return self.dashboards[identifier]

    def check_widget(self, widget: dict[str, Any]) -> None:
        if widget["type"] not in WIDGETS:
            raise Refused(400, f"Invalid widget definition: unknown type {widget['type']}")
        if widget["type"] == "slo" and widget["slo_id"] not in self.slos:
            raise Refused(400, "no such SLO")
        for inner in widget.get("widgets", []):
            self.check_widget(inner["definition"])
        for request in widget.get("requests", []):
            if request.get("display_type", "line") not in DISPLAYS:
                raise Refused(400, f"unknown display_type {request['display_type']}")
            names = {query["name"] for query in request["queries"]}
            for query in request["queries"]:
                self.check_query(query["query"])
            if {formula["formula"] for formula in request["formulas"]} - names:
                raise Refused(400, "a formula names no query")

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Its URL, while it listens."""
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def _do(self) -> None:
                parts = urlsplit(self.path)
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                try:
                    # Sending takes the one key, everything else both.
                    application = "app" if parts.path != "/api/v1/events" else None
                    if (self.headers["DD-API-KEY"], self.headers["DD-APPLICATION-KEY"]) != ("api", application):
                        raise Refused(403, "Forbidden")
                    status, content = 200, fake.answer(self.command, parts.path, query, body)
                except Refused as refused:
                    status, content = refused.status, {"errors": list(refused.args)}
                text = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _do  # noqa: N815

            def log_message(self, *_: object) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
