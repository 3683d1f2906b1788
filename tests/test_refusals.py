"""What a user sees and keeps when answers are refused, with cookiecutter and with cruft."""

import shutil
from pathlib import Path

import pytest
from rendered import DEFAULTS, commit_all, cookiecutter, cruft

pytestmark = pytest.mark.render


def left_behind(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*"))


def test_all_faults_are_told_at_once_in_one_block_above_cookiecutters_own_log(template: Path, tmp_path: Path) -> None:
    answers = {"model_name": "Digits_V2", "aws_region": "Frankfurt", "batch_job_queue": "my queue"}
    result = cookiecutter(template, tmp_path, answers)
    assert result.returncode == 1
    block, log = result.stdout.split("\n\nERROR: Stopping generation", 1)
    assert (
        block
        == """
===============================================================================
 3 answers cannot be used. Nothing was written.

 model_name is "Digits_V2".
   It may hold only lower-case letters, digits and single hyphens between
   them, and starts with a letter: it becomes the name of the Kubernetes
   deployment, of the image, of the AWS Batch job definition and of the
   Datadog service.
   Try: digits-v2

 aws_region is "Frankfurt".
   It must be the code of an AWS region: letters, parts and a number
   joined by hyphens, as "eu-central-1" or "us-gov-west-1".
   Try: eu-central-1

 batch_job_queue is "my queue".
   It must be the name of an AWS Batch job queue, not its ARN: letters,
   digits, hyphens and underscores, starting with a letter or digit.
   Try: my-queue

 Run the same command again with other answers. Everything below this frame
 is cookiecutter's own log of the failure; it adds nothing.
==============================================================================="""
    )
    # The traceback is cookiecutter's; none of its lines is in a hook of ours.
    assert "hooks.py" in log
    assert "gen_project.py" not in log
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize(
    "name", ["a/b/c", "../beside", "{tmp}/absolute", "", ".", "..", "~", "a b", "<<", "<% x", "\udcff"]
)
def test_whatever_the_name_nothing_is_left_on_disk(name: str, template: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.mkdir()
    result = cookiecutter(template, output, {"model_name": name.format(tmp=tmp_path)})
    assert result.returncode == 1
    assert "One answer cannot be used. Nothing was written." in result.stdout
    assert "Try: " in result.stdout
    assert left_behind(tmp_path) == ["output"]


def test_a_folder_that_is_there_already_is_left_as_it_is(template: Path, tmp_path: Path) -> None:
    (tmp_path / "digits-classifier").mkdir()
    (tmp_path / "digits-classifier" / "mine.txt").write_text("mine", encoding="utf-8")
    result = cookiecutter(template, tmp_path, {})
    assert result.returncode == 1
    assert 'digits-classifier" directory already exists' in result.stdout
    assert left_behind(tmp_path) == ["digits-classifier", "digits-classifier/mine.txt"]


def test_a_choice_that_is_not_offered_is_refused_with_the_choices(template: Path, tmp_path: Path) -> None:
    # cookiecutter itself refuses this one, before any hook: its message is the last line.
    result = cookiecutter(template, tmp_path, {"training_device": "tpu"})
    assert result.returncode == 1
    last = result.stdout.strip().splitlines()[-1]
    assert last.endswith("tpu provided for choice variable training_device, but the choices are ['gpu', 'cpu'].")
    assert left_behind(tmp_path) == []


def test_answers_typed_at_the_prompts_are_checked_the_same(template: Path, tmp_path: Path) -> None:
    typed = "\nMy Model\n<< cookiecutter.nothing\n" + "\n" * (len(DEFAULTS) - 3)
    result = cookiecutter(template, tmp_path, {}, typed=typed)
    assert result.returncode == 1
    assert "[2/11] Model name" in result.stdout
    assert 'model_name is "My Model".' in result.stdout
    assert "One answer cannot be used" in result.stdout
    assert left_behind(tmp_path) == []


def test_cruft_refuses_with_the_same_block_and_leaves_nothing(template: Path, tmp_path: Path) -> None:
    source = tmp_path / "template"
    shutil.copytree(template, source)
    commit_all(source, "The template")
    output = tmp_path / "output"
    output.mkdir()
    result = cruft(output, "create", str(source), "--no-input", "--extra-context", '{"model_name": "a/B"}')
    assert result.returncode == 1
    assert 'model_name is "a/B".' in result.stdout
    assert result.stdout.index("Try: a-b") < result.stdout.index("Traceback")
    assert left_behind(output) == []
