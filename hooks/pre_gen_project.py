"""Validates every answer for every place where it is used, and reports all faults at once.

cookiecutter renders this file and runs it in the new, still empty folder of the rendered repository. The answers
arrive as JSON, never as Python source. If one is invalid, the hook prints one framed block to standard error and exits
with status 1; cookiecutter then deletes the folder, and logs a traceback of its own below the block.

Rules and suggestions are data (`FIELDS`), so that tests can check each suggestion against its rules.
"""

import ipaddress
import json
import os
import re
import sys
import textwrap
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass

# A Kubernetes name ends up in labels and host names, which stop at 63 characters. The longest one made from the model
# name is that of a ghost's pod: 63 - len("-ghost") - len("-" + 10 of ReplicaSet hash) - len("-" + 5 of pod suffix).
# A pod of "-staging" would be two longer: there Kubernetes cuts the hash.
LONGEST_MODEL_NAME = 40
LONGEST_LABEL = 63
LONGEST_DESCRIPTION = 200
LONGEST_QUEUE = 128
# Docker stops at 255 characters for registry and repository together.
LONGEST_IMAGE = 255

SLUG = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
REGION = re.compile(r"[a-z]{2,4}(-[a-z]+){1,2}-[1-9][0-9]?")
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]*[a-z0-9]")
QUEUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
REGISTRY_HOST = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*(:[0-9]{1,5})?")
REGISTRY_PATH = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*")
BUCKET_PREFIXES = ("xn--", "sthree-", "amzn-s3-demo-")
BUCKET_SUFFIXES = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")
# Unquoted, YAML 1.1 reads these as true, false or nothing.
YAML_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
TRANSLITERATION = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "æ": "ae", "ø": "o", "ł": "l"})


@dataclass(frozen=True)
class Rule:
    """One rule for one answer: `broken` tells whether a value violates it, `sentence` is the message for the user."""

    broken: Callable[[str], bool]
    sentence: str


@dataclass(frozen=True)
class Field:
    """All rules for one answer. `nearest` guesses the intended value from any text; `example` satisfies every rule."""

    rules: tuple[Rule, ...]
    nearest: Callable[[str], str]
    example: str

    def reasons(self, value: str) -> tuple[str, ...]:
        """The sentences of the rules that a value violates."""
        return tuple(rule.sentence for rule in self.rules if rule.broken(value))

    def suggest(self, value: str) -> str:
        """A valid value, close to `value` if possible."""
        nearest = self.nearest(value)
        return self.example if self.reasons(nearest) else nearest


@dataclass(frozen=True)
class Fault:
    """One invalid answer: its value, every reason, and a valid suggestion."""

    field: str
    value: object
    reasons: tuple[str, ...]
    suggestion: str


def slug(text: str, *, longest: int, prefix: str) -> str:
    """The nearest name of lower-case letters, digits and single hyphens, of at most `longest` characters.

    A name that starts with a digit, or that YAML would misread, gets the prefix.
    """
    plain = unicodedata.normalize("NFKD", text.lower().translate(TRANSLITERATION)).encode("ascii", "ignore").decode()
    name = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    if name[:1].isdigit() or name in YAML_WORDS:
        name = f"{prefix}-{name}"
    return name[:longest].rstrip("-")


def is_unprintable(character: str) -> bool:
    """Whether a character breaks the line, is invisible, reverses text, or is invalid in TOML, YAML or UTF-8."""
    return (
        unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}
        or unicodedata.bidirectional(character) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
        or character in "\ufeff\ufffe\uffff"
    )


def is_address(text: str) -> bool:
    """Whether a text is an IPv4 address."""
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def breaks_registry(value: str) -> bool:
    """Whether a value is not of the form `host[:port][/path]` in lower case."""
    host, *path = value.split("/")
    return not (REGISTRY_HOST.fullmatch(host) and all(REGISTRY_PATH.fullmatch(part) for part in path))


def is_docker_hub_user(value: str) -> bool:
    """Whether Docker would read the first part of a registry as a user of Docker Hub instead of a host."""
    host = value.split("/")[0]
    return not breaks_registry(value) and "." not in host and ":" not in host and host != "localhost"


def nearest_model_name(value: str) -> str:
    """The valid model name closest to `value`."""
    name = slug(value, longest=LONGEST_MODEL_NAME, prefix="model")
    name = name.removesuffix("-ghost").removesuffix("-staging")
    return name if len(name) > 1 else f"model-{name}"


def nearest_description(value: str) -> str:
    """The printable part of `value` on one line."""
    line = "".join(" " if is_unprintable(character) else character for character in value)
    return " ".join(line.split())[:LONGEST_DESCRIPTION].rstrip()


def nearest_region(value: str) -> str:
    """The region inside `value`, for example inside an availability zone."""
    region = REGION.search(re.sub(r"[\s_]+", "-", value.strip().lower()))
    return region.group() if region else ""


