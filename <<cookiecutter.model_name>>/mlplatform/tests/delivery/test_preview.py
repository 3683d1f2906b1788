"""`preview`, and `promote` of what it showed: a person approves something definite."""

import json
from datetime import UTC, datetime
from pathlib import Path

from mlplatform.store.releases import production
from mlplatform.tests.delivery.conftest import VERSIONS, Delivery, Repository
from mlplatform.tests.delivery.releasing import deployed, image_of


def reported(cluster: Repository, decision: str) -> None:
    """A ghost report on the second version beside the first one."""
    made_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    content = {
        "made_at": made_at,
        "verdict": {"decision": decision, "reasons": ["as the test wants it"]},
        "live": {"version": VERSIONS[0]},
        "agreement": {"value": 0.982},
        "accuracy": {"value": 0.952},
        "live_accuracy": {"value": 0.94},
    }
    for ending, text in (("json", json.dumps(content)), ("html", "<p>the report</p>")):
        cluster.store.write(f"releases/ghost-reports/{VERSIONS[1]}/{made_at}.{ending}", text.encode())


def test_of_a_ghost_shows_over_what_it_goes_the_figures_and_the_report(
    cluster: Repository, delivery: Delivery, tmp_path: Path
) -> None:
    deployed(cluster, delivery, "production", VERSIONS[0])
    image = deployed(cluster, delivery, "ghost", VERSIONS[1])
    reported(cluster, "promote")
    said = delivery("preview", "--json", "--report", str(tmp_path / "kept"))
    assert said.code == 0, said.err
    summary = (
        f"promote {VERSIONS[1]} over {VERSIONS[0]}: the report says promote, agreement 98.2 %, accuracy +1.2 points"
    )
    assert json.loads(said.out) == {"model": VERSIONS[1], "image": image, "summary": summary}
    assert (tmp_path / "kept" / "report.html").read_text() == "<p>the report</p>"
    assert production(cluster.store) == VERSIONS[0]


def test_of_a_ghost_is_refused_where_promote_would_be(cluster: Repository, delivery: Delivery) -> None:
    deployed(cluster, delivery, "production", VERSIONS[0])
    assert "no ghost runs" in delivery("preview").err
    deployed(cluster, delivery, "ghost", VERSIONS[1])
    reported(cluster, "hold")
    said = delivery("preview")
    assert said.code == 3
    assert f"{VERSIONS[1]} cannot be promoted: the ghost report of " in said.err
    assert "in spite of it: a reason" in delivery("preview", "--override", "a reason").out


def test_of_an_image_shows_the_gates_answer_and_the_report_of_the_training(
    cluster: Repository, delivery: Delivery, tmp_path: Path
) -> None:
    metrics = {"accuracy": 0.5, "examples": 100, "invalid": 0, "export_difference": 0.0}
    files = {"saved_model/saved_model.pb": b"", "report.html": b"<p>learned</p>"}
    cluster.publish("dddddddddddd", files, metrics=metrics, report="report.html", run="r", dataset="d")
    image = image_of(cluster, "dddddddddddd")
    said = delivery("preview", "--image", image, "--report", str(tmp_path / "kept"))
    assert said.code == 0, said.err
    assert said.out.startswith("deploy dddddddddddd, the first release: the gate is closed for model dddddddddddd: ")
    assert (tmp_path / "kept" / "report.html").read_text() == "<p>learned</p>"


def test_a_ghost_that_has_changed_since_is_not_promoted(cluster: Repository, delivery: Delivery) -> None:
    deployed(cluster, delivery, "production", VERSIONS[0])
    deployed(cluster, delivery, "ghost", VERSIONS[1])
    reported(cluster, "promote")
    other = deployed(cluster, delivery, "ghost", VERSIONS[2])
    said = delivery("promote", "--model", VERSIONS[1])
    assert said.code == 3
    assert f"the ghost is {VERSIONS[2]} in " in said.err
    assert f"not {VERSIONS[1]}; look at it again: python -m mlplatform preview" in said.err
    assert production(cluster.store) == VERSIONS[0]
    again = deployed(cluster, delivery, "ghost", VERSIONS[1])
    assert delivery("promote", "--model", VERSIONS[1], "--image", other).code == 3
    said = delivery("promote", "--model", VERSIONS[1], "--image", again)
    assert said.code == 0, said.err
    assert production(cluster.store) == VERSIONS[1]
