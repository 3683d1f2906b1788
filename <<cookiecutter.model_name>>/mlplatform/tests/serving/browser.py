"""A headless Chromium, driven over a pipe by its own protocol: https://chromedevtools.github.io/devtools-protocol."""

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = next((path for name in ("chromium", "google-chrome", "chrome") if (path := shutil.which(name))), None)
MISSING = "no Chromium here: install the package chromium (Debian, Homebrew) or google-chrome, and run this test again"
SECONDS = 30


class Page:
    """A tab."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to_browser = to_browser
        self._from_browser = from_browser
        self._number = 0
        self._rest = b""
        self._session = ""
        target = self._command("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def open(self, url: str, width: int = 900, height: int = 800) -> None:
        """Go to a page in a window of this size."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._command("Emulation.setDeviceMetricsOverride", **size)
        self._command("Page.navigate", url=url)

    def prefer(self, scheme: str) -> None:
        """Be the browser of somebody who prefers `light` or `dark` colours."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._command("Emulation.setEmulatedMedia", features=features)

    def press(self, key: str, code: int, control: bool = False) -> None:
        """Press a key where the focus is. code: of the key as browsers number it, 9 for Tab and 13 for Enter."""
        named = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": 2 if control else 0}
        typed = {"text": "\r"} if key == "Enter" else {}
        self._command("Input.dispatchKeyEvent", type="keyDown", **named, **typed)
        self._command("Input.dispatchKeyEvent", type="keyUp", **named)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self._command("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def text(self) -> str:
        """What the page shows, with single spaces."""
        return " ".join(str(self.evaluate("document.body?.innerText ?? ''")).split())

    def wait_for(self, text: str) -> str:
        """Wait until the page shows a text; give all that it shows."""
        end = time.monotonic() + SECONDS
        while text not in (shown := self.text()):
            assert time.monotonic() < end, f"{text!r} did not appear in: {shown}"
            time.sleep(0.05)
        return shown

    def screenshot(self) -> bytes:
        """The window as PNG."""
        return base64.b64decode(self._command("Page.captureScreenshot", format="png")["data"])

    def _command(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to_browser, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._rest:
                chunk = os.read(self._from_browser, 1 << 20)
                assert chunk, "the browser has ended"
                self._rest += chunk
            text, _, self._rest = self._rest.partition(b"\0")
            answer = json.loads(text)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A page of a browser of its own; ended on leaving. profile: an empty directory."""
    read, to_browser = os.pipe()
    from_browser, write = os.pipe()
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={profile}"]
    command = [str(PROGRAM), *options, "--remote-debugging-pipe"]
    # The protocol is on the file descriptors 3 and 4.
    place = f"import os, sys; os.dup2({read}, 100); os.dup2({write}, 101); os.dup2(100, 3); os.dup2(101, 4)"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{place}; os.execv(sys.argv[1], sys.argv[1:])", *command],
        pass_fds=(read, write),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(read)
    os.close(write)
    try:
        yield Page(to_browser, from_browser)
    finally:
        os.close(to_browser)
        process.kill()
        process.wait()
        os.close(from_browser)
