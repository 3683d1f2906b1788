"""Reports in the store, and whether the latest one lets a version be promoted.

releases/ghost-reports/<model version>/<UTC time>.json and .html
"""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from mlplatform.config.hints import hint
from mlplatform.ghost.report import Report
from mlplatform.ghost.verdict import Decision
from mlplatform.store.storage import Storage

PREFIX = "releases/ghost-reports"


def save(storage: Storage, report: Report, page: str) -> str:
    """Store a report and its page, and return the key of the page. Raises StorageError."""
    name = f"{PREFIX}/{report.version}/{report.made_at:%Y-%m-%dT%H-%M-%SZ}"
    storage.write(f"{name}.html", page.encode())
    # The JSON last: a report that is listed has its page.
    storage.write(f"{name}.json", json.dumps(report.to_json(), indent=1, ensure_ascii=False).encode() + b"\n")
    return f"{name}.html"


def latest(storage: Storage, version: str) -> dict[str, Any] | None:
    """The newest report on a model version, or None. Raises StorageError."""
    names = [key for key in storage.keys(f"{PREFIX}/{version}/") if key.endswith(".json")]
    if not names:
        return None
    report: dict[str, Any] = json.loads(storage.read(max(names)))
    return report


def objection(storage: Storage, version: str, production: str | None, days: float, now: datetime) -> str:
    """Why a version may not be promoted, as a clause, or nothing.

    production: the version that is live, None if there is none; a report beside another one does not count, nor one
    older than `days`. Raises StorageError.
    """
    report = latest(storage, version)
    if report is None:
        return (
            f"there is no ghost report on {version}: deploy it with --environment ghost, and after a day of traffic "
            f"run: {hint('ghost-report')}"
        )
    made_at = datetime.strptime(report["made_at"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    this = f"the ghost report of {made_at:%Y-%m-%d %H:%M} UTC on {version}"
    verdict = report["verdict"]
    if verdict["decision"] != Decision.PROMOTE:
        return f"{this} says {verdict['decision']}: {'; '.join(verdict['reasons'])}"
    if now - made_at > timedelta(days=days):
        return f"{this} is older than {days:g} days; make a new one: {hint('ghost-report')}"
    beside = report["live"]["version"] if report["live"] else None
    if beside != production:
        return (
            f"{this} compares it with {beside or 'nothing'}, and {production or 'nothing'} is in production; "
            f"make a new one: {hint('ghost-report')}"
        )
    return ""
