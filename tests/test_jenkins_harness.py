"""The stand-in for Jenkins does what Jenkins does: what it refuses, and in which order things happen."""

from pathlib import Path
from typing import Any

import pytest
from pipeline import Build, Jenkins
from rendered import commit_all

pytestmark = pytest.mark.jenkins

GIT = "git -c user.name=anne -c user.email=anne@example.com"


@pytest.fixture
def build(jenkins: Jenkins, tmp_path: Path) -> Any:
    def run(text: str, parameters: dict[str, str] | None = None, **situation: Any) -> Build:
        return jenkins.build(text, tmp_path / "workspaces", parameters, **situation)

    return run


def pipeline(stages: str, *, agent: str = "agent none", rest: str = "") -> str:
    return f"pipeline {{\n {agent}\n {rest}\n stages {{\n {stages}\n }}\n}}\n"


def stage(name: str = "One", content: str = "steps { echo 'x' }") -> str:
    return f"stage('{name}') {{\n {content}\n }}\n"


class TestRefused:
    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            (pipeline(stage(), agent="agnet any"), 'Undefined section "agnet"'),
            (pipeline(stage(), agent="agnet any"), 'Missing required section "agent"'),
            (pipeline(stage(), rest="pots { always { echo 'x' } }"), 'Undefined section "pots"'),
            (pipeline(stage(), rest="when { expression { true } }"), 'Undefined section "when"'),
            (pipeline(stage(), rest="input { message 'x' }"), 'Undefined section "input"'),
            (pipeline(stage(), rest="agent any"), "Multiple occurrences of the agent section"),
            (pipeline(""), "No stages specified"),
            ("pipeline { agent any }", 'Missing required section "stages"'),
            (pipeline(stage(), agent="agent some"), 'Invalid agent "some"'),
            (pipeline(stage(), agent="agent { lable 'x' }"), 'Invalid agent type "lable"'),
            (pipeline(stage(), agent="agent { label 'x'\n docker 'y' }"), "Only one agent type is allowed"),
            (
                pipeline(stage(content="agent any")),
                "A stage has one of steps, stages, parallel, matrix; this one: none",
            ),
            (
                pipeline(stage(content="steps { echo 'x' }\n stages { stage('y') { steps { echo 'y' } } }")),
                "A stage has one",
            ),
            (pipeline(stage(content="steps { }")), "No steps specified"),
            (pipeline(stage(content="step { echo 'x' }")), 'Unknown stage section "step"'),
            (pipeline(stage(content="triggers { cron('') }\n steps { echo 'x' }")), 'Unknown stage section "triggers"'),
            (pipeline(stage(content="parameters { string(name: 'x') }\n steps { echo 'x' }")), "Unknown stage section"),
            (pipeline(stage() + stage()), 'Duplicate stage name: "One"'),
            (
                pipeline(stage(content="steps { echo 'x' }\n post { allways { echo 'x' } }")),
                "Invalid condition of post",
            ),
            (pipeline(stage(content="steps { def x = 1 }")), "Expected a step"),
            (pipeline(stage(content="steps { sh(skript: 'x') }")), 'Invalid parameter "skript" of sh'),
            (pipeline(stage(content="steps { timeout(tim: 1) { echo 'x' } }")), 'Invalid parameter "tim" of timeout'),
            (pipeline(stage(content="options { disableConcurrentBuilds() }\n steps { echo 'x' }")), "Invalid option"),
            (pipeline(stage(), rest="options { disableConcurentBuilds() }"), "Invalid option"),
            (pipeline(stage(), rest="options { timeout(tiem: 1) }"), 'Invalid parameter "tiem" of timeout'),
            (
                pipeline(stage(), rest="options { timeout(time: '7') }"),
                'Expecting Integer for parameter "time" of timeout',
            ),
            (pipeline(stage(), rest="options { timeout(time: 7, unit: 'WEEKS') }"), 'not "WEEKS"'),
            (pipeline(stage(), rest="options { timeout(7, 'DAYS') }"), "Too many unnamed parameters of timeout"),
            (
                pipeline(stage(content="steps { retry('3') { echo 'x' } }")),
                'Expecting Integer for parameter "count" of retry, but got "3" of type String',
            ),
            (
                pipeline(stage(content="steps { archiveArtifacts(artifacts: 'x', fingerprint: 'true') }")),
                'Expecting Boolean for parameter "fingerprint"',
            ),
            (pipeline(stage(content="steps { script { timeout(time: '7') { echo 'x' } } }")), "Expecting Integer"),
            (pipeline(stage(), rest="options { }"), "options may not be empty"),
            (pipeline(stage(), rest="parameters { sting(name: 'x') }"), "Invalid parameter type"),
            (pipeline(stage(), rest="parameters { string(nam: 'x') }"), 'Missing required parameter: "name"'),
            (pipeline(stage(), rest="triggers { corn('x') }"), "Invalid trigger"),
            (pipeline(stage(), rest="environment { A = 1 + params.X }"), "Environment variable values must be strings"),
            (pipeline(stage(), rest="environment { A = params.X }"), "Environment variable values must be strings"),
            (pipeline(stage(), rest="environment { A = 'x'\n A = 'y' }"), 'Duplicate environment variable name: "A"'),
            (pipeline(stage(), rest="environment { echo 'x' }"), "Expected name=value pairs"),
            (pipeline(stage(content="when { beforeAgent true }\n steps { echo 'x' }")), "Empty when"),
            (
                pipeline(stage(content="when { beforeInput 'x'\n branch 'x' }\n steps { echo 'x' }")),
                "Expected a boolean",
            ),
            (pipeline(stage(content="when { expresion { true } }\n steps { echo 'x' }")), "Invalid condition of when"),
            (pipeline(stage(content="when { not { branch 'x'\n branch 'y' } }\n steps { echo 'x' }")), "not takes one"),
            (
                pipeline(stage(content="input { ok 'x' }\n steps { echo 'x' }")),
                'Missing required field of input: "message"',
            ),
            (pipeline(stage(content="input { message 'x'\n who 'y' }\n steps { echo 'x' }")), "Invalid field of input"),
            (pipeline(stage(), rest='options { lock("x-${env.A}") }'), "only params"),
            (pipeline(stage(content="input { message \"${env.A}\" }\n steps { echo 'x' }")), "only params"),
            (pipeline(stage(content="steps { script { [1].each(x -> x) } }")), "lambda"),
            (
                pipeline(stage(content="steps { script { params.x.toURL().text } }")),
                'does not let a script call "toURL"',
            ),
            (pipeline(stage(content="steps { script { new File('x') } }")), "constructor"),
            (pipeline(stage()) + "echo 'x'\n", "beside pipeline only functions"),
            ("node { sh 'x' }", "0 pipeline blocks"),
            ("pipeline {", "Unexpected input"),
        ],
    )
    def test_is_what_jenkins_would_refuse(self, jenkins: Jenkins, text: str, complaint: str) -> None:
        assert complaint in "\n".join(jenkins.complaints(text))

    @pytest.mark.parametrize(
        "text",
        [
            "def label = 'a'\n" + pipeline(stage()),
            pipeline(stage(content="options { withCredentials([]) }\n steps { echo 'x' }")),
            # Only when it is run does it turn out that there is no such step.
            pipeline(stage(content="steps { ehco 'x' }")),
        ],
    )
    def test_is_nothing_that_jenkins_takes(self, jenkins: Jenkins, text: str) -> None:
        assert jenkins.complaints(text) == []

    def test_names_the_line(self, jenkins: Jenkins) -> None:
        assert jenkins.complaints(
            "pipeline {\n    agent none\n    foo {\n    }\n    stages {\n" + stage() + "}\n}\n"
        ) == ['line 3: Undefined section "foo"']

    def test_a_shell_script_that_is_put_together_is_told_from_one_that_is_not(self, jenkins: Jenkins) -> None:
        put = ['"echo ${params.X}"', "'echo ' + params.X", "params.X", 'script: "${X}", returnStdout: true']
        plain = ["'echo $X'", "'''echo $X'''", "script: 'x', returnStatus: true", '"echo"']
        for texts, constant in ((put, False), (plain, True)):
            for text in texts:
                found = jenkins.shells(pipeline(stage(content=f"steps {{ sh({text}) }}")))
                assert [each["constant"] for each in found] == [constant], text


