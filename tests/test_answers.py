"""What may be answered: each rule, the sentence a user reads when it is broken, and the value suggested instead."""

from typing import Any

import pytest
from pre_gen_project import FIELDS, LONGEST_MODEL_NAME, block, find_faults
from rendered import CHOICES, DEFAULTS, ROOT

pytestmark = pytest.mark.unit

EMOJI = "\N{GRINNING FACE}"

BROKEN = [
    # question, answer, the sentence or its telling part, what is suggested
    ("model_name", "Digits", "It may hold only lower-case letters, digits and single hyphens", "digits"),
    ("model_name", "digits_v2", "It may hold only lower-case letters, digits and single hyphens", "digits-v2"),
    ("model_name", "digits--v2", "It may hold only lower-case letters, digits and single hyphens", "digits-v2"),
    ("model_name", "-digits-", "It may hold only lower-case letters, digits and single hyphens", "digits"),
    ("model_name", "3d-digits", "and starts with a letter", "model-3d-digits"),
    ("model_name", "team/digits", "It may hold only lower-case letters, digits and single hyphens", "team-digits"),
    ("model_name", "Gemüse & Obst", "It may hold only lower-case letters, digits and single hyphens", "gemuese-obst"),
    ("model_name", "", "It may hold only lower-case letters, digits and single hyphens", "digits-classifier"),
    ("model_name", EMOJI, "It may hold only lower-case letters, digits and single hyphens", "digits-classifier"),
    ("model_name", "d", "It must have 2 to 40 characters", "model-d"),
    ("model_name", "d" * 41, "It must have 2 to 40 characters", "d" * 40),
    ("model_name", "digits-ghost", 'It may not be "ghost" or end in "-ghost"', "digits"),
    ("model_name", "ghost", 'It may not be "ghost" or end in "-ghost"', "digits-classifier"),
    ("model_name", "digits-staging", 'It may not end in "-staging"', "digits"),
    ("model_name", "null", "It may not be a word that YAML reads as true, false or nothing", "model-null"),
    ("description", "", "It may not be empty", DEFAULTS["description"]),
    ("description", "  ", "It may not be empty", DEFAULTS["description"]),
    ("description", "d" * 201, "It must have at most 200 characters", "d" * 200),
    ("description", "two\nlines", "It must be one line of printable text", "two lines"),
    ("description", "a\ttab", "It must be one line of printable text", "a tab"),
    ("description", "a bell\a", "It must be one line of printable text", "a bell"),
    ("description", "two\u2028lines", "It must be one line of printable text", "two lines"),
    ("description", "turned \u202e round", "It must be one line of printable text", "turned round"),
    ("description", "no UTF-8: \udcff", "bytes that are not UTF-8", "no UTF-8:"),
    ("description", " digits ", "It may not start or end with a space", "digits"),
    ("owning_team", "Data & AI", "It may hold only lower-case letters, digits and single hyphens", "data-ai"),
    ("owning_team", "t" * 64, "It must have at most 63 characters, as a Kubernetes label", "t" * 63),
    ("owning_team", "no", "It may not be a word that YAML reads as true, false or nothing", "team-no"),
    ("aws_region", "Frankfurt", "It must be the code of an AWS region", "eu-central-1"),
    ("aws_region", "us-west-2a", "It must be the code of an AWS region", "us-west-2"),
    ("aws_region", "US_GOV_WEST_1", "It must be the code of an AWS region", "us-gov-west-1"),
    ("artifact_bucket", "s3://models/digits", "no s3://, no folder", "models"),
    ("artifact_bucket", "My_Bucket", "It must be the bare name of an S3 bucket", "my-bucket"),
    ("artifact_bucket", "ab", "It must have 3 to 63 characters", "ab-artifacts"),
    ("artifact_bucket", "b" * 64, "It must have 3 to 63 characters", "b" * 63),
    ("artifact_bucket", "my..bucket", "It may not hold two dots in a row", "my-bucket"),
    ("artifact_bucket", "10.0.0.1", "It may not look like an IP address", "ml-10-0-0-1"),
    ("artifact_bucket", "xn--models", "S3 keeps these for itself", "xn-models"),
    ("artifact_bucket", "models-s3alias", "S3 keeps these for itself", "models"),
    ("container_registry", "https://ghcr.io/acme", "no https://", "ghcr.io/acme"),
    ("container_registry", "ghcr.io/acme/", "no slash at the end", "ghcr.io/acme"),
    ("container_registry", "ghcr.io/acme:latest", "no tag", "ghcr.io/acme"),
    ("container_registry", "ghcr.io/Acme", "all lower case", "ghcr.io/acme"),
    ("container_registry", "", "It must be a host", "registry.example.com/ml"),
    ("container_registry", "acme", "Docker takes any other first part for a user of Docker Hub", "docker.io/acme"),
    ("container_registry", f"r.io/{'a' * 210}", "It must have at most 214 characters", "registry.example.com/ml"),
    (
        "batch_job_queue",
        "arn:aws:batch:eu-central-1:123456789012:job-queue/gpu",
        "It must be the name of an AWS Batch job queue, not its ARN",
        "gpu",
    ),
    ("batch_job_queue", "my queue", "letters, digits, hyphens and underscores", "my-queue"),
    ("batch_job_queue", "q" * 129, "It must have at most 128 characters", "q" * 128),
    ("kubernetes_namespace", "Models", "It may hold only lower-case letters, digits and hyphens", "models"),
    ("kubernetes_namespace", "n" * 64, "It must have at most 63 characters", "n" * 63),
    ("kubernetes_namespace", "kube-system", 'It may not start with "kube-"', "system"),
    ("kubernetes_namespace", "off", "It may not be a word that YAML reads as true, false or nothing", "ml-off"),
]

