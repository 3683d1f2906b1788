"""`deploy/jenkins/seed`: folders, jobs, credentials and schedules for a list of repositories."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Render
from pipeline import Jenkins

pytestmark = pytest.mark.jenkins

REPOSITORIES = [
    {"name": name, "url": f"https://git.example.com/{name}.git", "role": f"arn:aws:iam::123456789012:role/{name}"}
    for name in ("cats", "dogs", "birds")
]
SCHEDULE = "H 3 * * 1 %ACTION=train-if-needed"


@pytest.fixture(scope="module")
def place(render: Render) -> Path:
    return render({}) / "deploy" / "jenkins" / "seed"


def made(jenkins: Jenkins, place: Path, repositories: list[dict[str, str]]) -> list[dict[str, Any]]:
    script = (place / "jobs.groovy").read_text(encoding="utf-8")
    return jenkins.seed(script, {"repositories.json": json.dumps(repositories)})


@pytest.fixture(scope="module")
def items(jenkins: Jenkins, place: Path) -> dict[str, dict[str, Any]]:
    """Everything that the script makes for three repositories, one of which has a schedule, by its path in Jenkins."""
    calls = made(jenkins, place, [{**REPOSITORIES[0], "schedule": SCHEDULE}, *REPOSITORIES[1:]])
    return {each["arguments"][0]: each for each in calls}


def below(call: dict[str, Any], *names: str) -> list[dict[str, Any]]:
    """The calls within a call, by their path."""
    found = [call]
    for name in names:
        found = [child for each in found for child in each["children"] if child["name"] == name]
    return found


def value(call: dict[str, Any], *names: str) -> Any:
    (found,) = below(call, *names)
    return found["arguments"][0]


def test_each_repository_gets_a_folder_a_job_and_a_job_for_its_branches(items: dict[str, dict[str, Any]]) -> None:
    assert {path: each["name"] for path, each in items.items()} == {
        "models-tests": "folder",
        **{f"models/{each['name']}": "folder" for each in REPOSITORIES},
        **{f"models/{each['name']}/release": "pipelineJob" for each in REPOSITORIES},
        **{f"models-tests/{each['name']}": "multibranchPipelineJob" for each in REPOSITORIES},
    }


def test_both_jobs_read_the_repositorys_jenkinsfile(items: dict[str, dict[str, Any]]) -> None:
    for each in REPOSITORIES:
        job = items[f"models/{each['name']}/release"]
        assert value(job, "definition", "cpsScm", "scm", "git", "remote", "url") == each["url"]
        assert value(job, "definition", "cpsScm", "scm", "git", "branch") == "main"
        assert value(job, "definition", "cpsScm", "scriptPath") == "Jenkinsfile"
        assert value(items[f"models-tests/{each['name']}"], "branchSources", "git", "remote") == each["url"]
    ids = [value(items[f"models-tests/{each['name']}"], "branchSources", "git", "id") for each in REPOSITORIES]
    assert len(set(ids)) == len(ids)


def test_a_job_knows_its_parameters_before_its_first_build(
    jenkins: Jenkins, render: Render, items: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    jenkinsfile = (render({}) / "Jenkinsfile").read_text(encoding="utf-8")
    declared = jenkins.build(jenkinsfile, tmp_path).of("job")[0]["parameters"]
    (block,) = below(items["models/cats/release"], "parameters")
    kinds = {"choice": "choiceParam", "string": "stringParam", "booleanParam": "booleanParam"}
    wanted = [
        (kinds[each["type"]], each["name"], each.get("choices") or each.get("defaultValue") or _nothing(each["type"]))
        for each in declared
    ]
    assert [(each["name"], *each["arguments"][:2]) for each in block["children"]] == wanted


def _nothing(kind: str) -> object:
    return False if kind == "booleanParam" else ""


def test_the_role_is_a_credential_of_the_repositorys_folder_and_tests_have_none(
    items: dict[str, dict[str, Any]],
) -> None:
    path = ("properties", "folderCredentialsProperty", *["domainCredentials"] * 2, "credentials", "string")
    for each in REPOSITORIES:
        folder = items[f"models/{each['name']}"]
        assert (value(folder, *path, "id"), value(folder, *path, "secret")) == (
            f"{each['name']}-aws-role",
            each["role"],
        )
    assert below(items["models-tests"], "properties") == []


def test_a_schedule_is_of_the_job_that_has_one_only(items: dict[str, dict[str, Any]]) -> None:
    path = ("properties", "pipelineTriggers", "triggers", "parameterizedCron", "parameterizedSpecification")
    assert value(items["models/cats/release"], *path) == SCHEDULE
    assert below(items["models/dogs/release"], "properties") == []


def test_the_list_that_comes_along_is_one(jenkins: Jenkins, place: Path) -> None:
    (repository,) = json.loads((place / "repositories.json").read_text(encoding="utf-8"))
    assert [each["arguments"][0] for each in made(jenkins, place, [repository])][1:] == [
        "models/digits-classifier", "models/digits-classifier/release", "models-tests/digits-classifier",
    ]  # fmt: skip
    when, _, given = repository["schedule"].partition(" %")
    assert len(when.split()) == 5
    action = dict(each.split("=", 1) for each in given.split(";"))["ACTION"]
    assert f"'{action}'" in (place / "jobs.groovy").read_text(encoding="utf-8")


def test_a_call_that_job_dsl_does_not_know_is_refused(jenkins: Jenkins) -> None:
    with pytest.raises(RuntimeError, match="descripton"):
        jenkins.seed("folder('x') { descripton('y') }", {})


def test_the_configuration_has_agents_for_labels_of_the_jenkinsfile_and_the_job_that_runs_the_script(
    render: Render, place: Path
) -> None:
    configuration = yaml.safe_load((place / "jenkins.yaml").read_text(encoding="utf-8"))
    (cloud,) = configuration["jenkins"]["clouds"]
    labels = {template["label"] for template in cloud["kubernetes"]["templates"]}
    assert labels <= set(re.findall(r"label '([a-z]+)'", (render({}) / "Jenkinsfile").read_text(encoding="utf-8")))
    pods = [yaml.safe_load(template["yaml"]) for template in cloud["kubernetes"]["templates"]]
    assert {container["name"] for pod in pods for container in pod["spec"]["containers"]} == {"jnlp"}
    (job,) = configuration["jobs"]
    assert f"targets: '{next(place.glob('*.groovy')).name}'" in job["script"]
    assert configuration["unclassified"]["location"]["url"].endswith("/")
