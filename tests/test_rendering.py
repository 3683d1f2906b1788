"""What comes out of the template: which files, that each is valid, whose names are in it, and how it looks."""

import ast
import csv
import gzip
import io
import json
import re
import shutil
import tomllib
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatch
from html.parser import HTMLParser
from itertools import filterfalse, product, zip_longest
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Render
from detect_secrets.core.secrets_collection import SecretsCollection
from detect_secrets.settings import default_settings
from golden import CONFIGURATIONS, GOLDEN, TREE, compare, golden
from markdown_it import MarkdownIt
from matrix import Matrix
from post_gen_project import LEFT_BY_TOOLS, STARTS, UNNEEDED
from references import missing_references
from rendered import (
    CHOICES,
    COMBINATIONS,
    DEFAULTS,
    DIRECTORY,
    EXAMPLES,
    QUESTIONS,
    ROOT,
    answered,
    cookiecutter,
    files,
    sources,
)
from rendered import render as render_into

pytestmark = pytest.mark.render

COPIED = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))["_copy_without_render"]

# All that depends on a choice, but for model/, which is that of the example. What is executed in which combination
# follows from it: the tests end with a table.
DIFFERENT = {
    "README.md",
    "deploy/aws/job-definition.json",
    "deploy/aws/stack.yaml",
    "requirements/training-gpu.in",
    "requirements/training-gpu.txt",
    "service.toml",
}
# One name per question that occurs nowhere else.
SENTINELS = {
    "example": "regression",
    "model_name": "sentinel-model",
    "description": "Sentinel of a description.",
    "owning_team": "sentinel-team",
    "aws_region": "us-gov-west-9",
    "artifact_bucket": "sentinel-bucket",
    "container_registry": "registry.sentinel.example:5000/images",
    "batch_job_queue": "sentinel-queue",
    "kubernetes_namespace": "sentinel-namespace",
    "datadog_site": "us5.datadoghq.com",
    "training_device": "cpu",
}

NASTY_DESCRIPTIONS = [
    "Says \"hi\" and 'bye'",
    r"C:\new\table and \\server, \u0041, a backslash at the end \\",
    "Gemüse, 中文, עברית, \N{GRINNING FACE} and \N{WOMAN}\N{ZERO WIDTH JOINER}\N{PERSONAL COMPUTER}",
    "<< cookiecutter.model_name >> << x",
    "<% if x %> and <# y",
    "{{ x }} {% y %} {# z #} {{value}}",
    "${HOME} $(id) `id` $HOME $x$",
    "# no heading",
    "- no list",
    "1. no list 2) either",
    "> no quote | no table",
    "*no* _stress_ ~~at~~ all, [no](link) ![no](image) <b>no</b> &amp; &copy; <https://example.com>",
    "no: comment # here, no, [list], {map: x}, &anchor *alias !tag %directive @at",
    "=== --- +++ ''' \"\"\"",
    "null",
    "12",
]


def read_rows(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text), strict=True))


def read_requirements(text: str) -> list[str]:
    """Names in a file for pip: each line is a requirement, an option, a hash or a comment."""
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
    kept = [line for line in lines if line and not line.startswith("#")]
    assert all(
        re.match(r"([A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9,._-]+\])?|-[rc] [a-z-]+\.(in|txt))( |$|[=<>~!;])", line)
        for line in kept
    ), kept
    return kept


