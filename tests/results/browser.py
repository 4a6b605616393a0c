"""Chromium without a screen, driven by its command line alone."""

import html
import json
import pathlib
import re
import shutil
import subprocess
import tempfile

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
