"""Chromium, for the rendered repository's tests of its pages."""

import os
import shutil
import subprocess
import sys

PROGRAMS = ("chromium", "google-chrome", "chrome")


class BrowserError(Exception):
    """There is no browser to be had here; the message says what to install."""


def have_browser() -> bool:
    """Have a Chromium on the PATH: one that is there, or Debian's, installed where this is root.

    Returns False where there is none and none can be installed: on a person's machine, where the tests that need it
    skip themselves and say what to install. Raises BrowserError for that in CI, and where the installation fails.
    """
    if any(map(shutil.which, PROGRAMS)):
        return True
    if sys.platform == "linux" and os.geteuid() == 0 and shutil.which("apt-get"):
        apt = ("apt-get", "-o", "DPkg::Lock::Timeout=300", "-qq")
        for command in ((*apt, "update"), (*apt, "install", "--yes", "--no-install-recommends", "chromium")):
            environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            result = subprocess.run(command, env=environment, capture_output=True, text=True)
            if result.returncode:
                raise BrowserError(f"install chromium; {' '.join(command)} failed:\n{result.stdout}{result.stderr}")
        return True
    if os.environ.get("CI"):
        raise BrowserError("the tests of the server's pages need Chromium: install the package chromium")
    return False
