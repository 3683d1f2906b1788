"""The memory limit of a container against what its model takes."""

from typing import Any

import pytest

from mlplatform.delivery.errors import RefusedError
from mlplatform.delivery.releases.memory import check_limit

MIB = 1 << 20


def planned(limit: str | None, workers: str | None = None) -> list[dict[str, Any]]:
    resources = {"limits": {"memory": limit}} if limit else {}
    containers = [{"name": "serving", "resources": resources}, {"name": "events"}]
    settings = {"kind": "ConfigMap", "data": {"SERVING_WORKERS": workers} if workers else {}}
    return [{"kind": "Deployment", "spec": {"template": {"spec": {"containers": containers}}}}, settings]


@pytest.mark.parametrize("limit", ["492Mi", "0.5Gi", "515899392", "516M", "0.6G", "515899392000m", None])
def test_one_that_holds_the_model_is_accepted(limit: str | None) -> None:
    check_limit(planned(limit), "serving", 250 * MIB)


@pytest.mark.parametrize("limit", ["491Mi", "0.4Gi", "515899391", "515M", "500000k"])
def test_a_smaller_one_is_refused_with_what_would_do(limit: str) -> None:
    with pytest.raises(RefusedError, match=f"'serving' has a memory limit of {limit}; this model needs 492Mi"):
        check_limit(planned(limit), "serving", 250 * MIB)


def test_each_worker_takes_its_own() -> None:
    check_limit(planned("888Mi", workers="2"), "serving", 250 * MIB)
    with pytest.raises(RefusedError, match="this model needs 888Mi"):
        check_limit(planned("887Mi", workers="2"), "serving", 250 * MIB)


def test_an_image_that_does_not_say_what_it_takes_is_accepted() -> None:
    check_limit(planned("1Mi"), "serving", None)


def test_what_is_no_quantity_is_refused() -> None:
    with pytest.raises(RefusedError, match="memory limit '1 GB' is no quantity of Kubernetes, such as 1Gi"):
        check_limit(planned("1 GB"), "serving", MIB)
