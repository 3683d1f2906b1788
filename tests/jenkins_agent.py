"""Stands in for python3, pip, nox and `python -m mlplatform` of an agent: records calls, answers as told.

Below the directory STAND_IN: `calls.jsonl` gets a line per call, with the commit that is checked out; `answers.json`
lists {"call": its first words, "output", "files": text by path, "exit"}, of which the first that fits is given.
"""

import json
import os
import stat
import sys
from pathlib import Path


def install(program: Path, name: str) -> None:
    """Make `program` a script that calls this file under a name."""
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{Path(__file__).resolve()}" {name} "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def main(name: str, arguments: list[str]) -> int:
    if name == "python3" and arguments[:2] == ["-m", "venv"]:
        for each in ("python", "pip", "nox"):
            install(Path(arguments[2]) / "bin" / each, each)
    if name == "python" and arguments[:1] == ["-m"]:
        name, *arguments = arguments[1:]
    directory = Path(os.environ["STAND_IN"])
    call = [name, *arguments]
    with (directory / "calls.jsonl").open("a", encoding="utf-8") as calls:
        head = Path(".git", "HEAD")
        commit = head.read_text().strip() if head.exists() else None
        calls.write(json.dumps({"call": call, "environment": dict(os.environ), "commit": commit}) + "\n")
    for answer in json.loads((directory / "answers.json").read_text(encoding="utf-8")):
        if call[: len(answer["call"])] == answer["call"]:
            for path, text in answer.get("files", {}).items():
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                Path(path).write_text(text, encoding="utf-8")
            print(answer.get("output", ""))
            return int(answer.get("exit", 0))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
