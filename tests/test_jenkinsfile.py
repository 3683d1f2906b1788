"""What the Jenkins job does, action by action: its Jenkinsfile, with a recorder in place of the commands."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import Render
from jenkins_agent import install
from pipeline import Build, Jenkins
from references import missing_references
from rendered import commit_all, git

pytestmark = pytest.mark.jenkins

NAME = "digits-classifier"
TEAM = "machine-learning"
MODEL = "0123456789ab"
OTHER_MODEL = "ba9876543210"
IMAGE = f"registry.example.com/{NAME}-serving@sha256:{'1' * 64}"
JOB = "0a1b2c3d-0000-4000-8000-0123456789ab"
SUBMITTED = json.dumps({"job": JOB, "said": f"job {JOB}"})
TRAINED = json.dumps({"job": JOB, "ended": True, "model": MODEL})
REPORTS = {"reports/train/report.html": "<html>", "reports/train/metrics.json": "{}"}
SUMMARY = f"promote {MODEL} over {OTHER_MODEL}: agreement 98.2 %"
PREVIEWED = json.dumps({"model": MODEL, "image": IMAGE, "summary": SUMMARY})
STARTER, APPROVER = "anne", "bob"
BUILD = {"BUILD_URL": "https://jenkins.example.com/job/models/job/7/", "BUILD_NUMBER": "7", "JOB_NAME": "models/job"}
GIT = "git -c user.name=anne -c user.email=anne@example.com"
CREDENTIALS = {
    "aws-web-identity-token": {"kind": "file", "value": "/secret/token"},
    f"{NAME}-aws-role": {"kind": "string", "value": "arn:aws:iam::123456789012:role/deploys"},
    "kubeconfig": {"kind": "file", "value": "/secret/kubeconfig"},
}
BOUND = {
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/secret/token",
    "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/deploys",
    "KUBECONFIG": "/secret/kubeconfig",
}
# Every way through the pipeline: parameters, the stages in order, and the commands (or nox) as they are given.
TESTS = ["nox", "-s", "lint", "tests", "--", "--junitxml=reports/tests/tests.xml"]
IMAGE_TRAINING = ["mlplatform", "image", "training"]
SUBMIT = ["mlplatform", "submit", "--json", "--detach"]
ATTACH = ["mlplatform", "attach", JOB, "--json", "--report", "reports/train", "--minutes", "45", "--log-from", "0"]
BUNDLE = ["mlplatform", "bundle", MODEL]
SBOM = ["mlplatform", "sbom", IMAGE, "--output", "reports/bundle/sbom.cdx.json"]
PREVIEW = ["mlplatform", "preview", "--json", "--report", "reports/preview"]
PROMOTE = ["mlplatform", "promote", "--model", MODEL, "--image", IMAGE]


def deploy(environment: str) -> list[str]:
    return ["mlplatform", "deploy", "--environment", environment, "--image", IMAGE]


def approved(environment: str) -> tuple[list[str], list[list[str]]]:
    """The stages and the commands of an approval, where a release needs one."""
    if environment != "production":
        return [], []
    return ["Preview", "Approval"], [[*PREVIEW, "--image", IMAGE]]


def release(environment: str) -> tuple[dict[str, str], list[str], list[list[str]]]:
    approval, preview = approved(environment)
    gate = ["mlplatform", "gate", MODEL]
    return (
        {"ACTION": "train-and-release", "ENVIRONMENT": environment},
        ["Tests", "Training image", "Train", "Gate", "Bundle", *approval, "Deploy"],
        [TESTS, IMAGE_TRAINING, SUBMIT, ATTACH, gate, BUNDLE, SBOM, *preview, deploy(environment)],
    )


def deployment(environment: str) -> tuple[dict[str, str], list[str], list[list[str]]]:
    approval, preview = approved(environment)
    return (
        {"ACTION": "deploy", "ENVIRONMENT": environment, "MODEL_VERSION": MODEL},
        ["Bundle", *approval, "Deploy"],
        [BUNDLE, SBOM, *preview, deploy(environment)],
    )


def rollback(environment: str) -> tuple[dict[str, str], list[str], list[list[str]]]:
    return (
        {"ACTION": "rollback", "ENVIRONMENT": environment},
        ["Roll back"],
        [["mlplatform", "rollback", "--environment", environment]],
    )


ACTIONS: dict[str, tuple[dict[str, str], list[str], list[list[str]]]] = {
    "test": ({}, ["Tests"], [TESTS]),
    "train": ({"ACTION": "train"}, ["Training image", "Train"], [IMAGE_TRAINING, SUBMIT, ATTACH]),
    "train-if-needed": (
        {"ACTION": "train-if-needed"},
        ["Training image", "Train"],
        [IMAGE_TRAINING, [*SUBMIT, "--if-needed"], ATTACH],
    ),
    "train-and-release, staging": release("staging"),
    "train-and-release, ghost": release("ghost"),
    "train-and-release, production": release("production"),
    "attach": ({"ACTION": "attach", "BATCH_JOB": JOB}, ["Attach"], [ATTACH]),
    "stop-training": (
        {"ACTION": "stop-training", "BATCH_JOB": JOB},
        ["Stop training"],
        [["mlplatform", "stop-training", JOB]],
    ),
    "deploy, staging": deployment("staging"),
    "deploy, ghost": deployment("ghost"),
    "deploy, production": deployment("production"),
    "promote": ({"ACTION": "promote"}, ["Preview", "Approval", "Promote"], [PREVIEW, PROMOTE]),
    "rollback, staging": rollback("staging"),
    "rollback, ghost": rollback("ghost"),
    "rollback, production": rollback("production"),
    "ghost-report": (
        {"ACTION": "ghost-report"},
        ["Ghost report"],
        [["mlplatform", "ghost-report", "--since", "24h", "--output", "reports/ghost"]],
    ),
    "ghost-stop": ({"ACTION": "ghost-stop"}, ["Stop ghost"], [["mlplatform", "ghost", "stop"]]),
    "status": (
        {"ACTION": "status"},
        ["Status"],
        [["mlplatform", "status"], ["mlplatform", "models"], ["mlplatform", "history"]],
    ),
}


@pytest.fixture(scope="module")
def jenkinsfile(render: Render) -> str:
    return (render({}) / "Jenkinsfile").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository that the job checks out: with one file, which the recorder does not need."""
    source = tmp_path_factory.mktemp("source")
    (source / "README.md").write_text("As it began\n")
    (source / ".gitignore").write_text("/.venv/\n/reports/\n")
    commit_all(source, "As it began")
    return source


