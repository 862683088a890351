"""Notebook 7 in a real browser: live, then saved and opened again by a kernel that knows nothing of the run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from playwright.sync_api import Browser, Page, expect

from tests.browser.hosts import inside, pick, scrub
from tests.browser.lab import PATIENCE, Lab

STEPS = 4
CELLS = [
    "import diffvis_widget as dv\nfrom tests import pipelines\npipe = pipelines.stable_diffusion()",
    f'widget = dv.DiffVis(pipe, prompt="a red circle above a blue square", steps={STEPS}, seed=7)\nwidget',
    "widget.static(height=700)",
]
READY = """() => {
    const shown = window.jupyterapp?.shell?.currentWidget;
    return shown?.content?.model?.cells?.length > 0 && shown.sessionContext?.session?.kernel?.status === 'idle';
}"""


@contextlib.contextmanager
def opened(browser: Browser, lab: Lab, name: str) -> Iterator[Page]:
    context = browser.new_context(reduced_motion="reduce", viewport={"width": 1100, "height": 1300})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    foreign: list[str] = []
    local = (lab.address, lab.address.replace("http", "ws", 1), "data:", "blob:", "about:")
    page.on("request", lambda request: None if request.url.startswith(local) else foreign.append(request.url))
    try:
        page.goto(f"{lab.address}/notebooks/{name}?token={lab.token}")
        page.wait_for_function(READY)
        yield page
        assert not foreign, foreign
    finally:
        with contextlib.suppress(Exception):
            page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        context.close()


def command(page: Page, name: str) -> None:
    page.evaluate("async (name) => { await window.jupyterapp.commands.execute(name); }", name)


def test_a_run_live_and_its_static_output_without_a_kernel(browser: Browser, lab: Lab) -> None:
    name = lab.add("classic.ipynb", *CELLS)
    with opened(browser, lab, name) as page:
        command(page, "notebook:run-all-cells")
        widget = page.locator(".dv").first
        expect(widget.get_by_test_id("status")).to_have_attribute("data-status", "done", timeout=PATIENCE)
        scrub(widget, STEPS)
        pick(widget, 3, "circle")
        page.keyboard.press("d")  # twice would delete the cell, were it the notebook's
        page.keyboard.press("d")
        cells = page.evaluate("() => window.jupyterapp.shell.currentWidget.content.model.cells.length")
        assert cells == len(CELLS)
        expect(page.locator("iframe[title=diffvis_widget]")).to_be_visible()
        command(page, "docmanager:save")
    with opened(browser, lab, name) as page:
        still = inside(page)
        scrub(still, STEPS)
        pick(still, 3, "circle")