class TestOrder:
    WHEN = "when {{\n {before}\n expression {{ {holds} }}\n }}\n"
    ALL = (
        "agent {{ label 'a' }}\n options {{ lock('l')\n timeout(time: 1, unit: 'HOURS') }}\n input {{ message 'm' }}\n"
    )

    def ordered(self, build: Any, before: str, holds: str = "true") -> list[str]:
        content = (self.WHEN + self.ALL).format(before=before, holds=holds) + "steps { echo 'x' }"
        done = build(pipeline(stage(content=content)), inputs={"One": {"answer": "proceed", "by": "anne"}})
        assert done.result == "SUCCESS", done.log
        return done.order("when", "lock", "input", "agent", "echo")  # type: ignore[no-any-return]

    def test_a_condition_is_looked_at_last_unless_told_otherwise(self, build: Any) -> None:
        assert self.ordered(build, "") == ["lock", "input", "agent", "when", "echo"]

    def test_before_agent(self, build: Any) -> None:
        assert self.ordered(build, "beforeAgent true") == ["lock", "input", "when", "agent", "echo"]

    def test_before_input_is_before_the_agent_as_well(self, build: Any) -> None:
        assert self.ordered(build, "beforeInput true") == ["lock", "when", "input", "agent", "echo"]

    def test_before_options_is_before_all(self, build: Any) -> None:
        assert self.ordered(build, "beforeOptions true") == ["when", "lock", "input", "agent", "echo"]

    def test_a_condition_that_does_not_hold_spares_what_comes_after_it(self, build: Any) -> None:
        assert self.ordered(build, "", "false") == ["lock", "input", "agent", "when"]
        assert self.ordered(build, "beforeAgent true", "false") == ["lock", "input", "when"]
        assert self.ordered(build, "beforeInput true", "false") == ["lock", "when"]
        assert self.ordered(build, "beforeOptions true", "false") == ["when"]

    def test_false_is_as_not_said(self, build: Any) -> None:
        assert self.ordered(build, "beforeAgent false", "false") == ["lock", "input", "agent", "when"]

    def test_options_are_around_each_other_as_written(self, build: Any) -> None:
        done = build(pipeline(stage(content="agent any\n options { lock('a')\n lock('b') }\n steps { sh 'true' }")))
        assert done.of("sh")[0]["locks"] == ["a", "b"]