@dataclass
class Job:
    """The job in the stand-in for Jenkins. answers: what the recorder answers before what it answers anyway."""

    jenkins: Jenkins
    jenkinsfile: str
    source: Path
    directory: Path
    answers: list[dict[str, Any]] = field(default_factory=list)

    def press(self, parameters: dict[str, str] | None = None, **situation: Any) -> Build:
        """Build with parameters. One of the team starts it, and another one approves, unless the situation differs."""
        install(self.directory / "bin" / "python3", "python3")
        standard = [
            {"call": ["mlplatform", "submit"], "output": SUBMITTED},
            {"call": ["mlplatform", "attach"], "output": TRAINED, "files": REPORTS},
            {"call": ["mlplatform", "bundle"], "output": IMAGE},
            {"call": ["mlplatform", "sbom"], "files": {"reports/bundle/sbom.cdx.json": "{}"}},
            {
                "call": ["mlplatform", "preview"],
                "output": PREVIEWED,
                "files": {"reports/preview/report.html": "<html>"},
            },
            {"call": ["mlplatform", "ghost-report"], "files": {"reports/ghost/report.html": "<html>"}},
            {"call": ["nox"], "files": {"reports/tests/tests.xml": "<testsuite/>"}},
        ]
        (self.directory / "answers.json").write_text(json.dumps([*self.answers, *standard]), encoding="utf-8")
        (self.directory / "calls.jsonl").write_text("")
        environment = {"PATH": f"{self.directory / 'bin'}:/usr/bin:/bin", "STAND_IN": str(self.directory)}
        environment |= BUILD | situation.pop("environment", {})
        usual = {
            "inputs": {"Approval": {"answer": "proceed", "by": APPROVER}},
            "groups": {TEAM: [STARTER, APPROVER]},
            "startedBy": STARTER,
            "credentials": CREDENTIALS,
            "checkout": str(self.source),
        }
        situation = usual | situation
        return self.jenkins.build(
            self.jenkinsfile, self.directory / "workspaces", parameters, environment=environment, **situation
        )

    def calls(self, *programs: str) -> list[dict[str, Any]]:
        """The calls of these programs in the build before, in order."""
        calls = [json.loads(line) for line in (self.directory / "calls.jsonl").read_text(encoding="utf-8").splitlines()]
        return [each for each in calls if each["call"][0] in programs]

    def commands(self) -> list[list[str]]:
        """The platform's commands, and nox, of the build before."""
        return [each["call"] for each in self.calls("mlplatform", "nox")]


@pytest.fixture
def job(jenkins: Jenkins, jenkinsfile: str, source: Path, tmp_path: Path) -> Job:
    return Job(jenkins, jenkinsfile, source, tmp_path)


@dataclass(frozen=True)
class Played:
    """An action, pressed once while another build held every lock: how it went, and the commands it gave."""

    action: str
    parameters: dict[str, str]
    stages: list[str]
    expected: list[list[str]]
    build: Build
    commands: list[list[str]]

    @property
    def environment(self) -> str | None:
        """What it changes in the cluster."""
        return {"promote": "production", "ghost-stop": "ghost"}.get(self.action, self.parameters.get("ENVIRONMENT"))


@pytest.fixture(scope="module")
def all_played(
    jenkins: Jenkins, jenkinsfile: str, source: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Played]:
    locks = [f"{NAME}-{each}" for each in ("training", "staging", "ghost", "production")]
    found = {}
    for action, (parameters, stages, commands) in ACTIONS.items():
        job = Job(jenkins, jenkinsfile, source, tmp_path_factory.mktemp("played"))
        build = job.press(parameters, locked=locks)
        found[action] = Played(action, parameters, stages, commands, build, job.commands())
    return found


@pytest.fixture(params=ACTIONS)
def played(request: pytest.FixtureRequest, all_played: dict[str, Played]) -> Played:
    return all_played[request.param]


