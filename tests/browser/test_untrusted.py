"""A notebook that somebody else made, in a JupyterLab that does not trust it yet."""

from __future__ import annotations

import nbformat
from playwright.sync_api import Browser, expect

import diffvis_widget as dv
from diffvis_widget.export.static_output import TRUST, StaticOutput
from tests import pipelines
from tests.browser.hosts import inside, scrub
from tests.browser.lab import Lab, open_notebook

HOSTILE = '"><img src=x onerror=alert(1)> <script>alert(1)</script>'


def sent(lab: Lab, prompt: str) -> str:
    """A notebook with a stored output that this JupyterLab has not made."""
    trace = dv.trace(pipelines.stable_diffusion(), prompt, seed=1, num_inference_steps=3)
    bundle = StaticOutput(trace, layers=False, height=700)._repr_mimebundle_()
    output = nbformat.v4.new_output("execute_result", data=bundle, execution_count=1)
    name = lab.add("sent.ipynb", "widget.static()")
    notebook = nbformat.read(lab.folder / name, 4)
    notebook.cells[0].outputs = [output]
    nbformat.write(notebook, lab.folder / name)
    return name


def test_a_static_output_shows_a_filmstrip_and_how_to_trust_it(browser: Browser, lab: Lab) -> None:
    with open_notebook(browser, lab, sent(lab, "a red circle")) as notebook:
        shown = notebook.output(0)
        strip = shown.locator("img")
        expect(strip).to_be_visible()
        assert strip.evaluate("async (image) => (await image.decode(), image.naturalWidth)") > 200
        expect(shown.get_by_text("DiffVis: “a red circle”, 3 of 3 steps")).to_be_visible()
        expect(shown.get_by_text(TRUST)).to_be_visible()
        assert shown.locator("iframe").count() == 0

        notebook.command("notebook:trust", wait=False)
        notebook.page.locator(".jp-Dialog .jp-mod-accept").click()
        scrub(inside(shown), 3)
        expect(shown.get_by_text(TRUST)).to_be_hidden()
        expect(strip).to_be_hidden()


def test_the_text_of_a_prompt_stays_text(browser: Browser, lab: Lab) -> None:
    with open_notebook(browser, lab, sent(lab, HOSTILE)) as notebook:
        shown = notebook.output(0)
        expect(shown.get_by_text(HOSTILE)).to_be_visible()
        assert shown.locator("img").count() == 1