def nearest_bucket(value: str) -> str:
    """The bucket of an `s3://` URL, or the nearest bucket name."""
    name = slug(value.removeprefix("s3://").split("/")[0], longest=LONGEST_LABEL, prefix="ml")
    for suffix in BUCKET_SUFFIXES:
        name = name.removesuffix(suffix)
    return name if len(name) > 2 else f"{name}-artifacts"


def nearest_registry(value: str) -> str:
    """The registry inside an image name or a URL."""
    name = re.sub(r"^[a-z]+://", "", value.strip().lower()).split("@")[0].rstrip("/")
    head, slash, last = name.rpartition("/")
    name = head + slash + last.split(":")[0] if slash else name
    return f"docker.io/{name}" if is_docker_hub_user(name) else name


def nearest_queue(value: str) -> str:
    """The name at the end of a job queue's ARN, or the nearest name."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", value.rpartition("/")[2]).strip("-_")[:LONGEST_QUEUE]


def nearest_namespace(value: str) -> str:
    """The valid Kubernetes namespace closest to `value`."""
    return slug(value, longest=LONGEST_LABEL, prefix="ml").removeprefix("kube-")


FIELDS: Mapping[str, Field] = {
    "model_name": Field(
        rules=(
            Rule(
                lambda value: not SLUG.fullmatch(value),
                "It may hold only lower-case letters, digits and single hyphens between them, and starts with a letter:"
                " it becomes the name of the Kubernetes deployment, of the image, of the AWS Batch job definition and"
                " of the Datadog service.",
            ),
            Rule(
                lambda value: not 2 <= len(value) <= LONGEST_MODEL_NAME,
                f'It must have 2 to {LONGEST_MODEL_NAME} characters: Kubernetes stops at 63, and appends "-ghost", a'
                " ReplicaSet hash and a pod suffix.",
            ),
            Rule(
                lambda value: value == "ghost" or value.endswith("-ghost"),
                'It may not be "ghost" or end in "-ghost": that is the name of the ghost deployment beside a model.',
            ),
            Rule(
                lambda value: value.endswith("-staging"),
                'It may not end in "-staging": that is the name of the staging deployment of a model.',
            ),
            Rule(
                lambda value: value in YAML_WORDS,
                "It may not be a word that YAML reads as true, false or nothing.",
            ),
        ),
        nearest=nearest_model_name,
        example="digits-classifier",
    ),
    "description": Field(
        rules=(
            Rule(lambda value: not value.strip(), "It may not be empty: it heads the README and the API page."),
            Rule(
                lambda value: len(value) > LONGEST_DESCRIPTION,
                f"It must have at most {LONGEST_DESCRIPTION} characters, one sentence.",
            ),
            Rule(
                lambda value: any(is_unprintable(character) for character in value),
                "It must be one line of printable text: no line breaks, tabs, control characters, or bytes that are not"
                " UTF-8, for it is written into TOML, YAML, JSON and Markdown.",
            ),
            Rule(
                lambda value: bool(value.strip()) and value != value.strip(),
                "It may not start or end with a space.",
            ),
        ),
        nearest=nearest_description,
        example="Reads a handwritten digit from an 8x8 grey-scale image.",
    ),
    "owning_team": Field(
        rules=(
            Rule(
                lambda value: not SLUG.fullmatch(value),
                "It may hold only lower-case letters, digits and single hyphens between them, and starts with a letter:"
                " it becomes a Kubernetes label and a Datadog tag.",
            ),
            Rule(
                lambda value: len(value) > LONGEST_LABEL,
                f"It must have at most {LONGEST_LABEL} characters, as a Kubernetes label.",
            ),
            Rule(
                lambda value: value in YAML_WORDS,
                "It may not be a word that YAML reads as true, false or nothing.",
            ),
        ),
        nearest=lambda value: slug(value, longest=LONGEST_LABEL, prefix="team"),
        example="machine-learning",
    ),
    "aws_region": Field(
        rules=(
            Rule(
                lambda value: not REGION.fullmatch(value),
                'It must be the code of an AWS region: letters, parts and a number joined by hyphens, as "eu-central-1"'
                ' or "us-gov-west-1".',
            ),
        ),
        nearest=nearest_region,
        example="eu-central-1",
    ),
    "artifact_bucket": Field(
        rules=(
            Rule(
                lambda value: not BUCKET.fullmatch(value),
                "It must be the bare name of an S3 bucket: lower-case letters, digits, hyphens and dots, with a letter"
                " or digit at both ends; no s3://, no folder.",
            ),
            Rule(
                lambda value: not 3 <= len(value) <= LONGEST_LABEL,
                f"It must have 3 to {LONGEST_LABEL} characters, as S3 demands of a bucket.",
            ),
            Rule(lambda value: ".." in value, "It may not hold two dots in a row, as S3 demands of a bucket."),
            Rule(is_address, "It may not look like an IP address, as S3 demands of a bucket."),
            Rule(
                lambda value: value.startswith(BUCKET_PREFIXES) or value.endswith(BUCKET_SUFFIXES),
                "It may not start with "
                + ", ".join(BUCKET_PREFIXES)
                + " or end in "
                + ", ".join(BUCKET_SUFFIXES)
                + ": S3 keeps these for itself.",
            ),
        ),
        nearest=nearest_bucket,
        example="example-ml-artifacts",
    ),
    "container_registry": Field(
        rules=(
            Rule(
                breaks_registry,
                "It must be a host, with a port or a path if there is one, all lower case, as"
                ' "registry.example.com:5000/ml": no https://, no slash at the end, no tag.',
            ),
            Rule(
                is_docker_hub_user,
                "It must start with a host that has a dot or a port: Docker takes any other first part for a user of"
                " Docker Hub.",
            ),
            Rule(
                lambda value: len(value) > LONGEST_IMAGE - 1 - LONGEST_MODEL_NAME,
                f"It must have at most {LONGEST_IMAGE - 1 - LONGEST_MODEL_NAME} characters, so that the image's name"
                f" stays within Docker's {LONGEST_IMAGE}.",
            ),
        ),
        nearest=nearest_registry,
        example="registry.example.com/ml",
    ),
    "batch_job_queue": Field(
        rules=(
            Rule(
                lambda value: not QUEUE.fullmatch(value),
                "It must be the name of an AWS Batch job queue, not its ARN: letters, digits, hyphens and underscores,"
                " starting with a letter or digit.",
            ),
            Rule(
                lambda value: len(value) > LONGEST_QUEUE,
                f"It must have at most {LONGEST_QUEUE} characters, as AWS Batch demands.",
            ),
        ),
        nearest=nearest_queue,
        example="ml-training",
    ),
    "kubernetes_namespace": Field(
        rules=(
            Rule(
                lambda value: not LABEL.fullmatch(value),
                "It may hold only lower-case letters, digits and hyphens, with a letter or digit at both ends, as"
                " Kubernetes demands of a namespace.",
            ),
            Rule(
                lambda value: len(value) > LONGEST_LABEL,
                f"It must have at most {LONGEST_LABEL} characters, as Kubernetes demands of a namespace.",
            ),
            Rule(
                lambda value: value.startswith("kube-"),
                'It may not start with "kube-": Kubernetes keeps that for itself.',
            ),
            Rule(
                lambda value: value in YAML_WORDS,
                "It may not be a word that YAML reads as true, false or nothing.",
            ),
        ),
        nearest=nearest_namespace,
        example="ml-services",
    ),
}


def find_faults(answers: Mapping[str, object]) -> list[Fault]:
    """Every answer that violates a rule, in the order of the questions, with all its reasons."""
    faults = []
    for name, field in FIELDS.items():
        value = answers[name]
        reasons = field.reasons(value) if isinstance(value, str) else ("It must be text.",)
        if reasons:
            faults.append(Fault(name, value, reasons, field.suggest(str(value))))
    return faults


def visible(value: object) -> str:
    """A value in double quotes, shortened, with unprintable characters escaped."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value)[:60])
    return f'"{text}"' if len(text) <= 50 and len(str(value)) <= 60 else f'"{text[:47]}..."'