class TestAction:
    def test_goes_through_its_stages_and_gives_its_commands(self, played: Played) -> None:
        assert (played.build.result, played.build.error) == ("SUCCESS", None), played.build.log
        assert played.build.stages == ["Parameters", *played.stages]
        assert played.commands == played.expected

    def test_leaves_out_every_other_stage_without_an_agent_a_lock_or_a_question(self, played: Played) -> None:
        skipped = {each["stage"]: each["why"] for each in played.build.of("stage", status="skipped")}
        assert set(skipped.values()) == {"when"}
        for kind in ("agent", "lock", "input", "sh"):
            assert {each["stage"] for each in played.build.of(kind)}.isdisjoint(skipped)

    def test_asks_for_approval_exactly_before_production_unless_it_goes_back(self, played: Played) -> None:
        asked = played.build.of("input")
        into_production = played.environment == "production" and not played.action.startswith("rollback")
        assert [(each["submitter"], each["timeouts"][-1:]) for each in asked] == (
            [(TEAM, ["1 DAYS"])] if into_production else []
        )
        assert all(SUMMARY in each["message"] for each in asked)
        # Nothing is held while somebody thinks it over.
        assert all(each["nodes"] == [] and each["locks"] == [] for each in asked)

    def test_locks_what_it_changes_in_the_cluster_and_waits_for_it_without_an_agent(self, played: Played) -> None:
        wanted = [f"{NAME}-{played.environment}"] if played.environment else []
        training = [f"{NAME}-training"] if "Train" in played.stages else []
        assert [each["lock"] for each in played.build.of("lock")] == [*training, *wanted]
        assert [each["nodes"] for each in played.build.of("waits")] == [[] for _ in [*training, *wanted]]
        changing = re.compile("mlplatform (deploy|promote|rollback|ghost stop)")
        scripts = played.build.of("sh")
        assert all(each["locks"] == wanted for each in scripts if changing.search(each["script"]))
        assert all(each["locks"] == training for each in scripts if "mlplatform submit" in each["script"])

    def test_ends_in_bounded_time(self, played: Played) -> None:
        assert {tuple(each["timeouts"][1:]) for each in played.build.of("sh")} == {("2 HOURS",)}
        assert ["timeout", [{"time": 7, "unit": "DAYS", "activity": True}]] in played.build.of("job")[0]["options"]

    def test_counts_no_time_in_which_it_waits_for_an_agent(self, played: Played) -> None:
        agents = played.build.of("agent")
        assert {tuple(each["timeouts"]) for each in agents} <= {("7 DAYS",)}

    def test_calls_nothing_but_delivery_nox_and_what_installs_them(self, played: Played) -> None:
        known = (".venv/bin/python -m mlplatform ", ".venv/bin/nox ", "python3 -m venv .venv && ", "git checkout ")
        assert [each["script"] for each in played.build.of("sh") if not each["script"].strip().startswith(known)] == []


def test_every_action_that_is_offered_was_played(job: Job) -> None:
    offered = {each["name"]: each for each in job.press().of("job")[0]["parameters"]}
    assert set(offered["ACTION"]["choices"]) == {action.split(",")[0] for action in ACTIONS}
    assert offered["ACTION"]["choices"][0] == "test"
    assert set(offered["ENVIRONMENT"]["choices"]) == {"staging", "ghost", "production"}


