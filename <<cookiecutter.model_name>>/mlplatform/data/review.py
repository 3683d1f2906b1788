"""What a build does with the findings of its dataset version: they are kept, shown, and may stop it.

findings/<version>.json      the kinds that were looked for, what was found, and, for drift, the model in production
"""

import json
import logging
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path

from mlplatform.config.hints import hint
from mlplatform.contract.errors import ExitCode, PipelineError
from mlplatform.data import catalog
from mlplatform.data.catalog import Dataset
from mlplatform.data.distributions import in_production
from mlplatform.data.findings import Finding, all_findings
from mlplatform.data.settings import DataSettings
from mlplatform.store import manifest
from mlplatform.store.manifest import Manifest
from mlplatform.store.storage import Storage

log = logging.getLogger(__name__)
PREFIX = "findings"
# Of a larger version, a build looks only for what is to be refused: the rest takes memory, and 18 s of CPU time for a
# million examples of 13 numbers.
LARGE_EXAMPLES = 200_000
LARGE_BYTES = 1 << 30


class FindingsError(PipelineError):
    """A dataset has a finding of a kind that is to be refused."""

    exit_code = ExitCode.REFUSED


def check_build(storage: Storage, version: str, work: Path, settings: DataSettings) -> None:
    """Look for the kinds of findings that the settings name, once for each version, and log them.

    Raises FindingsError if one of them is to be refused.
    """
    built = manifest.read(storage, f"datasets/{version}")
    kinds = set(settings.refuse)
    examples = sum(split["examples"] for split in built.properties["splits"].values())
    if examples > LARGE_EXAMPLES or built.size > LARGE_BYTES:
        log.info("data: too large to look at in passing; %s does", hint(f"data report {version}"))
    else:
        kinds |= set(settings.look_for)
    production = in_production(storage) if "drift" in kinds else None
    against = production.version if production else ""
    kept = _kept(storage, version, kinds, against)
    if kept is None:
        dataset = catalog.fetch(storage, built, work)
        previous = before(storage, built, work) if "drift" in kinds else None
        kept = all_findings(dataset, previous, kinds, production)
        content = {"kinds": sorted(kinds), "production": against, "findings": [asdict(finding) for finding in kept]}
        storage.write(f"{PREFIX}/{version}.json", json.dumps(content, indent=1).encode())
        for finding in kept:
            log.warning("data: %s: %s%s", finding.kind, finding.message, _named(finding))
        log.info("data: %d findings; %s shows the data", len(kept), hint(f"data report {version}"))
    refuse(version, kept, settings.refuse, f"`train --dataset {version}` takes it as it is")


def refuse(version: str, findings: Sequence[Finding], kinds: Collection[str], otherwise: str = "") -> None:
    """Raises FindingsError that names the findings of these kinds, if there are any. otherwise: a clause to add."""
    sentences = [finding.message + _named(finding) for finding in findings if finding.kind in kinds]
    if sentences:
        raise FindingsError(
            "; ".join([f"dataset {version}: {sentences[0]}", *sentences[1:], *filter(None, [otherwise])])
        )


def before(storage: Storage, version: Manifest, work: Path) -> Dataset | None:
    """The newest version made before another one, if it has inputs of the same names."""
    older = [known for known in catalog.versions(storage) if known.created_at < version.created_at]
    names = [spec["name"] for spec in version.properties["inputs"]]
    fitting = [known for known in older if [spec["name"] for spec in known.properties["inputs"]] == names]
    return catalog.fetch(storage, fitting[-1], work) if fitting else None


def _kept(storage: Storage, version: str, kinds: Collection[str], production: str) -> list[Finding] | None:
    """The findings of these kinds that were looked for before; None if one of the kinds was not.

    production: the model version that drift is against; if that was another one, drift was not looked for.
    """
    key = f"{PREFIX}/{version}.json"
    if not kinds or not storage.exists(key):
        return None if kinds else []
    content = json.loads(storage.read(key))
    known = set(content["kinds"])
    if content.get("production", "") != production:
        known.discard("drift")
    if not set(kinds) <= known:
        return None
    findings = [Finding(**entry | {"ids": tuple(entry["ids"])}) for entry in content["findings"]]
    return [finding for finding in findings if finding.kind in kinds]


def _named(finding: Finding) -> str:
    more = f" and {finding.count - len(finding.ids)} more" if finding.count > len(finding.ids) else ""
    return f" (ids {', '.join(finding.ids)}{more})" if finding.ids else ""