class StrictLoader(yaml.SafeLoader):
    """YAML in which no key of a mapping stands twice: PyYAML takes the last, kustomize the first or neither."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        twice = {key for key in keys if keys.count(key) > 1}
        assert not twice, f"{sorted(twice)} twice in the mapping that starts{node.start_mark}"
        return super().construct_mapping(node, deep)


# How a file of each kind is read; a kind that is not here fails the test below, so that each one has its reader.
READERS: dict[str, Callable[[str], Any]] = {
    ".Dockerfile": str.splitlines,
    ".css": str.splitlines,
    ".csv": read_rows,
    ".groovy": str.splitlines,
    ".html": HTMLParser().feed,
    ".in": read_requirements,
    ".js": str.splitlines,
    ".json": json.loads,
    ".jsonl": lambda text: [json.loads(line) for line in text.splitlines()],
    ".md": MarkdownIt().parse,
    ".py": ast.parse,
    ".toml": tomllib.loads,
    ".txt": read_requirements,
    ".yaml": lambda text: list(yaml.load_all(text, StrictLoader)),
    "Jenkinsfile": str.splitlines,
    ".dockerignore": str.splitlines,
    ".editorconfig": str.splitlines,
    ".gitignore": str.splitlines,
}


def text_of(path: str, content: bytes) -> str:
    """Content of a file as text, unpacked if it is compressed."""
    return (gzip.decompress(content) if path.endswith(".gz") else content).decode("utf-8")


def read(path: str, content: bytes) -> Any:
    """Content of a file by its kind."""
    name = Path(path.removesuffix(".gz")).name
    return READERS[Path(name).suffix or name](text_of(path, content))


def hand_written(contents: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, str]]:
    """Path and text of every file that a person wrote: not the data, not the locks."""
    for path, content in contents:
        if not path.endswith(".gz") and not (path.startswith("requirements/") and path.endswith(".txt")):
            yield path, content.decode("utf-8")


def of_model(path: str) -> bool:
    """Whether a file is part of the example that a repository starts from."""
    return path.startswith("model/")


def is_copied(path: str) -> bool:
    """Whether cookiecutter copies a file as it is instead of rendering it."""
    return any(fnmatch(path, pattern) for pattern in COPIED)


class TestEveryCombination:
    def test_differs_from_the_defaults_only_where_that_is_written_down(self, matrix: Matrix) -> None:
        defaults, *others = (variant.files for variant in matrix.variants[: len(COMBINATIONS)])
        found = {path for files in others for path in files.keys() | defaults if files.get(path) != defaults.get(path)}
        assert {path for path in found if not path.startswith("model/")} == DIFFERENT

    def test_has_exactly_the_files_that_are_written_down(self, matrix: Matrix, template: Path) -> None:
        tree = (GOLDEN / "defaults" / TREE).read_text(encoding="utf-8")
        beside_the_model = {path for path in (line.split()[0] for line in tree.splitlines()) if not of_model(path)}
        for variant in matrix.each("files as in tests/golden", "*"):
            written_down = beside_the_model | set(filter(of_model, sources(template, variant.answers["example"])))
            unneeded = {
                path for question, paths in UNNEEDED.items() for path in paths.get(variant.answers[question], ())
            }
            new, gone = (
                sorted(variant.files.keys() - written_down),
                sorted(written_down - unneeded - variant.files.keys()),
            )
            assert not new and not gone, f"new {new}, gone {gone}; if that is meant: nox -s golden -- --update"
            assert not unneeded & variant.files.keys()

    def test_can_be_read_file_by_file(self, matrix: Matrix) -> None:
        for path, content in matrix.each_file("YAML, TOML, JSON, Markdown, Python can be read", "*"):
            try:
                read(path, content)
            except Exception as error:
                pytest.fail(f"{path}: {error!r}")

    def test_holds_no_delimiter_of_the_template(self, matrix: Matrix) -> None:
        for path, text in hand_written(matrix.each_file("no delimiter left", "*")):
            # What is copied as it is may shift bits; a YAML merge key is told by its colon. A description may hold any.
            copied = is_copied(path)
            left = re.findall(r"<<\s*cookiecutter|<%|<#" if copied else r"<<(?!:)|<%|%>|<#|#>|cookiecutter\.", text)
            assert left == [], path

    def test_looks_written_by_hand(self, matrix: Matrix) -> None:
        for path, text in hand_written(matrix.each_file("looks written by hand", "*")):
            if not text and path.endswith("__init__.py"):
                continue
            assert "\r" not in text, path
            assert "\t" not in text, path
            assert not re.search(r"[ ]+$", text, re.MULTILINE), f"{path}: space at the end of a line"
            assert not text.startswith("\n"), f"{path}: starts with an empty line"
            assert text.endswith("\n"), f"{path}: no line end at the end"
            assert not text.endswith("\n\n"), f"{path}: ends with an empty line"
            if not path.endswith(".py"):
                # As Python is formatted, also in the examples of pages.
                prose = re.sub(r"^```python\n.*?^```$", "(an example)", text, flags=re.DOTALL | re.MULTILINE)
                assert "\n\n\n" not in prose, f"{path}: two empty lines"

    def test_has_no_empty_section(self, matrix: Matrix) -> None:
        for path, text in hand_written(matrix.each_file("no empty section", "*.toml", "*.md")):
            if path.endswith(".toml"):
                lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
                for line, following in zip(lines, [*lines[1:], "["], strict=True):
                    assert not (line.startswith("[") and following.startswith("[")), f"{path}: {line} is empty"
            else:
                blocks = [token for token in MarkdownIt().parse(text) if token.level == 0 and token.nesting >= 0]
                for heading, content in zip_longest(blocks, blocks[1:]):
                    if heading.type == "heading_open":
                        filled = content and (content.type != "heading_open" or content.tag > heading.tag)
                        assert filled, f"{path}: an empty section below line {heading.map}"

    def test_names_nothing_on_its_pages_that_is_not_there(self, matrix: Matrix) -> None:
        for variant in matrix.each("links, commands and paths of Markdown", "*"):
            for page in variant.path.rglob("*.md"):
                assert missing_references(page, variant.path) == [], page

    def test_holds_nothing_of_the_people_or_the_machine_behind_the_template(self, matrix: Matrix) -> None:
        for path, content in matrix.each_file("nothing of authors or machines", "*"):
            text = text_of(path, content)
            assert not re.search(r"(/home/|/Users/|/root/|/work/|/tmp/)", text), path
            assert not re.search(r"[\w.+-]+@[\w-]+\.(com|org|net|io|de)\b", text), path
            assert not re.search(r"--(index-url|extra-index-url|find-links)|://[^/\s]*pypi|pythonhosted", text), path

    def test_holds_nothing_that_looks_like_a_secret_but_for_what_its_tests_make_up(
        self, matrix: Matrix, tmp_path: Path
    ) -> None:
        with default_settings():
            for path, text in hand_written(matrix.each_file("secrets", "*")):
                if path.startswith("mlplatform/tests/"):
                    continue
                # Its detectors go by the name as well.
                (tmp_path / Path(path).name).write_text(text, encoding="utf-8")
                found = SecretsCollection(root=str(tmp_path))
                found.scan_file(Path(path).name)
                assert [secret.type for secrets in found.data.values() for secret in secrets] == [], path


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_a_repository_comes_out_as_it_is_written_down(configuration: str, template: Path, tmp_path: Path) -> None:
    changed = compare(configuration, golden(template, tmp_path, configuration))
    assert not changed, f"{changed}\nIf that is meant: nox -s golden -- --update"


def test_nothing_is_written_down_of_a_configuration_that_is_not_rendered() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(CONFIGURATIONS)


def test_every_option_is_rendered_with_every_other() -> None:
    options = {tuple(answered(answers)[question] for question in CHOICES) for answers in COMBINATIONS}
    examples, *others = CHOICES.values()
    # An example changes nothing that another option changes, but for lines of its own in service.toml.
    assert options == {*product(examples[:1], *others), *product(examples, *(each[:1] for each in others))}
    assert COMBINATIONS[0] == {}


def test_every_example_but_the_first_has_a_model_to_start_from() -> None:
    examples = {path.name: files(path).keys() for path in (ROOT / DIRECTORY / STARTS).iterdir()}
    assert set(examples) == set(CHOICES["example"][1:])
    assert {path for paths in examples.values() for path in paths if not of_model(path)} <= {"gate.toml"}


def test_every_question_has_a_prompt_for_people() -> None:
    prompts = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))["__prompts__"]
    assert list(prompts) == list(QUESTIONS)
    for question, options in CHOICES.items():
        assert list(prompts[question]) == ["__prompt__", *options]


def test_every_answer_arrives_and_no_default_does(render: Render) -> None:
    text = "\n".join(text for _, text in hand_written(files(render(SENTINELS)).items()))
    assert [answer for answer in SENTINELS.values() if answer not in text] == []
    # Options are not in question: a site or a device may be named as an alternative.
    assert [default for name, default in DEFAULTS.items() if name not in CHOICES and default in text] == []


@pytest.mark.parametrize("description", NASTY_DESCRIPTIONS)
def test_any_printable_description_arrives_unharmed_in_files_of_every_kind(
    description: str, template: Path, tmp_path: Path
) -> None:
    repository = render_into(template, tmp_path, {"description": description})
    rendered = files(repository)
    for path in filterfalse(is_copied, rendered):
        read(path, rendered[path])
    assert read("service.toml", rendered["service.toml"])["service"]["description"] == description
    assert read("pyproject.toml", rendered["pyproject.toml"])["project"]["description"] == description
    # Markdown shows the very same characters, in a paragraph, with no markup made of them.
    shown = [
        "".join(child.content for child in token.children or [])
        for token in MarkdownIt().parse(rendered["README.md"].decode())
        if token.type == "inline" and {child.type for child in token.children or []} <= {"text", "text_special"}
    ]
    assert description in shown


ASK_PYTHON = "cycler.__init__.__globals__.os.mkdir('PLACE/owned')"
COMMANDS = [
    f"{{{{ {ASK_PYTHON} }}}} << {ASK_PYTHON} >>",
    f"{{% if {ASK_PYTHON} %}}{{% endif %}} <% if {ASK_PYTHON} %><% endif %>",
    "$(mkdir owned) `mkdir owned` '; mkdir owned; ' \"; mkdir owned; \" | mkdir owned & mkdir owned #",
    "\"\"\") + str(__import__('os').mkdir('owned')) + (\"\"\" ''') + str(__import__('os').mkdir('owned')) + ('''",
    "one line\n__import__('os').mkdir('owned')\n$(mkdir owned)",
]


@pytest.mark.parametrize("answer", COMMANDS)
def test_no_answer_is_run(answer: str, template: Path, tmp_path: Path) -> None:
    for question in ("description", "model_name"):
        given = answer.replace("PLACE/", "" if question == "description" else f"{tmp_path}/")
        result = cookiecutter(template, tmp_path, {question: given})
        refused = question == "model_name" or "\n" in given
        assert ("One answer cannot be used" in result.stdout) == refused, result.stdout
        assert bool(result.returncode) == refused
        assert list(tmp_path.rglob("owned")) == []


def test_what_is_no_template_comes_out_as_it_is_whatever_its_bytes(template: Path, tmp_path: Path) -> None:
    worked_in = tmp_path / "template"
    shutil.copytree(template, worked_in)
    looks_like_jinja = b"a << 2; << cookiecutter.model_name >> <% if x %> <# y"
    added = {
        "mlplatform/serving/static/added.js": looks_like_jinja,
        "mlplatform/serving/static/added.css": looks_like_jinja,
        "mlplatform/serving/templates/added.html": looks_like_jinja,
        "model/added.py": looks_like_jinja,
        "model/data/added.csv.gz": gzip.compress(looks_like_jinja * 9),
        "model/data/added.npy": b"\x93NUMPY\x01\x00" + looks_like_jinja + bytes(range(256)),
        "docs/added.png": b"\x89PNG\r\n\x1a\n\x00\x00" + looks_like_jinja + bytes(range(256)),
    }
    for path, content in added.items():
        (worked_in / DIRECTORY / path).parent.mkdir(parents=True, exist_ok=True)
        (worked_in / DIRECTORY / path).write_bytes(content)
    rendered = files(render_into(worked_in, tmp_path / "output", {}))
    assert {path: rendered[path] for path in added} == added


@pytest.mark.parametrize("name", ["ab", "m" * 40, "x1-2-3", "python", "model", "tests", "e1"])
def test_any_name_that_is_allowed_renders_valid_files(name: str, template: Path, tmp_path: Path) -> None:
    repository = render_into(template, tmp_path, {"model_name": name})
    assert repository.name == name
    rendered = files(repository)
    for path in filterfalse(is_copied, rendered):
        read(path, rendered[path])
    assert read("service.toml", rendered["service.toml"])["service"]["name"] == name


@pytest.mark.parametrize("example", CHOICES["example"])
def test_code_and_locks_are_copied_byte_for_byte(example: str, template: Path, render: Render) -> None:
    source, rendered = sources(template, example), files(render(EXAMPLES.get(example, {})))
    copied = set(filter(is_copied, rendered))
    assert {path for path in rendered if path.endswith((".py", ".gz")) or path.startswith("requirements/")} <= copied
    assert [path for path in sorted(copied) if rendered[path] != source[path]] == []


def test_jinja_lives_only_where_names_and_numbers_are_written_down(template: Path, render: Render) -> None:
    source, rendered = files(template / DIRECTORY), files(render({}))
    places = ("service.toml", "pyproject.toml", "README.md", "Jenkinsfile", "deploy/")
    assert [path for path in rendered if rendered[path] != source[path] and not path.startswith(places)] == []


def test_rendering_twice_gives_the_same_bytes_and_modes(template: Path, render: Render, tmp_path: Path) -> None:
    once, again = render({}), render_into(template, tmp_path, {})
    assert files(once) == files(again)
    assert {path: (once / path).stat().st_mode for path in files(once)} == {
        path: (again / path).stat().st_mode for path in files(again)
    }


def test_what_the_hook_deletes_is_in_the_template() -> None:
    for question, paths in UNNEEDED.items():
        for option, unneeded in paths.items():
            assert option in CHOICES[question]
            assert [path for path in unneeded if not (ROOT / DIRECTORY / path).is_file()] == []


def test_a_checkout_whose_code_was_run_in_place_renders_the_same(
    template: Path, render: Render, tmp_path: Path
) -> None:
    worked_in = tmp_path / "template"
    shutil.copytree(template, worked_in)
    for name in (*LEFT_BY_TOOLS, "mlplatform/training/__pycache__", "mlplatform/tests/.hypothesis/unicode_data"):
        (worked_in / DIRECTORY / name).mkdir(parents=True, exist_ok=True)
        (worked_in / DIRECTORY / name / "left").write_bytes(b"\x94<< binary <%")
    assert files(render_into(worked_in, tmp_path / "output", {})) == files(render({}))
