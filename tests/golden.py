"""The whole of three rendered repositories, written down: `nox -s golden` compares, `nox -s golden -- --update` writes.

Below `tests/golden/`, a folder for each: `tree.txt` names every file, and beside it stands every file that rendering
changes, as it comes out. The others are copied byte for byte, which another test holds, and stand only once.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from render_diff import difference
from rendered import EXAMPLES, ROOT, answered, copy_template, files, render, sources

GOLDEN = Path(__file__).with_name("golden")
TREE = "tree.txt"
CONFIGURATIONS: Mapping[str, Mapping[str, str]] = {
    "defaults": {},
    "cpu": {**EXAMPLES["text"], "training_device": "cpu", "datadog_site": "datadoghq.eu"},
    "own": {
        "example": "regression",
        "model_name": "m2",
        "description": r'Reads "leaves" \o/, Gemüse & {{ y }}, ${z}: <b>50 %</b>',
        "owning_team": "t",
        "aws_region": "us-gov-west-1",
        "artifact_bucket": "a.b.c",
        "container_registry": "localhost:5000",
        "batch_job_queue": "Queue_1",
        "kubernetes_namespace": "m",
        "datadog_site": "ddog-gov.com",
        "training_device": "gpu",
    },
}


def golden(template: Path, output: Path, configuration: str) -> dict[str, bytes]:
    """What is to be written down of one configuration, by path below its folder."""
    rendered = files(render(template, output / configuration, CONFIGURATIONS[configuration]))
    source = sources(template, answered(CONFIGURATIONS[configuration])["example"])
    tree = "".join(f"{path}{'' if rendered[path] == source[path] else '  (rendered)'}\n" for path in rendered)
    return {TREE: tree.encode(), **{path: text for path, text in rendered.items() if text != source[path]}}


def written_down(configuration: str) -> dict[str, bytes]:
    """What stands in the folder of one configuration; empty if there is none."""
    return files(GOLDEN / configuration)


def compare(configuration: str, new: Mapping[str, bytes]) -> str:
    """The differences from what is written down, as a unified diff; empty if there are none."""
    old = written_down(configuration)
    paths = sorted(old.keys() | new.keys())
    return "".join(difference(f"{configuration}/{path}", old.get(path), new.get(path)) for path in paths)


def write(configuration: str, new: Mapping[str, bytes]) -> None:
    """Writes one configuration down in place of what stood there."""
    folder = GOLDEN / configuration
    for path in written_down(configuration).keys() - new.keys():
        (folder / path).unlink()
    for path, content in new.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def main() -> int:
    """Prints the differences; exit status 1 if there are some and they are not to be written."""
    parser = argparse.ArgumentParser(prog="nox -s golden --", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--update", action="store_true", help="write down what comes out")
    update: bool = parser.parse_args().update
    changed = ""
    with tempfile.TemporaryDirectory() as temporary:
        template = copy_template(ROOT, Path(temporary) / "template")
        for configuration in CONFIGURATIONS:
            new = golden(template, Path(temporary), configuration)
            changed += compare(configuration, new)
            if update:
                write(configuration, new)
    print(changed or "every rendered repository is as it is written down", end="" if changed else "\n")
    return int(bool(changed) and not update)


if __name__ == "__main__":
    sys.exit(main())