class TestConditions:
    @pytest.mark.parametrize(
        ("condition", "runs"),
        [
            ("expression { params.X == 'a' }", True),
            ("equals expected: 'a', actual: params.X", True),
            ("equals expected: 'b', actual: params.X", False),
            ("environment name: 'X', value: 'a'", True),
            ("branch 'main'", True),
            ("not { branch 'main' }", False),
            ("anyOf { branch 'x'\n branch 'main' }", True),
            ("allOf { branch 'x'\n branch 'main' }", False),
            ("branch 'main'\n expression { false }", False),
        ],
    )
    def test_decide_whether_a_stage_runs(self, build: Any, condition: str, runs: bool) -> None:
        text = pipeline(
            stage(content=f"when {{ {condition} }}\n steps {{ echo 'x' }}\n post {{ always {{ echo 'post' }} }}"),
            rest="parameters { string(name: 'X', defaultValue: 'a') }",
        )
        done = build(text, environment={"BRANCH_NAME": "main"})
        assert (done.stages == ["One"]) is runs
        # A stage that is skipped has no post either.
        assert len(done.of("echo")) == (2 if runs else 0)


class TestEnvironment:
    def test_of_a_stage_ends_with_it_and_hides_that_of_the_pipeline(self, build: Any) -> None:
        one = stage("One", "agent any\n environment { A = 'stage'\n B = \"${A}-b\" }\n steps { sh 'echo $A $B $C' }")
        two = stage("Two", "agent any\n steps { sh 'echo $A $B $C' }")
        done = build(pipeline(one + two, rest="environment { A = 'pipeline'\n C = 'c' }"))
        assert [each["output"] for each in done.of("sh")] == ["stage stage-b c\n", "pipeline c\n"]

    def test_holds_the_parameters_and_what_scripts_assigned(self, build: Any) -> None:
        text = pipeline(
            stage("One", 'steps { script { env.Y = "${params.X}y" } }')
            + stage("Two", "agent any\n steps { sh 'echo $X $Y $STAGE_NAME' }"),
            rest="parameters { string(name: 'X', defaultValue: 'x', trim: true)\n booleanParam(name: 'Z') }",
        )
        assert build(text).of("sh")[0]["output"] == "x xy Two\n"
        assert build(text, {"X": " a b "}).of("sh")[0]["output"] == "a b a by Two\n"

    def test_withenv_expands_variables_and_a_parameter_does_not(self, build: Any) -> None:
        steps = 'sh \'echo "$X"\'\n withEnv(["Y=${params.X}"]) { sh \'echo "$Y"\' }'
        text = pipeline(stage(content=f"agent any\n steps {{ {steps} }}"), rest="parameters { string(name: 'X') }")
        done = build(text, {"X": "$HOME-$none"}, environment={"HOME": "/h"})
        assert [each["output"] for each in done.of("sh")] == ["$HOME-$none\n", "/h-$none\n"]

    def test_credentials_are_there_within_their_block_only(self, build: Any) -> None:
        steps = "withCredentials([string(credentialsId: 'id', variable: 'V')]) { sh 'echo $V' }\n sh 'echo $V'"
        text = pipeline(stage(content=f"agent any\n steps {{ {steps} }}"))
        done = build(text, credentials={"id": {"kind": "string", "value": "v"}})
        assert [each["output"] for each in done.of("sh")] == ["v\n", "\n"]
        assert "Could not find credentials entry with ID 'id'" in str(build(text).error)

    def test_credentials_may_stand_in_an_environment(self, build: Any) -> None:
        text = pipeline(stage(content="agent any\n environment { V = credentials('id') }\n steps { sh 'echo $V' }"))
        done = build(text, credentials={"id": {"kind": "string", "value": "v"}})
        assert done.of("sh")[0]["output"] == "v\n"


