"""Green on the first day, whatever was chosen: every linter over every combination, what is the same only once."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from aws import job_definition
from boto3.session import Session
from botocore.validate import ParamValidator
from markdown_it import MarkdownIt
from matrix import Matrix, Variant
from pipeline import lint
from rendered import commit_all, git


def run(program: str, *arguments: str | Path, directory: Path | None = None) -> str:
    """Output of a program of this environment; the test fails with it if the program does."""
    command = [str(Path(sys.executable).with_name(program)), *map(str, arguments)]
    result = subprocess.run(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert result.returncode == 0, result.stdout
    return result.stdout


@pytest.mark.render
class TestLinters:
    def test_ruff_has_no_finding_and_leaves_git_clean(self, matrix: Matrix, tmp_path: Path) -> None:
        for number, variant in enumerate(
            matrix.each("ruff; git clean after it", "*.py", "pyproject.toml", ".gitignore")
        ):
            repository = tmp_path / str(number)
            shutil.copytree(variant.path, repository)
            commit_all(repository, "As rendered")
            run("ruff", "format", ".", directory=repository)
            run("ruff", "check", "--fix", ".", directory=repository)
            assert git(repository, "status", "--porcelain", "--untracked-files=all") == ""

    def test_hadolint_has_no_finding(self, matrix: Matrix) -> None:
        for variant in matrix.each("hadolint", "docker/*"):
            dockerfiles = list((variant.path / "docker").glob("*.Dockerfile"))
            assert len(dockerfiles) == 3
            run("hadolint", *dockerfiles)

    def test_shellcheck_has_no_finding(self, matrix: Matrix, tmp_path: Path) -> None:
        for variant in matrix.each("shellcheck", "Jenkinsfile", "*.md", "deploy/aws/stack.yaml"):
            paths = []
            for number, (kind, script) in enumerate(scripts(variant)):
                paths.append(tmp_path / f"{number}-{kind}.sh")
                paths[-1].write_text(script, encoding="utf-8")
            assert {path.stem.split("-")[1] for path in paths} == {"jenkins", "markdown", "boot"}
            assert findings(paths) == []

    def test_cfn_lint_has_no_finding(self, matrix: Matrix) -> None:
        for variant in matrix.each("cfn-lint", "deploy/aws/stack.yaml"):
            stack = variant.path / "deploy" / "aws" / "stack.yaml"
            run("cfn-lint", "--regions", variant.answers["aws_region"], "--", stack)

    def test_batch_takes_the_job_definition_by_its_own_schema(self, matrix: Matrix) -> None:
        client = Session("test", "test").client("batch", region_name="us-east-1")
        shape = client.meta.service_model.operation_model("RegisterJobDefinition").input_shape
        for variant in matrix.each("schema of AWS Batch", "deploy/aws/job-definition.json"):
            report = ParamValidator().validate(job_definition(variant.path, "image"), shape)
            assert not report.has_errors(), report.generate_report()

    def test_kustomize_builds_every_overlay(self, matrix: Matrix) -> None:
        for variant in matrix.each("kustomize", "deploy/k8s/*"):
            overlays = list((variant.path / "deploy" / "k8s" / "overlays").iterdir())
            assert overlays
            for overlay in overlays:
                assert list(yaml.safe_load_all(run("kubectl", "kustomize", overlay)))


@pytest.mark.jenkins
def test_npm_groovy_lint_has_no_finding(matrix: Matrix) -> None:
    for variant in matrix.each("npm-groovy-lint", "Jenkinsfile", ".groovylintrc.json"):
        assert lint(variant.path) == []


def findings(paths: list[Path]) -> list[str]:
    """What shellcheck finds in scripts, but for a variable that is to become no word or several."""
    # SC2154: the environment of a step is given from outside.
    command = [str(Path(sys.executable).with_name("shellcheck")), "--shell=bash", "--exclude=SC2154", "--format=json"]
    found = json.loads(subprocess.run([*command, *paths], capture_output=True, text=True).stdout)
    texts = []
    for each in found:
        line = Path(each["file"]).read_text(encoding="utf-8").splitlines()[each["line"] - 1]
        text = line[each["column"] - 1 : each["endColumn"] - 1]
        if (each["code"], text) not in {(2086, "$FORCE"), (2086, "$OTHER_PARAMETERS")}:
            texts.append(f"{line.strip()}: {text}: SC{each['code']}: {each['message']}")
    return texts


def scripts(variant: Variant) -> list[tuple[str, str]]:
    """Every shell script of a repository, in files of other kinds: steps, commands of pages, what a machine boots."""
    jenkinsfile = variant.files["Jenkinsfile"].decode()
    steps = re.findall(r"\bsh\W+(?:returnStdout: true, script: )?('''.*?'''|'[^'\n]*')", jenkinsfile, re.DOTALL)
    assert len(steps) == len(re.findall(r"\bsh[ (]", jenkinsfile))
    pages = [content.decode() for path, content in variant.files.items() if path.endswith(".md")]
    fences = [token for page in pages for token in MarkdownIt().parse(page) if token.type == "fence"]
    boot = variant.files["deploy/aws/stack.yaml"].decode()
    return [
        *(("jenkins", f"{step.strip(chr(39))}\n") for step in steps),
        *(("markdown", token.content) for token in fences if token.info in {"bash", "sh"}),
        *(("boot", f"{script}\n") for script in re.findall(r"#!/bin/bash\n.*?(?=^ *--==--)", boot, re.DOTALL | re.M)),
    ]