def block(faults: list[Fault]) -> str:
    """The message: one paragraph per fault, in a frame of 79 columns."""
    count = "One answer cannot be used" if len(faults) == 1 else f"{len(faults)} answers cannot be used"
    lines = [f" {count}. Nothing was written.", ""]
    for fault in faults:
        lines.append(f" {fault.field} is {visible(fault.value)}.")
        for reason in fault.reasons:
            lines += textwrap.wrap(reason, 74, initial_indent="   ", subsequent_indent="   ", break_on_hyphens=False)
        lines += [f"   Try: {fault.suggestion}", ""]
    lines.append(" Run the same command again with other answers. Everything below this frame")
    lines.append(" is cookiecutter's own log of the failure; it adds nothing.")
    frame = "=" * 79
    return "\n".join(["", frame, *lines, frame, ""])


def main() -> int:
    """Validate the answers. Exit status 0 if all are valid; otherwise 1, with the reasons on standard error."""
    answers = json.loads(r"""<< cookiecutter | tojson >>""")
    # A name that is not a plain folder name was replaced before the folder was created; docs/maintaining.md says why.
    faults = find_faults(answers | {"model_name": answers["__model_name_as_given"]})
    if not faults:
        return 0
    message = block(faults)
    if sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        message = f"\033[1;31m{message}\033[0m"
    print(message, file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