class TestAgents:
    @pytest.mark.parametrize("step", ["sh 'true'", "junit 'x.xml'", "fileExists 'x'", "deleteDir()"])
    def test_without_one_there_are_no_files_and_no_shell(self, build: Any, step: str) -> None:
        done = build(pipeline(stage(content=f"steps {{ {step} }}")))
        assert done.result == "FAILURE"
        assert "needs an agent" in done.error

    def test_a_post_of_the_pipeline_has_none_where_the_pipeline_has_none(self, build: Any) -> None:
        done = build(pipeline(stage(), rest="post { always { sh 'true' } }"))
        assert (done.result, len(done.of("sh"))) == ("FAILURE", 0)

    def test_a_file_of_a_credential_needs_one(self, build: Any) -> None:
        steps = "withCredentials([file(credentialsId: 'id', variable: 'V')]) { echo 'x' }"
        done = build(
            pipeline(stage(content=f"steps {{ {steps} }}")), credentials={"id": {"kind": "file", "value": "/f"}}
        )
        assert done.result == "FAILURE"

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        """A git repository with one file."""
        source = tmp_path / "source"
        source.mkdir()
        (source / "file").write_text("content\n")
        commit_all(source, "As it began")
        return source

    def test_two_of_them_share_no_files_and_both_have_the_checkout(self, build: Any, source: Path) -> None:
        one = stage("One", "agent { label 'a' }\n steps { sh 'cat file; touch made' }")
        two = stage("Two", "agent { label 'b' }\n steps { sh 'cat file; ls' }")
        done = build(pipeline(one + two), checkout=str(source))
        assert [each["output"] for each in done.of("sh")] == ["content\n", "content\nfile\n"]

    def test_each_has_the_newest_commit_when_its_stage_begins(self, build: Any, source: Path) -> None:
        push = f"cd {source} && echo changed > file && {GIT} commit -qam Changed"
        one = stage("One", "agent { label 'a' }\n steps { sh 'cat file' }")
        two = stage("Two", "agent { label 'b' }\n steps { sh 'cat file' }")
        done = build(pipeline(one + two), checkout=str(source), meanwhile={"Two": push})
        assert [each["output"] for each in done.of("sh")] == ["content\n", "changed\n"]

    def test_a_workspace_is_kept_from_build_to_build(self, build: Any, source: Path) -> None:
        text = pipeline(stage(content="agent { label 'a' }\n steps { sh 'ls; touch left' }"))
        outputs = [build(text, checkout=str(source)).of("sh")[0]["output"] for _ in range(2)]
        assert outputs == ["file\n", "file\nleft\n"]

    def test_a_stage_checks_nothing_out_where_it_is_told_not_to(self, build: Any, source: Path) -> None:
        steps = "sh 'ls'\n script { def found = checkout(scm)\n echo found.GIT_COMMIT }\n sh 'ls'"
        text = pipeline(stage(content=f"agent any\n steps {{ {steps} }}"), rest="options { skipDefaultCheckout() }")
        done = build(text, checkout=str(source))
        assert [each["output"] for each in done.of("sh")] == ["", "file\n"]
        assert done.of("echo")[0]["message"] == done.of("checkout")[0]["commit"]

    def test_a_script_may_take_one_for_a_while(self, build: Any) -> None:
        steps = "script { node('a') { sh 'true' }\n sleep(time: 1, unit: 'HOURS') }"
        done = build(pipeline(stage(content=f"steps {{ {steps} }}")))
        assert done.order("agent", "sh", "released", "sleep") == ["agent", "sh", "released", "sleep"]
        assert done.of("sleep")[0]["nodes"] == []

    def test_is_given_back_when_the_stage_ends_also_after_a_failure(self, build: Any) -> None:
        done = build(pipeline(stage(content="agent { label 'a' }\n steps { sh 'false' }")))
        assert done.order("agent", "failed", "released") == ["agent", "released", "failed"]


