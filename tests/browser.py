"""Chromium without a screen: a page by its command line alone, a live server's through a pipe."""

import base64
import contextlib
import html
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time

import pytest

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--hide-scrollbars",
    "--virtual-time-budget=5000",
)  # fmt: skip

# Looks at the page as it was laid out, and writes what it saw where the dump shows it.
_LOOK = """
<script>
addEventListener("load", () => {
  const seen = (() => { %s })();
  const result = document.createElement("pre");
  result.id = "seen";
  result.textContent = JSON.stringify(seen);
  document.body.append(result);
});
</script>"""


def find() -> str:
    """Chromium's path; skips where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium)")
    return path


def look(page: pathlib.Path, code: str, *, width: int = 1280, dark: bool = False):
    """Opens a page and runs a function's body in it.

    Args:
        page: An HTML file.
        code: JavaScript; what it returns comes back.
        width: Of the window, pixels.
        dark: Whether the reader's system is set to dark.

    Returns:
        What the code returned, and the lines of the console.
    """
    chromium = find()
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / "page.html"
        copy.write_text(page.read_text().replace("</body>", _LOOK % code + "</body>"))
        scheme = [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
        command = [
            chromium, *FLAGS, *scheme, f"--user-data-dir={folder}/profile",
            f"--window-size={width},900", "--dump-dom", copy.as_uri(),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(found[1])), console


class Page:
    """A page of a live server, used as a person would: keys, clicks, files.

    Speaks Chromium's DevTools protocol over two pipes.

    Attributes:
        told: Lines of the console, and errors of scripts and of the network.
    """

    def __init__(self, to_browser: int, from_browser: int):
        self._to = to_browser
        self._from = os.fdopen(from_browser, "rb")
        self._number = 0
        self._session = None
        self._rest = b""
        self.told: list[str] = []
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self._ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self._ask(f"{domain}.enable")

    def _ask(self, method: str, **given):
        self._number += 1
        message = {"id": self._number, "method": method, "params": given}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer)
                return answer["result"]
            told = answer.get("params", {})
            if "exceptionDetails" in told or told.get("entry", {}).get("level") == "error":
                self.told.append(json.dumps(told))

    def _next(self) -> dict:
        while b"\0" not in self._rest:
            part = self._from.read1(1 << 20)
            assert part, "Chromium has ended"
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\0")
        return json.loads(line)

    def size(self, width: int, height: int = 900, *, dark: bool = False) -> None:
        """Sets the window's size and the reader's colours."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._ask("Emulation.setEmulatedMedia", features=[scheme])
        self._ask(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip

    def open(self, address: str) -> None:
        """Goes to an address."""
        self._ask("Page.navigate", url=address)

    def run(self, code: str):
        """What an expression gives; a promise is waited for."""
        done = self._ask("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def wait(self, code: str, seconds: float = 20):
        """Waits until an expression gives something true, and returns that."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found = self.run(code)
            if found:
                return found
            time.sleep(0.02)
        raise AssertionError(
            f"never came: {code}; {self.told}; {self.run('document.body.innerText')}"
        )

    def key(self, name: str, text: str = "") -> None:
        """Presses a key where the focus is."""
        codes = {"Enter": 13, "Tab": 9, " ": 32, "Escape": 27}
        text = text or {"Enter": "\r", " ": " "}.get(name, name if len(name) == 1 else "")
        code = codes.get(name, ord(name.upper()) if len(name) == 1 else 0)
        key = {"key": name, "windowsVirtualKeyCode": code}
        self._ask("Input.dispatchKeyEvent", type="keyDown", text=text, **key)
        self._ask("Input.dispatchKeyEvent", type="keyUp", **key)

    def click(self, selector: str) -> None:
        """Clicks on the middle of an element with the mouse."""
        x, y = self.run(
            f"(() => {{ const e = document.querySelector({selector!r}); e.scrollIntoView("
            "{block: 'center'}); const b = e.getBoundingClientRect();"
            " return [b.left + b.width / 2, b.top + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self._ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def choose_file(self, selector: str, file: pathlib.Path) -> None:
        """Chooses a file in a file field."""
        root = self._ask("DOM.getDocument")["root"]["nodeId"]
        node = self._ask("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self._ask("DOM.setFileInputFiles", files=[str(file)], nodeId=node)

    def picture(self, file: pathlib.Path) -> None:
        """Writes what is seen to a PNG."""
        seen = self._ask("Page.captureScreenshot", format="png")["data"]
        file.write_bytes(base64.b64decode(seen))


@contextlib.contextmanager
def live():
    """A `Page` that reaches 127.0.0.1 and nothing else."""
    chromium = find()
    flags = [flag for flag in FLAGS if not flag.startswith(("--virtual", "--host-resolver"))]
    down, to_browser = os.pipe()
    from_browser, up = os.pipe()

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        program = subprocess.Popen(
            [  # Chromium reads from 3 and writes to 4, whatever the pipes' numbers are here.
                "bash", "-c", f'exec "$0" "$@" 3<&{down} 4>&{up}', chromium, *flags,
                "--remote-debugging-pipe", f"--user-data-dir={folder}/profile",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "about:blank",
            ],
            pass_fds=(down, up), stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(down)
        os.close(up)
        try:
            yield Page(to_browser, from_browser)
        finally:
            program.terminate()
            program.wait()
