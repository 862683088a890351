"""Voila in a real browser: a notebook as an application, live, with the widget's state and no code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, expect

from tests.browser.app_server import open_app, serve_app
from tests.browser.hosts import pick, scrub
from tests.browser.lab import PATIENCE, jupyter_environment

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
    arguments = ["voila", "app.ipynb", "--no-browser", "--port={port}", "--Voila.ip=127.0.0.1"]
    with serve_app(arguments, folder, jupyter_environment(folder)) as address:
        yield address


def test_a_run_is_shown_live_scrubs_and_runs_again(browser: Browser, address: str) -> None:
    with open_app(browser, address) as page:
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
