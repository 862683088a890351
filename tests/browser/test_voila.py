"""Voila in a real browser: a notebook as an application, live, with the widget's state and no code."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, expect

from tests.browser.hosts import pick, scrub
from tests.browser.lab import PATIENCE, ROOT, START_SECONDS

STEPS = 4
CODE = f"""
import diffvis_widget as dv
from tests import pipelines

pipe = pipelines.stable_diffusion()
widget = dv.DiffVis(pipe, prompt="a red circle above a blue square", steps={STEPS}, seed=7)
widget
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Voila server with the notebook, on a free port of this machine."""
    folder: Path = tmp_path_factory.mktemp("voila")
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(CODE)],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    nbformat.write(notebook, folder / "app.ipynb")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "IPYTHON"))}
    environment |= {
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "IPYTHONDIR": str(folder / "ipython"),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "voila", "app.ipynb", "--no-browser", f"--port={port}", "--Voila.ip=127.0.0.1"]
    server = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines: list[str] = []
    ready = threading.Event()

    def read() -> None:
        assert server.stdout is not None
        for line in server.stdout:
            lines.append(line)
            if f":{port}" in line:
                ready.set()
        ready.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert ready.wait(START_SECONDS), "".join(lines)
        assert server.poll() is None, "".join(lines)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)
        reader.join()
        assert server.stdout is not None
        server.stdout.close()


def test_a_run_is_shown_live_scrubs_and_runs_again(browser: Browser, address: str) -> None:
    context = browser.new_context(reduced_motion="reduce", viewport={"width": 1100, "height": 1300})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.route(re.compile(r"^https?://(?!127\.0\.0\.1)"), lambda route: route.abort())
    try:
        page.goto(address)
        widget = page.locator(".dv").first
        status = widget.get_by_test_id("status")
        expect(status).to_have_attribute("data-status", "done", timeout=PATIENCE)
        scrub(widget, STEPS)
        pick(widget, 3, "circle")
        field = widget.get_by_test_id("prompt-input")
        field.fill("a green star")
        field.press("Enter")
        expect(widget.get_by_test_id("chip-2")).to_contain_text("green")
        expect(status).to_have_attribute("data-status", "done")
        scrub(widget, STEPS)
        assert not errors, errors
    finally:
        context.close()