class TestFailure:
    def test_of_a_script_ends_its_stage_and_skips_all_later_ones(self, build: Any) -> None:
        done = build(pipeline(stage("One", "agent any\n steps { sh 'exit 3'\n echo 'never' }") + stage("Two")))
        assert (done.result, done.error) == ("FAILURE", "script returned exit code 3")
        assert done.stages == ["One"]
        assert done.of("stage", status="skipped") == [
            {"kind": "stage", "stage": "Two", "status": "skipped", "why": "failure"}
        ]
        assert done.of("echo") == []

    def test_is_no_failure_where_the_status_is_asked_for(self, build: Any) -> None:
        steps = "script { int code = sh(script: 'exit 3', returnStatus: true)\n echo \"${code}\" }"
        done = build(pipeline(stage(content=f"agent any\n steps {{ {steps} }}")))
        assert (done.result, done.of("echo")[0]["message"]) == ("SUCCESS", "3")

    def test_any_command_of_a_script_that_fails_ends_it(self, build: Any) -> None:
        done = build(pipeline(stage(content="agent any\n steps { sh 'false\\necho after' }")))
        assert "after" not in done.of("sh")[0]["output"]

    def test_an_output_asked_for_is_returned_whole(self, build: Any) -> None:
        steps = "script { env.X = sh(script: 'echo a; echo b', returnStdout: true).trim()\n echo \"${env.X}\" }"
        assert build(pipeline(stage(content=f"agent any\n steps {{ {steps} }}"))).of("echo")[0]["message"] == "a\nb"

    def test_nested_stages_are_skipped_and_fail_with_their_parent(self, build: Any) -> None:
        inner = stage("Inner", "steps { error 'broken' }") + stage("Later")
        done = build(pipeline(stage("Outer", f"stages {{ {inner} }}") + stage("Last")))
        assert done.stages == ["Outer", "Inner"]
        assert [each["stage"] for each in done.of("stage", status="skipped")] == ["Later", "Last"]
        assert done.error == "broken"

    def test_a_restart_leaves_out_the_stages_before(self, build: Any) -> None:
        done = build(pipeline(stage("One") + stage("Two") + stage("Three")), restart={"stage": "Two"})
        assert done.stages == ["Two", "Three"]

    def test_a_restart_takes_along_what_scripts_assigned_to_the_environment(self, build: Any) -> None:
        text = pipeline(stage("One", "steps { script { env.X = 'old' } }") + stage("Two", 'steps { echo "${env.X}" }'))
        restarted = build(text, restart={"stage": "Two", "variables": build(text).variables})
        assert restarted.of("echo")[0]["message"] == "old"

    def test_a_restart_can_be_forbidden(self, build: Any) -> None:
        text = pipeline(stage("One") + stage("Two"), rest="options { disableRestartFromStage() }")
        done = build(text, restart={"stage": "Two"})
        assert (done.stages, done.error) == ([], "Restart from Stage is disabled")

    def test_a_step_that_there_is_not_fails_its_stage(self, build: Any) -> None:
        done = build(pipeline(stage(content="steps { ehco 'x' }")))
        assert (done.result, done.error) == ("FAILURE", "No such DSL method 'ehco' found among steps")

    def test_an_argument_of_another_type_fails_its_stage(self, build: Any) -> None:
        done = build(pipeline(stage(content="steps { script { def t = '7'\n timeout(time: t) { echo 'x' } } }")))
        assert done.error == 'Expecting Integer for parameter "time" of timeout, but got "7" of type String'

    def test_a_build_that_is_stopped_ends_as_aborted(self, build: Any) -> None:
        text = pipeline(
            stage(content="agent any\n steps { sh 'true'\n sh 'sleep 9' }"), rest="post { aborted { echo 'x' } }"
        )
        done = build(text, abort="sleep", startedBy="anne")
        assert (done.result, done.error, len(done.of("sh")), len(done.of("echo"))) == (
            "ABORTED",
            "Aborted by anne",
            1,
            1,
        )

    def test_a_build_knows_who_started_it(self, build: Any) -> None:
        steps = "script { echo \"${currentBuild.getBuildCauses('hudson.model.Cause$UserIdCause')*.userId}\" }"
        text = pipeline(stage(content=f"steps {{ {steps} }}"))
        assert build(text, startedBy="anne").of("echo")[0]["message"] == "[anne]"
        assert build(text).of("echo")[0]["message"] == "[]"


