"""How long a newcomer waits: from `git clone` on a machine without caches to the first live image, in seconds.

    python -m benchmarks.first_minute            # downloads some gigabytes; wants the machine for itself
    python -m benchmarks.first_minute --runs 2

Each run clones this repository into an empty folder that is also the home folder, so that pip, uv and npm have empty
caches and no uv or Node is on the path, and calls `make demo`. The browser that JupyterLab asks for is a headless
Chromium, in which the first code cell is run by Shift + Enter. Downloads are as fast as the connection to PyPI.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright
from playwright.sync_api import TimeoutError as Overdue

from tests import chromium

ROOT = Path(__file__).parent.parent
PATIENCE = 600.0  # seconds
STAGES = {
    "installed": "environment made, JupyterLab asks for a browser",
    "opened": "notebook shown, its kernel connected",
    "recorded": "after Shift + Enter: recorded run on the stage",
    "live": "after Shift + Enter: first live image",
    "done": "after Shift + Enter: the run has ended",
}
# What the widget says of the live run: its state, and the steps that it holds.
LIVE = """() => {
    const status = document.querySelector('.dv [data-testid=status]')?.dataset.status;
    const slider = document.querySelector('.dv [data-testid=slider]');
    if (document.querySelector('.dv')?.textContent.includes('Recorded run')) return false;
    return status === 'done' || (status === 'running' && Number(slider?.getAttribute('aria-valuemax')) >= 1);
}"""
STARTED = "() => !document.querySelector('.jp-CodeCell .jp-InputPrompt')?.textContent.includes('[ ]')"
RECORDED = "() => document.querySelector('.dv')?.textContent.includes('Recorded run')"
DONE = "() => document.querySelector('.dv [data-testid=status]')?.dataset.status === 'done'"


def environment(home: Path, address: Path) -> dict[str, str]:
    """The variables of a machine on which nothing of this project's needs is installed or cached.

    Args:
        home: The empty home folder.
        address: The file that the page to open is written to, in place of a browser.

    Returns:
        Environment variables.
    """
    opener = home / "open-browser"
    opener.write_text(f'#!/bin/sh\nprintf %s "$1" > {address}.part && mv {address}.part {address}\n', encoding="utf-8")
    opener.chmod(0o755)
    skipped = ("UV_", "VIRTUAL_ENV", "JUPYTER", "IPYTHON", "XDG_", "OMP_", "PYTHONPATH")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(skipped)}
    folders = [folder for folder in variables["PATH"].split(os.pathsep) if not (Path(folder) / "uv").exists()]
    return variables | {
        "HOME": str(home),
        "PATH": os.pathsep.join(folders),
        "BROWSER": f"{opener} %s",
        "PIP_CACHE_DIR": str(home / "pip"),
        "npm_config_cache": str(home / "npm"),
    }


def run_first_cell(page: Page) -> float:
    """Run the first code cell by Shift + Enter, again where JupyterLab, which has just started, did not take the keys.

    Args:
        page: The page of JupyterLab.

    Returns:
        When the keys were pressed to which the cell responded, on the monotonic clock.
    """
    cell = page.locator(".jp-Notebook .jp-CodeCell").first
    while True:
        cell.locator(".cm-content").click()
        began = time.monotonic()
        page.keyboard.press("Shift+Enter")
        try:
            page.wait_for_function(STARTED, timeout=3000)
        except Overdue:
            continue
        return began


def measure(chromium_path: str, folder: Path) -> dict[str, float]:
    """One newcomer.

    Args:
        chromium_path: The browser.
        folder: An empty folder.

    Returns:
        Seconds by the names of `STAGES`.
    """
    address = folder / "address"
    variables = environment(folder, address)
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder / "checkout")], check=True)
    log = (folder / "log").open("w", encoding="utf-8")
    began = time.monotonic()
    demo = subprocess.Popen(
        ["make", "demo"], cwd=folder / "checkout", env=variables, stdout=log, stderr=log, start_new_session=True
    )
    try:
        while not address.exists():
            if demo.poll() is not None or time.monotonic() - began > PATIENCE:
                raise RuntimeError("make demo opened nothing:\n" + (folder / "log").read_text(encoding="utf-8"))
            time.sleep(0.05)
        seconds = {"installed": time.monotonic() - began}
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium_path, args=chromium.FLAGS)
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.set_default_timeout(PATIENCE * 1000)
            page.goto(address.read_text(encoding="utf-8"))
            page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
            page.wait_for_function(
                "() => document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status === 'idle'"
            )
            seconds["opened"] = time.monotonic() - began
            run = run_first_cell(page)
            for stage, condition in (("recorded", RECORDED), ("live", LIVE), ("done", DONE)):
                page.wait_for_function(condition)
                seconds[stage] = time.monotonic() - run
            page.screenshot(path=folder / "screen.png")
            browser.close()
    finally:
        os.killpg(demo.pid, signal.SIGTERM)
        demo.wait()
        log.close()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description="Time a newcomer's first minute.")
    parser.add_argument("--runs", type=int, default=1)
    runs = parser.parse_args().runs
    path = str(chromium.find())
    measured = []
    for run in range(runs):
        folder = Path(tempfile.mkdtemp(prefix="first-minute-"))
        try:
            measured.append(measure(path, folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        print(
            f"run {run + 1}: " + ", ".join(f"{name} {value:.1f} s" for name, value in measured[-1].items()), flush=True
        )
    print("\n| | seconds |\n| --- | ---: |")
    for name, text in STAGES.items():
        values = [seconds[name] for seconds in measured]
        print(f"| {text} | {statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f}) |")


if __name__ == "__main__":
    main()