class TestParameters:
    def test_of_the_training_reach_it_as_they_were_typed(self, job: Job) -> None:
        job.press(
            {
                "ACTION": "train",
                "DATASET": "aabbccddeeff",
                "EPOCHS": "5",
                "BATCH_SIZE": "64",
                "OTHER_PARAMETERS": "--learning-rate 0.001 --source s3://bucket/prefix",
            }
        )
        assert job.commands()[1] == [
            *SUBMIT, "--learning-rate", "0.001", "--source", "s3://bucket/prefix",
            "--dataset", "aabbccddeeff", "--epochs", "5", "--batch-size", "64",
        ]  # fmt: skip

    def test_force_build_forces_the_images_and_nothing_else(self, job: Job) -> None:
        job.press({"ACTION": "train-and-release", "FORCE_BUILD": "true"})
        forced = [each[1] for each in job.commands() if each[-1] == "--force"]
        assert forced == ["image", "bundle"]

    def test_an_override_is_one_argument(self, job: Job) -> None:
        job.press(
            {"ACTION": "promote", "OVERRIDE_REASON": "Agreed with Ms. Müller (ML-12): too few labels, yet faster"}
        )
        override = ["--override", "Agreed with Ms. Müller (ML-12): too few labels, yet faster"]
        assert job.commands() == [[*PREVIEW, *override], [*PROMOTE, *override]]

    def test_a_share_of_the_requests_goes_to_the_ghost(self, job: Job) -> None:
        parameters, stages, _ = deployment("ghost")
        done = job.press({**parameters, "GHOST_SAMPLE_RATE": "0.25"})
        assert done.stages == ["Parameters", *stages]
        assert job.commands()[-1] == [*deploy("ghost"), "--sample-rate", "0.25"]

    def test_a_share_of_the_requests_is_for_a_ghost_only(self, job: Job) -> None:
        done = job.press({**deployment("staging")[0], "GHOST_SAMPLE_RATE": "0.25"})
        assert (done.result, done.stages) == ("FAILURE", ["Parameters"])
        assert done.error == 'GHOST_SAMPLE_RATE is "0.25"; allowed with ENVIRONMENT ghost only'

    def test_a_period_goes_to_the_report(self, job: Job) -> None:
        job.press({"ACTION": "ghost-report", "GHOST_SINCE": "2027-01-31T08:00Z"})
        assert job.commands()[0][2:4] == ["--since", "2027-01-31T08:00Z"]

    @pytest.mark.parametrize(
        ("parameter", "value"),
        [
            ("ACTION", "everything"),
            ("ACTION", "test; touch x"),
            ("ENVIRONMENT", "production; touch x"),
            ("MODEL_VERSION", '"; touch x; #'),
            ("MODEL_VERSION", "../../etc"),
            ("BATCH_JOB", "$(touch x)"),
            ("BATCH_JOB", "--help"),
            ("DATASET", "$(touch x)"),
            ("DATASET", "--help"),
            ("EPOCHS", "5; touch x"),
            ("EPOCHS", "0"),
            ("EPOCHS", "-1"),
            ("EPOCHS", "100001"),
            ("BATCH_SIZE", "100001"),
            ("BATCH_SIZE", "`touch x`"),
            ("OTHER_PARAMETERS", "; touch x"),
            ("OTHER_PARAMETERS", "--seed 7; touch x"),
            ("OTHER_PARAMETERS", "--seed $(touch x)"),
            ("OTHER_PARAMETERS", "--seed *"),
            ("OTHER_PARAMETERS", "--seed 7\n--report x"),
            ("OTHER_PARAMETERS", "--seed 7  --patience 3"),
            ("OTHER_PARAMETERS", "seed 7"),
            ("OVERRIDE_REASON", '"; touch x; #'),
            ("OVERRIDE_REASON", "--dry-run"),
            ("OVERRIDE_REASON", "x\ny"),
            ("OVERRIDE_REASON", "x" * 201),
            ("GHOST_SAMPLE_RATE", "1.1"),
            ("GHOST_SAMPLE_RATE", ".5"),
            ("GHOST_SAMPLE_RATE", "0.5; touch x"),
            ("GHOST_SINCE", ""),
            ("GHOST_SINCE", "1 day"),
            ("GHOST_SINCE", "24h; touch x"),
        ],
    )
    def test_of_another_form_end_the_build_before_anything_is_done(self, job: Job, parameter: str, value: str) -> None:
        done = job.press({"ACTION": "train", parameter: value})
        assert done.result == "FAILURE"
        assert done.error is not None
        assert done.error.startswith(f"{parameter} is ")
        assert done.stages == ["Parameters"]
        assert job.calls("python3", "pip", "nox", "mlplatform") == []
        assert done.of("agent") == []

    def test_a_deployment_without_a_version_is_told_where_to_find_one(self, job: Job) -> None:
        done = job.press({"ACTION": "deploy"})
        assert (done.result, done.error) == (
            "FAILURE",
            "MODEL_VERSION is empty; ACTION status lists the versions there are",
        )

    @pytest.mark.parametrize("value", ['"; touch made; #', "$(touch made)", "`touch made`", "'; touch made; '"])
    @pytest.mark.parametrize("action", ["train-and-release, production", "deploy, ghost", "promote", "ghost-report"])
    def test_that_got_past_the_first_stage_are_still_no_commands(self, job: Job, action: str, value: str) -> None:
        # As if the forms of the first stage allowed anything.
        job.jenkinsfile = re.sub(r"(?m)^(        [A-Z_]+: )/.*/,$", r"\1/(?s).*/,", job.jenkinsfile)
        assert job.jenkinsfile.count("/(?s).*/") == 11
        declared = [each["name"] for each in job.press().of("job")[0]["parameters"] if each["type"] == "string"]
        chosen = {name: ACTIONS[action][0][name] for name in ("ACTION", "ENVIRONMENT") if name in ACTIONS[action][0]}
        # Which environment it is for is a rule of its own.
        spared = {} if chosen.get("ENVIRONMENT") == "ghost" else {"GHOST_SAMPLE_RATE": ""}
        done = job.press(dict.fromkeys(declared, value) | chosen | spared)
        assert done.result == "SUCCESS", done.log
        assert any(value in command for command in job.commands())
        assert list(job.directory.rglob("made")) == []

    def test_are_in_no_text_that_a_shell_reads(self, jenkins: Jenkins, jenkinsfile: str) -> None:
        shells = jenkins.shells(jenkinsfile)
        assert len(shells) > 10
        assert [each["line"] for each in shells if not each["constant"]] == []

    def test_do_not_hide_settings_of_the_repository(self, job: Job) -> None:
        # Every parameter is a variable in every shell: none may be one that a package reads.
        names = [each["name"] for each in job.press().of("job")[0]["parameters"]]
        assert [
            name for name in names if name.startswith(("SERVICE_", "STORAGE_", "TRAINING_", "SERVING_", "DELIVERY_"))
        ] == []


