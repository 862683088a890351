"""A notebook that was saved with its widgets' state and is opened again by a kernel that knows nothing of the run."""

from __future__ import annotations

import json

from playwright.sync_api import Browser, expect

from tests.browser.lab import Lab, Notebook, open_notebook

SETUP = """
import diffvis_widget as dv
from tests import pipelines

pipe = pipelines.stable_diffusion()
"""
SHOW = """
widget = dv.DiffVis(pipe, prompt="a red circle above a blue square", steps=5, seed=7)
widget
"""
WAIT = "len(widget.trace.steps)"
GAVE_UP = "Error displaying widget: model not found"
RELOADS = 5
PIXELS = "(canvas) => canvas.toDataURL()"


def test_a_saved_notebook_scrubs_without_its_kernel(browser: Browser, lab: Lab) -> None:
    lab.save_widget_state()
    name = lab.add("saved.ipynb", SETUP, SHOW, WAIT)
    with open_notebook(browser, lab, name) as notebook:
        notebook.run_all()
        status = notebook.widget.get_by_test_id("status")
        expect(status).to_have_attribute("data-status", "done", timeout=600_000)
        notebook.idle()
        notebook.command("docmanager:save")
    # the kernel is shut down now; what is left of the run is in the file
    saved = json.loads((lab.folder / name).read_text(encoding="utf-8"))
    states = saved["metadata"]["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    assert any("_esm" in entry["state"] for entry in states.values())
    with open_notebook(browser, lab, name) as notebook:
        _until_the_host_shows_it(notebook)
        slider = notebook.widget.get_by_test_id("slider")
        expect(slider).to_have_attribute("aria-valuemax", "5", timeout=60_000)
        stage = notebook.widget.get_by_test_id("stage").locator("canvas")
        last = stage.evaluate(PIXELS)
        slider.focus()
        slider.press("Home")
        expect(slider).to_have_attribute("aria-valuenow", "1")
        notebook.page.wait_for_function(
            "(last) => document.querySelector('[data-testid=stage] canvas').toDataURL() !== last", arg=last
        )
        notebook.widget.get_by_test_id("chip-3").click()
        expect(notebook.widget.locator(".dv-bar-name")).to_have_text("circle")


def _until_the_host_shows_it(notebook: Notebook) -> None:
    """JupyterLab waits two seconds for a saved widget and then says, for good, that it knows no such model.

    Where its kernel starts slowly that is too short: a person reloads the page, and so does this.
    """
    gave_up = notebook.page.get_by_text(GAVE_UP)
    for _ in range(RELOADS):
        expect(notebook.widget.or_(gave_up).first).to_be_visible(timeout=60_000)
        if not gave_up.is_visible():
            return
        notebook.errors[:] = [error for error in notebook.errors if "widget model not found" not in error]
        notebook.reload()
    raise AssertionError(f"JupyterLab said {RELOADS} times: {GAVE_UP}")
