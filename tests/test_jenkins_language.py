"""The Jenkinsfile is in the language that Jenkins compiles: Groovy 2.4, by Jenkins's own transformer."""

import hashlib
import os
import subprocess
import urllib.request
from pathlib import Path

import pytest
from conftest import Render
from pipeline import HARNESS, TOOLS

pytestmark = [pytest.mark.jenkins, pytest.mark.nightly]

CENTRAL = "https://repo1.maven.org/maven2"
# Newer versions of the transformer are in Jenkins's own repository only.
JARS = {
    "org/codehaus/groovy/groovy-all/2.4.21": "de65260cf2070442e99882f2f3d72e7531725c1e6a257446cc0cea525c607bd0",
    "com/cloudbees/groovy-cps/1.31": "ecfd4e43d75ca8204e278ff01d27c10d4b0d7b3ee781a18d1c363fc04c5c3e7e",
    "com/google/guava/guava/11.0.1": "aa7cef9d2ba0110a2db7be0fb6e679cd71f6a26fc3ba9da7715f41d3300def1d",
}


@pytest.fixture(scope="module")
def jars() -> list[Path]:
    """The libraries, fetched from Maven Central once."""
    found = []
    for path, digest in JARS.items():
        name = "-".join(Path(path).parts[-2:]) + ".jar"
        jar = TOOLS / "maven" / name
        if not jar.is_file():
            jar.parent.mkdir(parents=True, exist_ok=True)
            with urllib.request.urlopen(f"{CENTRAL}/{path}/{name}", timeout=60) as answer:
                content = answer.read()
            assert hashlib.sha256(content).hexdigest() == digest
            jar.write_bytes(content)
        found.append(jar)
    return found


def compiled(jars: list[Path], jenkinsfile: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(map(str, jars))
    command = ["java", "-cp", path, "groovy.ui.GroovyMain", str(HARNESS / "Compile.groovy"), str(jenkinsfile)]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_the_jenkinsfile_compiles(jars: list[Path], render: Render) -> None:
    done = compiled(jars, render({}) / "Jenkinsfile")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("text", ["[1].each(x -> x)", "void f() {", "if (1 !in [2]) { }"])
def test_what_groovy_2_4_has_not_does_not(jars: list[Path], tmp_path: Path, text: str) -> None:
    (tmp_path / "Jenkinsfile").write_text(text)
    assert compiled(jars, tmp_path / "Jenkinsfile").returncode != 0