class TestApproval:
    def test_comes_when_everything_is_ready_and_before_the_cluster_is_touched(self, job: Job) -> None:
        done = job.press(release("production")[0])
        order = [each["stage"] for each in done.events if each["kind"] in {"input", "sh"}]
        assert order.index("Preview") < order.index("Approval") < order.index("Deploy")

    @pytest.mark.parametrize("answer", [{"answer": "abort", "by": TEAM}, {}], ids=["refused", "nobody answers"])
    def test_that_is_not_given_leaves_production_as_it_is(self, job: Job, answer: dict[str, str]) -> None:
        done = job.press(release("production")[0], inputs={"Approval": answer})
        assert done.result == "ABORTED"
        assert "Deploy" not in done.stages
        assert deploy("production") not in job.commands()
        assert done.of("post", stage=None) == [{"kind": "post", "stage": None, "condition": "aborted"}]

    def test_is_of_a_model_and_an_image_in_this_build_and_says_who_asked(self, job: Job) -> None:
        for parameters, command in (deployment("production")[0], "deploy"), ({"ACTION": "promote"}, "promote"):
            job.press(parameters)
            (released,) = (each for each in job.calls("mlplatform") if each["call"][1] == command)
            names = ("APPROVED_BY", "APPROVED_BUILD", "APPROVED_MODEL", "APPROVED_IMAGE", "STARTED_BY")
            assert [released["environment"].get(name) for name in names] == [
                APPROVER, f"{BUILD['BUILD_URL']} 7", MODEL, IMAGE, STARTER,
            ]  # fmt: skip

    def test_comes_after_a_preview_whose_report_is_kept_and_that_names_the_build(self, job: Job) -> None:
        done = job.press({"ACTION": "promote"})
        assert done.of("archive", stage="Preview")[0]["files"] == ["reports/preview/report.html"]
        assert done.description == SUMMARY

    def test_of_a_preview_that_is_refused_is_not_asked_for(self, job: Job) -> None:
        job.answers = [{"call": ["mlplatform", "preview"], "exit": 3}]
        done = job.press({"ACTION": "promote"})
        assert (done.result, done.of("input")) == ("FAILURE", [])

    def test_by_the_one_who_started_the_build_releases_nothing(self, job: Job) -> None:
        done = job.press({"ACTION": "promote"}, inputs={"Approval": {"answer": "proceed", "by": STARTER}})
        assert (done.result, done.stages[-1]) == ("FAILURE", "Approval")
        assert done.error == f"{STARTER} started this build; somebody else of {TEAM} has to approve it"

    def test_by_one_of_two_whose_builds_became_one_releases_nothing(self, job: Job) -> None:
        second = APPROVER.upper()
        done = job.press({"ACTION": "promote"}, startedBy=f"{STARTER},{second}")
        assert (done.result, done.stages[-1]) == ("FAILURE", "Approval")
        assert done.error == f"{APPROVER} started this build; somebody else of {TEAM} has to approve it"

    @pytest.mark.parametrize(("action", "stage"), [("deploy, production", "Deploy"), ("promote", "Promote")])
    def test_is_not_left_out_by_a_restart_of_a_later_stage(self, job: Job, action: str, stage: str) -> None:
        before = job.press(ACTIONS[action][0])
        done = job.press(ACTIONS[action][0], restart={"stage": stage, "variables": before.variables}, startedBy="eve")
        assert (done.result, done.stages, job.commands()) == ("NOT_BUILT", [], [])

    def test_of_another_build_is_told_from_one_of_this_build_where_restarts_are_allowed(self, job: Job) -> None:
        before = job.press({"ACTION": "promote"})
        job.jenkinsfile = job.jenkinsfile.replace("disableRestartFromStage()", "")
        job.press(
            {"ACTION": "promote"},
            restart={"stage": "Promote", "variables": before.variables},
            startedBy="eve",
            environment={"BUILD_URL": "https://jenkins.example.com/job/models/job/8/", "BUILD_NUMBER": "8"},
        )
        (released,) = job.calls("mlplatform")
        environment = released["environment"]
        assert environment["APPROVED_BUILD"] != f"{environment['BUILD_URL']} {environment['BUILD_NUMBER']}"
        assert environment["STARTED_BY"] == "eve"


class TestCommit:
    """Which code a build runs."""

    def test_is_the_one_of_the_first_stage_also_if_the_branch_moves(self, job: Job, tmp_path: Path) -> None:
        job.source = self.repository(tmp_path)
        push = f"cd {job.source} && echo changed > README.md && {GIT} commit -qam Changed"
        done = job.press(
            release("production")[0], meanwhile={"Train": push, "Deploy": push.replace("changed", "again")}
        )
        assert done.result == "SUCCESS", done.log
        assert len({each["commit"] for each in done.of("checkout")}) == 3
        assert {each["commit"] for each in job.calls("mlplatform", "nox")} == {done.of("checkout")[0]["commit"]}

    def test_that_cannot_be_had_any_more_ends_the_build(self, job: Job, tmp_path: Path) -> None:
        job.source = self.repository(tmp_path)
        push = f"cd {job.source} && {GIT} commit -q --amend -m Rewritten"
        done = job.press(deployment("staging")[0], meanwhile={"Deploy": push})
        assert (done.result, done.stages[-1]) == ("FAILURE", "Deploy")
        assert job.commands() == [BUNDLE, SBOM]

    def test_is_the_newest_in_the_next_build_whose_workspace_has_nothing_else(self, job: Job, tmp_path: Path) -> None:
        job.source = self.repository(tmp_path)
        job.press({"ACTION": "status"})
        (job.directory / "workspaces" / "kubectl" / "left.py").write_text("")
        head = git(job.source, "commit", "-q", "--allow-empty", "-m", "Next") + git(job.source, "rev-parse", "HEAD")
        job.press({"ACTION": "status"})
        assert {each["commit"] for each in job.calls("mlplatform")} == {head.strip()}
        assert not (job.directory / "workspaces" / "kubectl" / "left.py").exists()

    def repository(self, tmp_path: Path) -> Path:
        """One of the test's own, which it may change."""
        source = tmp_path / "own-source"
        source.mkdir()
        (source / "README.md").write_text("As it began\n")
        (source / ".gitignore").write_text("/.venv/\n/reports/\n")
        commit_all(source, "As it began")
        return source