class TestPost:
    ALL = "post {{\n {} \n}}".format(
        "\n".join(
            f"{name} {{ echo '{name}' }}"
            for name in (
                "cleanup",
                "success",
                "unstable",
                "failure",
                "aborted",
                "unsuccessful",
                "fixed",
                "regression",
                "changed",
                "always",
            )
        )
    )

    def conditions(self, build: Any, steps: str, before: str) -> list[str]:
        done = build(pipeline(stage(content=f"agent any\n steps {{ {steps} }}"), rest=self.ALL), previousResult=before)
        return [each["condition"] for each in done.of("post")]

    def test_conditions_come_in_jenkinss_order_whatever_the_file_says(self, build: Any) -> None:
        assert self.conditions(build, "echo 'x'", "SUCCESS") == ["always", "success", "cleanup"]
        assert self.conditions(build, "error 'x'", "SUCCESS") == [
            "always", "changed", "regression", "failure", "unsuccessful", "cleanup",
        ]  # fmt: skip
        assert self.conditions(build, "echo 'x'", "FAILURE") == ["always", "changed", "fixed", "success", "cleanup"]
        assert self.conditions(build, "unstable 'x'", "UNSTABLE") == ["always", "unstable", "unsuccessful", "cleanup"]

    def test_of_a_stage_comes_before_the_next_stage_and_on_its_agent(self, build: Any) -> None:
        one = stage("One", "agent any\n steps { sh 'false' }\n post { failure { sh 'echo x' } }")
        done = build(pipeline(one, rest="post { failure { echo 'pipeline' } }"))
        assert done.order("sh", "post", "released", "echo") == ["sh", "post", "sh", "released", "post", "echo"]

    def test_that_fails_fails_the_build(self, build: Any) -> None:
        one = stage("One", "steps { echo 'x' }\n post { always { error 'in post' } }")
        done = build(pipeline(one + stage("Two")))
        assert (done.result, done.error, done.stages) == ("FAILURE", "in post", ["One"])


