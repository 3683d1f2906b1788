"""Stands in for buildah where none is, by docker.py beside it. It logs in by the file of --authfile."""

import os
import subprocess
import sys
from pathlib import Path

PLACE = Path(os.environ["STAND_IN"])
CONTAINER = "under-test-working-container"


def as_docker(*arguments: str) -> None:
    """Do what the stand-in for docker does; Buildah knows no $DOCKER_CONFIG, and docker.log is of docker."""
    logins = [word.partition("=")[2] for word in sys.argv if word.startswith("--authfile=")]
    environment = {**os.environ, "DOCKER_CONFIG": str(Path([*logins, "/none/config.json"][0]).parent)}
    log = PLACE / "docker.log"
    before = log.read_text() if log.exists() else ""
    command = [sys.executable, str(Path(__file__).with_name("docker.py")), *arguments]
    code = subprocess.run(command, env=environment).returncode
    log.write_text(before)
    sys.exit(code)


def main() -> None:
    with (PLACE / "buildah.log").open("a") as log:
        log.write(" ".join(sys.argv[1:]) + "\n")
    match sys.argv[1:]:
        case ["--version"]:
            version = PLACE / "buildah-version"
            print(version.read_text() if version.exists() else "buildah version 1.39.3 (a stand-in)")
        case ["build", "--format=docker", "--layers", *rest]:
            as_docker("build", *rest)
        case ["from", *_]:
            print(CONTAINER)
        case ["run", container, "--", *rest] if container == CONTAINER:
            as_docker("run", *rest)
        case ["push", *_, name]:
            as_docker("push", name.removeprefix("docker://"))


if __name__ == "__main__":
    main()