class TestTraining:
    """A training, followed in looks."""

    def test_that_takes_long_is_looked_at_again_with_a_fresh_token_and_no_agent_between(self, job: Job) -> None:
        unfinished = {"job": JOB, "ended": False, "status": "RUNNING", "log_from": 7}
        job.answers = [{"call": ATTACH, "output": json.dumps(unfinished)}]
        done = job.press({"ACTION": "train"})
        assert done.result == "SUCCESS", done.log
        assert job.commands()[2:] == [ATTACH, [*ATTACH[:6], "--minutes", "1", "--log-from", "7"]]
        assert [(each["nodes"], each["seconds"]) for each in done.of("sleep")] == [([], 10)]
        tokens = done.of("credential", stage="Train", id="aws-web-identity-token")
        assert len(tokens) == len(done.of("agent", stage="Train")) == 3
        assert done.description == f"train {MODEL}"

    def test_that_is_not_needed_is_not_followed_and_the_build_says_why(self, job: Job) -> None:
        said = "not trained: no new data since 2027-01-31"
        job.answers = [{"call": ["mlplatform", "submit"], "output": json.dumps({"job": None, "said": said})}]
        done = job.press({"ACTION": "train-if-needed"})
        assert (done.result, done.description) == ("SUCCESS", f"train-if-needed: {said}")
        assert [each[1] for each in job.commands()] == ["image", "submit"]

    @pytest.mark.parametrize("action", ["attach", "stop-training"])
    def test_is_named_by_the_job_of_aws_batch(self, job: Job, action: str) -> None:
        done = job.press({"ACTION": action})
        assert done.error == "BATCH_JOB is empty; the build that started the training shows its id"


class TestStopped:
    """A build that somebody stops says what is true of its action."""

    @pytest.mark.parametrize(
        ("action", "stopped_in", "said"),
        [
            ("train", "image training", "Nothing was changed."),
            ("train", "mlplatform attach", f"The training {JOB} continues in AWS Batch."),
            ("attach", "mlplatform attach", f"The training {JOB} continues in AWS Batch."),
            ("deploy, staging", "mlplatform bundle", f"Nothing was released. {MODEL} stays published"),
            ("deploy, staging", "mlplatform deploy", "staging was being changed. That is taken back;"),
            ("promote", "mlplatform promote", "production was being changed."),
            ("rollback, production", "mlplatform rollback", "production was being changed."),
            ("ghost-stop", "mlplatform ghost stop", "ghost was being changed."),
            ("status", "mlplatform models", "Nothing was changed."),
        ],
    )
    def test_tells(self, job: Job, action: str, stopped_in: str, said: str) -> None:
        done = job.press(ACTIONS[action][0], abort=stopped_in)
        assert done.result == "ABORTED"
        (told,) = done.of("echo", stage=None)
        assert told["message"].startswith("Stopped: ")
        assert said in told["message"]

    def test_while_it_waits_for_the_approval_released_nothing(self, job: Job) -> None:
        done = job.press(deployment("production")[0], inputs={"Approval": {"answer": "abort", "by": APPROVER}})
        assert f"Nothing was released. {MODEL} stays published" in done.of("echo", stage=None)[0]["message"]


class TestBranches:
    """In a multibranch job."""

    @pytest.mark.parametrize("action", ["train", "deploy, staging", "promote", "rollback, production", "status"])
    def test_that_are_not_the_primary_one_are_only_tested(self, job: Job, action: str) -> None:
        done = job.press(ACTIONS[action][0], environment={"BRANCH_NAME": "PR-1"})
        assert done.error == f'ACTION is "{ACTIONS[action][0]["ACTION"]}"; allowed on branch PR-1 is test'
        assert (job.commands(), done.of("credential")) == ([], [])

    def test_are_tested_without_any_credential(self, job: Job) -> None:
        done = job.press(environment={"BRANCH_NAME": "PR-1"})
        assert (done.result, done.of("credential")) == ("SUCCESS", [])

    def test_of_the_primary_one_may_do_everything(self, job: Job) -> None:
        environment = {"BRANCH_NAME": "main", "BRANCH_IS_PRIMARY": "true"}
        assert job.press(deployment("staging")[0], environment=environment).result == "SUCCESS"


class TestTold:
    """People are told where Jenkins has the URL of a webhook."""

    def told(self, job: Job, parameters: dict[str, str], **situation: Any) -> list[list[str]]:
        job.press(
            parameters,
            environment={"NOTIFY_CREDENTIAL": "webhook"},
            credentials=CREDENTIALS | {"webhook": {"kind": "string", "value": "https://hooks.example.com/secret"}},
            **situation,
        )
        calls = [each for each in job.calls("mlplatform") if each["call"][1] == "notify"]
        assert {each["environment"]["NOTIFY_URL"] for each in calls} <= {"https://hooks.example.com/secret"}
        return [each["call"][2:] for each in calls]

    def test_of_a_failure(self, job: Job) -> None:
        job.answers = [{"call": ["mlplatform", "status"], "exit": 1}]
        assert self.told(job, {"ACTION": "status"}) == [["failure", "Failed: status"]]

    def test_of_an_approval_that_waits(self, job: Job) -> None:
        assert self.told(job, {"ACTION": "promote"}) == [["approval", f"It waits for {TEAM}: {SUMMARY}"]]

    @pytest.mark.parametrize("answer", [{"answer": "abort", "by": TEAM}, {}], ids=["refused", "nobody answers"])
    def test_of_an_approval_that_is_not_given(self, job: Job, answer: dict[str, str]) -> None:
        told = self.told(job, {"ACTION": "promote"}, inputs={"Approval": answer})
        assert told[1:] == [["no-approval", f"{TEAM} did not approve: {SUMMARY}"]]

    def test_of_no_approval_once_it_was_given(self, job: Job) -> None:
        told = self.told(job, {"ACTION": "promote"}, abort="mlplatform promote")
        assert [occasion for occasion, _ in told] == ["approval"]

    def test_of_the_verdict_on_a_ghost(self, job: Job) -> None:
        job.answers = [{"call": ["mlplatform", "ghost-report"], "output": f"promote: ghost {MODEL}"}]
        assert self.told(job, {"ACTION": "ghost-report"}) == [["ghost-verdict", f"promote: ghost {MODEL}"]]

    def test_of_what_a_schedule_trained_and_of_nothing_that_a_person_did(self, job: Job) -> None:
        told = self.told(job, {"ACTION": "train"}, startedBy=None)
        assert told == [["training", f"Done: train {MODEL}"]]
        assert self.told(job, {"ACTION": "train"}) == []

    def test_nothing_where_there_is_no_webhook(self, job: Job) -> None:
        job.press({"ACTION": "promote"})
        assert not any(each[1] == "notify" for each in job.commands())

    def test_in_vain_fails_no_build(self, job: Job) -> None:
        job.answers = [{"call": ["mlplatform", "notify"], "exit": 1}]
        assert self.told(job, {"ACTION": "promote"})
        assert PROMOTE in job.commands()

    def test_by_a_credential_that_is_not_there_fails_no_build(self, job: Job) -> None:
        done = job.press({"ACTION": "train"}, environment={"NOTIFY_CREDENTIAL": "no-such"}, startedBy=None)
        assert (done.result, done.error) == ("SUCCESS", None), done.log

    def test_of_a_release_by_an_event_where_jenkins_has_a_key_of_datadog(self, job: Job) -> None:
        key = {"datadog": {"kind": "string", "value": "s3cret"}}
        job.press(
            deployment("staging")[0], environment={"DATADOG_CREDENTIAL": "datadog"}, credentials=CREDENTIALS | key
        )
        assert {each["environment"].get("DD_API_KEY") for each in job.calls("mlplatform")} == {"s3cret"}


