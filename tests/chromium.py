"""Finds the Chromium that browser tests drive; `python -m tests.chromium` installs one where there is none."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"]
MAC_APPS = ["Google Chrome.app/Contents/MacOS/Google Chrome", "Chromium.app/Contents/MacOS/Chromium"]
HELP = "install Chromium or Chrome, or set CHROMIUM to the path of one"


@functools.cache
def find() -> Path:
    """The first browser that really starts; FileNotFoundError where there is none."""
    for path in candidates():
        if starts(path):
            return path
    raise FileNotFoundError(f"No Chromium or Chrome that starts was found: run `make setup browser`, or {HELP}.")


def candidates() -> Iterator[Path]:
    if named := os.environ.get("CHROMIUM"):
        yield Path(named)
    for name in NAMES:
        if program := shutil.which(name):
            yield Path(program)
    for folder in (Path("/Applications"), Path.home() / "Applications"):
        yield from (folder / app for app in MAC_APPS)
    yield downloaded()


def downloaded() -> Path:
    """Where Playwright keeps, or would keep, the browser that it downloads itself."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        return Path(playwright.chromium.executable_path)


def starts(path: Path) -> bool:
    """Whether a blank page opens: a snap's placeholder, or a browser that lacks libraries, does not get there."""
    if not path.is_file():
        return False
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [str(path), *FLAGS, "--headless", f"--user-data-dir={profile}", "--dump-dom", "about:blank"]
        try:
            page = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return False
    return page.returncode == 0 and "<html" in page.stdout


def install() -> Path:
    """Debian's package as root, else Playwright's own download; RuntimeError where neither gives a browser."""
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    if root and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        packages = ["chromium", "fonts-liberation"]
        for command in (["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", *packages]):
            subprocess.run(command, env=environment, check=False)
        for name in NAMES:
            if (program := shutil.which(name)) and starts(Path(program)):
                return Path(program)
    dependencies = ["--with-deps"] if root else []
    subprocess.run([sys.executable, "-m", "playwright", "install", *dependencies, "chromium"], check=False)
    if starts(path := downloaded()):
        return path
    raise RuntimeError(f"No Chromium could be installed for the browser tests: {HELP}.")


def main() -> int:
    try:
        print(f"browser: {find()}")
    except FileNotFoundError:
        try:
            print(f"browser: {install()}")
        except RuntimeError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
