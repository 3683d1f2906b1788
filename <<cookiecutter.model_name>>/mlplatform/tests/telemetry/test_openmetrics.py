"""What Prometheus reads: as its own parser has it."""

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from mlplatform.telemetry import registry
from mlplatform.telemetry.metrics import Metrics
from mlplatform.telemetry.openmetrics import Totals, bounds


def samples(totals: Totals) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of the text, by its name and labels."""
    families = text_string_to_metric_families(totals.text(service="digits", role="live"))
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_count_grows_from_report_to_report() -> None:
    totals = Totals()
    metrics = Metrics(totals)
    for number in (2, 3):
        metrics.count(registry.PREDICTIONS, number, "class:a")
        metrics.send()
    assert samples(totals)["ml_predictions_total", (("class", "a"),)] == 5


def test_a_gauge_is_what_was_last_reported_and_goes_with_what_it_was_of() -> None:
    totals = Totals()
    metrics = Metrics(totals)
    metrics.gauge(registry.DRIFT, 0.5, "signal:classes")
    metrics.send()
    metrics.gauge(registry.MODEL_BUSY, 0.25)
    metrics.send()
    found = samples(totals)
    assert found["ml_model_busy", ()] == 0.25
    assert not [name for name, _ in found if name == "ml_drift_psi"]


def test_a_distribution_is_a_histogram_in_which_each_value_counts_for_what_it_stands() -> None:
    totals = Totals()
    metrics = Metrics(totals)
    metrics.distribution(registry.REQUEST_SECONDS, [0.001, 0.004, 60.0], "outcome:ok", stride=2)
    metrics.send()
    found = samples(totals)

    def below(bound: str) -> float:
        return found["ml_request_seconds_bucket", (("le", bound), ("outcome", "ok"))]

    assert [below("0.0005"), below("0.001"), below("0.005"), below("10.0"), below("+Inf")] == [0, 2, 4, 4, 6]
    assert found["ml_request_seconds_count", (("outcome", "ok"),)] == 6
    assert found["ml_request_seconds_sum", (("outcome", "ok"),)] == pytest.approx(120.01)


@pytest.mark.parametrize("metric", registry.METRICS.values(), ids=lambda metric: metric.name)
def test_every_metric_of_the_registry_can_be_read(metric: registry.Metric) -> None:
    totals = Totals()
    metrics = Metrics(totals)
    tags = [f'{tag}:a "quoted" \\ value\nof two lines' for tag in metric.tags]
    match metric.kind:
        case "count":
            metrics.count(metric, 1, *tags)
        case "gauge":
            metrics.gauge(metric, 1, *tags)
        case "distribution":
            metrics.distribution(metric, [*bounds(metric), 1e9], *tags)
    metrics.send()
    families = {family.name: family for family in text_string_to_metric_families(totals.text(service="digits"))}
    family = families[metric.name.replace(".", "_")]
    assert family.type == {"count": "counter", "gauge": "gauge", "distribution": "histogram"}[metric.kind]
    assert family.documentation == metric.meaning
    assert {label for sample in family.samples for label in sample.labels} - {"le"} == set(metric.tags)


def test_the_text_says_whose_the_metrics_are() -> None:
    assert samples(Totals())["ml_server_info", (("role", "live"), ("service", "digits"))] == 1