class TestFailure:
    @pytest.mark.parametrize(
        ("failing", "stage"),
        [
            (["mlplatform", "image", "training"], "Training image"),
            (["nox"], "Tests"),
            (["mlplatform", "submit"], "Train"),
            (["mlplatform", "attach"], "Train"),
            (["mlplatform", "gate"], "Gate"),
            (["mlplatform", "bundle"], "Bundle"),
            (["mlplatform", "sbom"], "Bundle"),
            (["mlplatform", "preview"], "Preview"),
            (["mlplatform", "deploy"], "Deploy"),
        ],
    )
    def test_of_a_step_fails_the_build_and_nothing_comes_after_it(
        self, job: Job, failing: list[str], stage: str
    ) -> None:
        job.answers = [{"call": failing, "exit": 3}]
        done = job.press(release("production")[0])
        assert (done.result, done.error) == ("FAILURE", "script returned exit code 3")
        stages = ["Parameters", *release("production")[1]]
        assert done.stages == stages[: stages.index(stage) + 1]
        assert job.commands()[-1][: len(failing)] == failing
        later = {each["stage"]: each["why"] for each in done.of("stage", status="skipped")}
        assert {later[name] for name in stages[stages.index(stage) + 1 :]} <= {"failure"}
        assert [each["condition"] for each in done.of("post", stage=None)] == ["failure"]
        # Agents and locks are given back.
        assert len(done.of("agent")) == len(done.of("released"))
        assert len(done.of("lock")) == len(done.of("unlock"))

    @pytest.mark.parametrize("action", ["promote", "rollback, production", "ghost-stop", "ghost-report", "status"])
    def test_of_any_other_command_fails_the_build(self, job: Job, action: str) -> None:
        parameters, _, commands = ACTIONS[action]
        job.answers = [{"call": commands[0], "exit": 1}]
        assert job.press(parameters).result == "FAILURE"
        assert job.commands() == commands[:1]

    def test_of_the_gate_keeps_the_report_of_the_training(self, job: Job) -> None:
        job.answers = [{"call": ["mlplatform", "attach"], "exit": 4, "files": REPORTS}]
        done = job.press({"ACTION": "train"})
        assert done.result == "FAILURE"
        assert done.of("archive")[0]["files"] == sorted(REPORTS)

    def test_of_a_test_makes_the_build_say_which(self, job: Job) -> None:
        report = "<testsuite><testcase><failure/></testcase></testsuite>"
        job.answers = [{"call": ["nox"], "exit": 1, "files": {"reports/tests/tests.xml": report}}]
        done = job.press()
        assert done.result == "FAILURE"
        assert done.of("junit")[0]["files"] == ["tests.xml"]

    def test_to_install_a_package_as_locked_ends_the_stage(self, job: Job) -> None:
        job.answers = [{"call": ["pip"], "exit": 1}]
        assert job.press({"ACTION": "status"}).result == "FAILURE"
        assert job.commands() == []

    def test_of_a_parameter_names_the_action_that_it_was_given_for(self, job: Job) -> None:
        done = job.press({"ACTION": "train", "EPOCHS": "0"})
        assert done.of("echo", stage=None)[0]["message"].startswith("Failed: train. ")

    def test_is_told_in_one_sentence(self, job: Job) -> None:
        job.answers = [{"call": ["mlplatform", "gate"], "exit": 3}]
        said = job.press(release("staging")[0]).of("echo", stage=None)
        assert len(said) == 1
        assert MODEL in said[0]["message"]