ALLOWED = [
    ("model_name", "ab"),
    ("model_name", "resnet50-v2"),
    ("model_name", "m" * 40),
    ("description", 'Says "hi", \\o/, 100 % <b>, ${HOME}, {{ x }}, << y >>, <% if %>, <# z #>, `code`, #1'),
    ("description", f"Erkennt Gemüse {EMOJI} für 中文 und עברית"),
    ("owning_team", "t"),
    ("aws_region", "us-gov-west-1"),
    ("aws_region", "eusc-de-east-1"),
    ("aws_region", "ap-southeast-2"),
    ("artifact_bucket", "models.example.com"),
    ("container_registry", "localhost:5000"),
    ("container_registry", "localhost/ml"),
    ("container_registry", "registry.example.com:5000/ml/team__a"),
    ("batch_job_queue", "GPU_queue-1"),
    ("kubernetes_namespace", "2024-models"),
]


def fault_of(question: str, answer: object) -> Any:
    faults = find_faults(DEFAULTS | {question: answer})
    assert [fault.field for fault in faults] == [question]
    return faults[0]


@pytest.mark.parametrize(("question", "answer", "sentence", "suggestion"), BROKEN)
def test_an_answer_that_breaks_a_rule_is_refused_by_name_with_the_reason_and_a_better_one(
    question: str, answer: str, sentence: str, suggestion: str
) -> None:
    fault = fault_of(question, answer)
    assert any(sentence in reason for reason in fault.reasons)
    assert fault.suggestion == suggestion
    text = " ".join(block([fault]).split())
    assert f"{question} is " in text
    assert " ".join(sentence.split()) in text
    assert f"Try: {suggestion}" in text


def test_every_rule_of_every_question_is_broken_by_one_of_the_answers_above() -> None:
    broken = {
        (question, rule.sentence)
        for question, answer, _, _ in BROKEN
        for rule in FIELDS[question].rules
        if rule.broken(answer)
    }
    assert broken == {(question, rule.sentence) for question, field in FIELDS.items() for rule in field.rules}


@pytest.mark.parametrize(("question", "answer"), ALLOWED)
def test_an_answer_that_every_place_takes_is_allowed(question: str, answer: str) -> None:
    assert find_faults(DEFAULTS | {question: answer}) == []


def test_the_defaults_are_allowed() -> None:
    assert find_faults(DEFAULTS) == []


def test_every_question_has_rules_or_choices() -> None:
    assert set(FIELDS) | set(CHOICES) == set(DEFAULTS)


NASTY = ["", " ", "-", ".", "..", "/", "a/b", "../x", "~", "'", '"', "\\", "\0", "\n", "$(x)", "<<", "%", "ÄÖÜß", EMOJI]
NASTY += [
    "x" * 300,
    "-" * 300,
    "1",
    "ghost-ghost",
    "-ghost",
    "kube-",
    "kube-kube-system",
    "xn--",
    "s3://",
    "null",
    "NO",
]
NASTY += [
    "a" * 39 + "-b",
    "a" * 34 + "-ghost",
    "a-ghost-staging",
    "a-staging-ghost",
    "xn--xn--a",
    "a-s3alias-s3alias",
    "kube-off",
    "a@b",
    "ghcr.io:x",
    "::1",
]
NASTY += [
    "x" * 60 + "-no",
    "docker.io//x",
    "\udcff",
    "\u202e",
    "kube-no-ghost",
    "9" * 70,
    "a." * 200,
    "amzn-s3-demo-xn--",
]


@pytest.mark.parametrize("question", FIELDS)
def test_what_is_suggested_is_itself_allowed(question: str) -> None:
    for answer in NASTY + [answer for _, answer, _, _ in BROKEN]:
        for fault in find_faults(DEFAULTS | {question: answer}):
            assert find_faults(DEFAULTS | {question: fault.suggestion}) == [], answer


def test_an_answer_that_is_no_text_is_refused() -> None:
    assert fault_of("owning_team", None).reasons == ("It must be text.",)


def test_a_name_of_forty_characters_leaves_room_for_the_ghosts_pods() -> None:
    pod = "m" * LONGEST_MODEL_NAME + "-ghost" + "-" + "5" * 10 + "-" + "x" * 5
    assert len(pod) <= 63


def test_the_message_is_a_frame_of_79_columns_that_shows_what_does_not_print() -> None:
    message = block(find_faults(DEFAULTS | {"description": "bell \a, " + "d" * 300, "owning_team": "\udcff"}))
    lines = message.strip().splitlines()
    assert lines[0] == lines[-1] == "=" * 79
    assert lines[1] == " 2 answers cannot be used. Nothing was written."
    assert "\a" not in message
    assert ' description is "bell \\x07, ddd' in message
    assert ' owning_team is "\\udcff".' in message
    assert all(len(line) <= 79 for line in lines if not line.startswith("   Try:"))


def test_the_hooks_use_the_standard_library_alone() -> None:
    import ast
    import sys

    for hook in (ROOT / "hooks").glob("*.py"):
        for node in ast.walk(ast.parse(hook.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names
