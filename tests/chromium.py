"""A page as a headless Chromium leaves it after its scripts have run."""

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# A window has at least 500 px, a frame may be as narrow as a phone.
FRAME = """<!doctype html><iframe src="{page}" style="width:{width}px;height:2000px;border:0"></iframe><pre></pre>
<script>
const frame = document.querySelector("iframe");
const timer = setInterval(() => {{
  if (frame.contentDocument.documentElement.dataset.drawn === undefined) return;
  clearInterval(timer);
  document.querySelector("pre").textContent = JSON.stringify(frame.contentWindow.eval({script}));
}}, 50);
</script>"""


def find() -> str:
    """The browser on PATH. Without one the test fails where CI=true and is skipped elsewhere."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        reason = f"no Chromium on PATH ({', '.join(NAMES)}); on Debian: apt-get install -y chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def render(page: Path, profile: Path, width: int = 1280) -> tuple[str, list[str]]:
    """DOM and console messages. profile: a folder for the browser's own files."""
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--allow-file-access-from-files",
        "--enable-logging=stderr",
        f"--user-data-dir={profile}",
        f"--window-size={width},2000",
        "--virtual-time-budget=30000",
        "--dump-dom",
    ]
    result = subprocess.run([find(), *flags, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    return result.stdout, [line for line in result.stderr.splitlines() if ":CONSOLE" in line]


def measure(page: Path, profile: Path, width: int, script: str) -> Any:
    """What the JavaScript expression `script` gives in a report's page `width` pixels wide, its plots drawn."""
    frame = page.with_name("frame.html")
    frame.write_text(FRAME.format(page=page.name, width=width, script=json.dumps(script)))
    dom, _ = render(frame, profile)
    found = re.search("<pre>(.+)</pre>", dom)
    assert found, "the page's plots were not drawn"
    return json.loads(html.unescape(found[1]))
