"""A page as a headless Chromium leaves it after its scripts have run."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


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
        "--enable-logging=stderr",
        f"--user-data-dir={profile}",
        f"--window-size={width},2000",
        "--virtual-time-budget=30000",
        "--dump-dom",
    ]
    result = subprocess.run([find(), *flags, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    return result.stdout, [line for line in result.stderr.splitlines() if ":CONSOLE" in line]
