"""One registry names every metric."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mlplatform.telemetry.registry import COMMON_TAGS, METRICS, Metric

ROOT = Path(__file__).parents[3]


def test_the_documentation_is_made_from_the_registry() -> None:
    made = subprocess.run(
        [sys.executable, "-m", "mlplatform", "metrics"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert made.stdout == (ROOT / "deploy/datadog/METRICS.md").read_text()


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_a_metric_is_named_as_datadog_allows(metric: Metric) -> None:
    # https://docs.datadoghq.com/metrics/custom_metrics/#naming-custom-metrics
    assert re.fullmatch(r"ml(\.[a-z][a-z0-9_]*)+", metric.name)
    assert len(metric.name) <= 200
    assert not set(metric.tags) & {*COMMON_TAGS, "host", "device", "source", "request_id"}


def test_only_distributions_have_percentiles() -> None:
    assert {metric.kind for metric in METRICS.values() if metric.percentiles} == {"distribution"}
