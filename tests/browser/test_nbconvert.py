"""A notebook that nbconvert executes and makes a page of: widget and static output scrub, and there is a still."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import anywidget
import nbformat
import pytest
from playwright.sync_api import Browser, Route

from diffvis_widget.wire import images as image_codec
from tests import html_manager
from tests.browser.hosts import inside, pick, scrub
from tests.browser.lab import ROOT

STEPS = 4
CELLS = [
    "import diffvis_widget as dv\nfrom tests import pipelines\npipe = pipelines.stable_diffusion()",
    f'widget = dv.DiffVis(pipe, prompt="a red circle above a blue square", steps={STEPS}, seed=7)\nwidget',
    "trace = widget.trace\nprint(len(trace.steps))",
    "widget.static(height=700)",
]
# The page of nbconvert loads these; here they come from the packages themselves.
SCRIPTS = {
    "require": lambda: html_manager.find(html_manager.REQUIRE),
    "html-manager": lambda: html_manager.find(html_manager.MANAGER),
    "anywidget": lambda: Path(anywidget.__file__).parent / "nbextension" / "index.js",
}


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A notebook, executed and saved by nbconvert, and beside it the page made of it."""
    folder = tmp_path_factory.mktemp("nbconvert")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    nbformat.write(notebook, folder / "run.ipynb")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "IPYTHONDIR": str(folder / "ipython")}
    environment |= {name: str(folder / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR")}
    convert = [sys.executable, "-m", "jupyter", "nbconvert"]
    for arguments in (["--execute", "--to", "notebook", "--inplace"], ["--to", "html"]):
        command = [*convert, *arguments, str(folder / "run.ipynb")]
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return folder / "run.ipynb"


def test_hosts_without_widgets_get_a_still(executed: Path) -> None:
    cells = nbformat.read(executed, as_version=4).cells
    for index in (1, 3):
        (output,) = [output for output in cells[index].outputs if output.output_type == "execute_result"]
        text = output.data["text/plain"]
        assert text.startswith(f"DiffVis: “a red circle above a blue square”, {STEPS} of {STEPS} steps, seed 7"), text
        strip = image_codec.read(base64.b64decode(output.data["image/png"]))
        assert strip.width > STEPS * 96
    assert cells[2].outputs[0].text.strip() == str(STEPS)


def test_the_page_scrubs(browser: Browser, executed: Path) -> None:
    context = browser.new_context(reduced_motion="reduce", viewport={"width": 1000, "height": 1400})
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))

    def serve(route: Route) -> None:
        script = next((path() for part, path in SCRIPTS.items() if part in route.request.url), None)
        if script is None:
            route.abort()  # MathJax and the like: nothing of ours needs them
        else:
            route.fulfill(path=script, content_type="text/javascript")

    page.route("https://**/*", serve)
    try:
        page.goto(executed.with_suffix(".html").as_uri())
        widget = page.locator(".dv").first
        scrub(widget, STEPS)
        pick(widget, 3, "circle")
        still = inside(page)
        scrub(still, STEPS)
        pick(still, 3, "circle")
        assert not errors, errors
    finally:
        context.close()
