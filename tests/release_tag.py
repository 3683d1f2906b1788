"""Check the tag of a release, as CI does when one is pushed: `release_tag.py v0.3.0`."""

import json
import re
import sys

from rendered import ROOT


def problem(tag: str) -> str | None:
    """Why a tag is not that of the release in this checkout, or None if it is."""
    version = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))["__template_version"]
    newest = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)[0]
    if tag != f"v{version}":
        return f"tag {tag}: __template_version in cookiecutter.json is {version}; its tag is v{version}"
    if newest != version:
        return f"tag {tag}: CHANGELOG.md begins with {newest}; describe {version} there first"
    return None


if __name__ == "__main__":
    sys.exit(problem(sys.argv[1]))
