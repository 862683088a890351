"""marimo in a real browser: the widget in its shadow root, live, and Python's traits as marimo sees them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.app_server import open_app, serve_app
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
    home = {name: str(folder) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME")}
    environment = {**os.environ, **home, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    arguments = ["marimo", "run", "app.py", "--headless", "--no-token", "--port", "{port}"]
    with serve_app(arguments, folder, environment) as address:
        yield address


def test_a_run_is_shown_live_and_scrubs(browser: Browser, address: str) -> None:
    with open_app(browser, address) as page:
        widget = page.locator(".dv").first
        expect(widget.get_by_test_id("status")).to_have_attribute("data-status", "done", timeout=PATIENCE)
        assert widget.evaluate("(el) => el.getRootNode() instanceof ShadowRoot")
        scrub(widget, STEPS)
        pick(widget, 3, "circle")
        widget.get_by_test_id("slider").press("Home")
        expect(page.get_by_text("looking at step 0")).to_be_visible()
        widget.get_by_test_id("run").click()
        expect(widget.get_by_test_id("status")).to_have_attribute("data-status", "done", timeout=PATIENCE)
