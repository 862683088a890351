"""marimo in a real browser: the widget in its shadow root, live, and Python's traits as marimo sees them."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.hosts import pick, scrub
from tests.browser.lab import PATIENCE, ROOT

STEPS = 4
APP = f"""
import marimo

app = marimo.App()


@app.cell
def _():
    import marimo as mo

    import diffvis_widget as dv
    from tests import pipelines

    pipe = pipelines.stable_diffusion()
    return dv, mo, pipe


@app.cell
def _(dv, mo, pipe):
    view = mo.ui.anywidget(dv.DiffVis(pipe, prompt="a red circle above a blue square", steps={STEPS}, seed=7))
    view
    return (view,)


@app.cell
def _(mo, view):
    mo.md(f"looking at step {{view.value.get('step')}}")


if __name__ == "__main__":
    app.run()
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A marimo server with the app, on a free port of this machine."""
    folder = tmp_path_factory.mktemp("marimo")
    (folder / "app.py").write_text(APP)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = {name: str(folder) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME")}
    environment = {**os.environ, **home, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "marimo", "run", "app.py", "--headless", "--no-token", "--port", str(port)]
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
        assert ready.wait(120), "".join(lines)
        assert server.poll() is None, "".join(lines)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)
        reader.join()
        assert server.stdout is not None
        server.stdout.close()


def test_a_run_is_shown_live_and_scrubs(browser: Browser, address: str) -> None:
    context = browser.new_context(reduced_motion="reduce", viewport={"width": 1100, "height": 1300})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.route(re.compile(r"^https?://(?!127\.0\.0\.1)"), lambda route: route.abort())
    try:
        page.goto(address)
        widget = page.locator(".dv").first
        expect(widget.get_by_test_id("status")).to_have_attribute("data-status", "done", timeout=PATIENCE)
        assert widget.evaluate("(el) => el.getRootNode() instanceof ShadowRoot")
        scrub(widget, STEPS)
        pick(widget, 3, "circle")
        widget.get_by_test_id("slider").press("Home")
        expect(page.get_by_text("looking at step 0")).to_be_visible()
        widget.get_by_test_id("run").click()
        expect(widget.get_by_test_id("status")).to_have_attribute("data-status", "done", timeout=PATIENCE)
        assert not errors, errors
    finally:
        context.close()