class TestEnvironment:
    def test_of_delivery_commands_is_locked_and_reaches_aws_without_a_key(self, job: Job) -> None:
        job.press(deployment("production")[0])
        for call in job.calls("mlplatform"):
            needed = BOUND if call["call"][1] in {"preview", "deploy"} else {**BOUND, "KUBECONFIG": None}
            assert {name: call["environment"].get(name) for name in BOUND} == needed
            assert not any("SECRET" in name or "ACCESS_KEY" in name for name in call["environment"])
        installs = {tuple(each["call"]) for each in job.calls("pip")}
        assert installs == {
            ("pip", "install", "--quiet", "--no-compile", "--require-hashes", "-r", "requirements/delivery.txt"),
        }

    def test_of_tests_and_installations_has_no_credentials(self, job: Job) -> None:
        for parameters in ({}, {"ACTION": "train"}):
            job.press(parameters)
            calls = job.calls("python3", "pip", "nox")
            assert calls
            assert not any(name in each["environment"] for each in calls for name in BOUND)

    def test_of_each_stage_is_an_agent_that_has_what_it_calls(self, job: Job) -> None:
        done = job.press(release("production")[0])
        assert {each["stage"]: each["label"] for each in done.of("agent")} == {
            "Tests": "python", "Training image": "docker", "Train": "python", "Gate": "python", "Bundle": "docker",
            "Preview": "kubectl", "Deploy": "kubectl",
        }  # fmt: skip

    def test_is_the_same_nox_that_readme_and_laptop_have(self, job: Job, render: Render) -> None:
        job.press()
        assert job.commands() == [TESTS]
        readme = (render({}) / "README.md").read_text(encoding="utf-8")
        assert "| `.venv/bin/nox -s lint tests` | all checks |" in readme


class TestKept:
    def test_of_a_training_are_report_and_metrics_with_fingerprints(self, job: Job) -> None:
        archived = job.press({"ACTION": "train"}).of("archive")
        assert [(each["files"], each["fingerprint"]) for each in archived] == [(sorted(REPORTS), True)]

    def test_of_a_release_is_the_list_of_what_is_in_the_image_as_well(self, job: Job) -> None:
        archived = job.press(release("staging")[0]).of("archive", stage="Bundle")
        assert [(each["files"], each["fingerprint"]) for each in archived] == [(["reports/bundle/sbom.cdx.json"], True)]

    def test_of_a_ghost_is_its_report(self, job: Job) -> None:
        assert job.press({"ACTION": "ghost-report"}).of("archive")[0]["files"] == ["reports/ghost/report.html"]

    def test_is_nothing_of_an_earlier_build(self, job: Job) -> None:
        for parameters in ({"ACTION": "ghost-report"}, {"ACTION": "train"}):
            assert job.press(parameters).result == "SUCCESS"
        job.answers = [{"call": ["mlplatform", command], "exit": 1} for command in ("attach", "ghost-report")]
        for parameters in ({"ACTION": "train"}, {"ACTION": "ghost-report"}):
            done = job.press(parameters)
            assert (done.result, done.of("archive")[0]["files"]) == ("FAILURE", [])

    def test_of_the_job_are_the_last_hundred_builds(self, job: Job) -> None:
        options = dict(job.press().of("job")[0]["options"])
        assert options["buildDiscarder"][0][1][0]["numToKeepStr"] == "100"
        assert "timestamps" in options

    def test_waits_for_no_other_build_but_through_locks(self, job: Job) -> None:
        assert "disableConcurrentBuilds" not in dict(job.press().of("job")[0]["options"])

    def test_the_build_is_named_after_what_it_released(self, job: Job) -> None:
        assert job.press(release("staging")[0]).description == f"train-and-release {MODEL}"
        assert job.press(deployment("staging")[0]).description == f"deploy {MODEL}"


class TestFile:
    def test_is_one_that_jenkins_takes(self, jenkins: Jenkins, render: Render) -> None:
        for answers in ({}, {"model_name": "m" * 40, "owning_team": "t" * 63}, {"training_device": "cpu"}):
            text = (render(answers) / "Jenkinsfile").read_text(encoding="utf-8")
            assert jenkins.complaints(text) == []


def table(played: dict[str, Played]) -> str:
    """The page's table of actions; environments that make no difference share a row."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for way in played.values():
        action, _, environment = way.action.partition(", ")
        stages = " → ".join(stage for stage in way.build.stages if stage != "Parameters")
        asked = f"`{TEAM}`" if way.build.of("input") else ""
        rows.setdefault((action, stages, asked), []).extend([environment] if environment else [])
    lines = ["| action | stages | asks first |", "|---|---|---|"]
    for (action, stages, asked), environments in rows.items():
        where = f", {' or '.join(environments)}" if len(environments) in {1, 2} else ""
        lines.append(f"| *{action}*{where} | {stages} | {asked} |".replace("|  |", "| |"))
    return "\n".join(lines)


class TestPage:
    """`deploy/jenkins/README.md`."""

    @pytest.fixture
    def page(self, render: Render) -> str:
        return (render({}) / "deploy" / "jenkins" / "README.md").read_text(encoding="utf-8")

    def test_shows_the_stages_of_each_action_as_they_were_played(
        self, page: str, all_played: dict[str, Played]
    ) -> None:
        assert table(all_played) in page

    def test_names_nothing_that_is_not_there(self, render: Render) -> None:
        assert missing_references(render({}) / "deploy" / "jenkins" / "README.md", render({})) == []

    def test_tells_of_every_label_and_credential_and_of_no_other(
        self, page: str, all_played: dict[str, Played]
    ) -> None:
        builds = [way.build for way in all_played.values()]
        labels: dict[str, list[str]] = {}
        for event in (event for build in builds for event in build.of("agent")):
            stages = labels.setdefault(event["label"], [])
            stages += [event["stage"]] if event["stage"] not in stages else []
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]
        told = {row[0].strip("`"): row[2].split(", ") for row in rows if row[0].strip("`") in labels}
        assert {label: sorted(stages) for label, stages in told.items()} == {
            label: sorted(stages) for label, stages in labels.items()
        }
        credentials = {event["id"] for build in builds for event in build.of("credential")}
        assert {row[0].strip("`") for row in rows} >= credentials