class TestInput:
    TEXT = pipeline(
        stage(
            "Ask",
            "agent any\n options { timeout(time: 1) }\n steps { sh 'echo $BY' }\n"
            "input { message 'm'\n submitter 'team'\n submitterParameter 'BY' }",
        )
        + stage("After")
    )

    def test_goes_on_when_answered_and_says_who_did(self, build: Any) -> None:
        done = build(self.TEXT, inputs={"Ask": {"answer": "proceed", "by": "team"}})
        assert done.of("sh")[0]["output"] == "team\n"
        assert done.of("input")[0]["nodes"] == []

    def test_ends_the_build_as_aborted_when_refused(self, build: Any) -> None:
        done = build(self.TEXT, inputs={"Ask": {"answer": "abort", "by": "team"}})
        assert (done.result, done.stages) == ("ABORTED", [])

    def test_ends_the_build_as_aborted_when_nobody_answers_in_time(self, build: Any) -> None:
        done = build(self.TEXT)
        assert (done.result, done.of("agent")) == ("ABORTED", [])

    def test_that_nothing_ends_is_a_fault_of_the_pipeline(self, build: Any) -> None:
        with pytest.raises(RuntimeError, match="no timeout ends it"):
            build(pipeline(stage(content="input { message 'm' }\n steps { echo 'x' }")))

    def test_as_a_step_returns_who_answered(self, build: Any) -> None:
        step = "input(message: 'm', submitter: 'team', submitterParameter: 'BY')"
        text = pipeline(stage("Ask", f"options {{ timeout(time: 1) }}\n steps {{ script {{ echo {step} }} }}"))
        done = build(text, inputs={"Ask": {"answer": "proceed", "by": "anne"}}, groups={"team": ["anne"]})
        assert done.of("echo")[0]["message"] == "anne"

    def test_is_answered_by_the_submitter_only(self, build: Any) -> None:
        with pytest.raises(RuntimeError, match="eve may not answer"):
            build(self.TEXT, inputs={"Ask": {"answer": "proceed", "by": "eve"}})


class TestFiles:
    def test_a_test_that_failed_makes_the_build_unstable(self, build: Any) -> None:
        steps = "sh 'echo \"<testsuite><failure/></testsuite>\" > t.xml'\n junit 't.xml'"
        assert build(pipeline(stage(content=f"agent any\n steps {{ {steps} }}"))).result == "UNSTABLE"

    def test_reports_and_artifacts_must_be_there_unless_they_need_not(self, build: Any) -> None:
        for step in ("junit('x.xml')", "archiveArtifacts('x/**')"):
            assert build(pipeline(stage(content=f"agent any\n steps {{ {step} }}"))).result == "FAILURE"
        for step in ("junit(testResults: 'x', allowEmptyResults: true)",
                     "archiveArtifacts(artifacts: 'x', allowEmptyArchive: true)"):  # fmt: skip
            assert build(pipeline(stage(content=f"agent any\n steps {{ {step} }}"))).result == "SUCCESS"

    def test_artifacts_are_what_the_pattern_says(self, build: Any) -> None:
        steps = "sh 'mkdir -p a/b; touch a/x a/b/y z'\n archiveArtifacts(artifacts: 'a/**', fingerprint: true)"
        archived = build(pipeline(stage(content=f"agent any\n steps {{ {steps} }}"))).of("archive")[0]
        assert (archived["files"], archived["fingerprint"]) == (["a/b/y", "a/x"], True)

    def test_a_stash_brings_files_to_another_agent(self, build: Any) -> None:
        one = stage("One", "agent { label 'a' }\n steps { sh 'echo x > f'\n stash(name: 's', includes: 'f') }")
        two = stage("Two", "agent { label 'b' }\n steps { unstash 's'\n sh 'cat f' }")
        assert build(pipeline(one + two)).of("sh")[1]["output"] == "x\n"


class TestLock:
    def test_is_held_for_its_block_and_waited_for_without_an_agent(self, build: Any) -> None:
        text = pipeline(
            stage(content="agent any\n options { lock(\"l-${params.X}\") }\n steps { sh 'true' }"),
            rest="parameters { string(name: 'X', defaultValue: 'x') }",
        )
        done = build(text, locked=["l-x"])
        assert done.order("waits", "lock", "agent", "sh", "released", "unlock") == [
            "waits", "lock", "agent", "sh", "released", "unlock",
        ]  # fmt: skip
        assert done.of("waits")[0]["nodes"] == []
