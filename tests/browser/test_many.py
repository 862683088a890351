"""Twenty widgets on one page, and what is left of them in the kernel and in the page when they are closed."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

from playwright.sync_api import Browser, CDPSession, expect

from diffvis_widget.widget.widget import DiffVis
from tests import pipelines
from tests.browser.bare import a_run, open_bare
from tests.browser.live_page import LivePage, open_live

MANY, STEPS = 20, 3
VIEW = """async (drawer) => {
    const frames = async (n) => { while (n-- > 0) await new Promise(requestAnimationFrame); };
    const stop = window.show();
    const el = [...document.querySelectorAll('.dv')].at(-1);
    await frames(2);
    el.querySelector('[data-testid=chip-1]').click();
    el.querySelector(`[data-testid=${drawer}]`).click();
    await frames(4);
    stop();
}"""


def canvases(cdp: CDPSession) -> int:
    """How many the page holds, on it or not, after its garbage is gone."""
    for _ in range(3):
        cdp.send("HeapProfiler.collectGarbage")
    made = cdp.send("Runtime.evaluate", {"expression": "HTMLCanvasElement.prototype"})["result"]["objectId"]
    objects = cdp.send("Runtime.queryObjects", {"prototypeObjectId": made})["objects"]["objectId"]
    count = {"objectId": objects, "functionDeclaration": "function () { return this.length; }"}
    count_in_page = cdp.send("Runtime.callFunctionOn", {**count, "returnByValue": True})["result"]["value"]
    cdp.send("Runtime.releaseObject", {"objectId": objects})
    return count_in_page


def use(live: LivePage, pipe: Any) -> tuple[list[DiffVis], list[weakref.ref[Any]]]:
    widgets = [DiffVis(pipe, prompt=f"a red circle {number}", steps=STEPS, seed=number) for number in range(MANY)]
    for widget in widgets:
        view = live.show(widget)
        expect(view.get_by_test_id("status")).to_have_attribute("data-status", "done", timeout=60_000)
        expect(view.get_by_test_id("slider")).to_have_attribute("aria-valuemax", str(STEPS))
        view.get_by_test_id("slider").press("Home")
    held = [part for widget in widgets for part in (widget, widget._session, widget.trace)]
    return widgets, [weakref.ref(part) for part in held]


def own_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("diffvis")]


def test_the_kernel_lets_go_of_twenty_widgets_that_are_closed(browser: Browser) -> None:
    pipe = pipelines.stable_diffusion()
    with open_live(browser) as live:
        widgets, references = use(live, pipe)
        assert len(own_threads()) >= MANY
        while widgets:
            live.close(widgets.pop())
        for thread in own_threads():
            thread.join(60)
        live.page.wait_for_function("() => Object.keys(window.dvClose).length === 0")
        # the page's last questions, which are on their way, hold whom they ask
        for _ in range(200):
            gc.collect()
            if all(reference() is None for reference in references):
                break
            live.page.wait_for_timeout(50)
        assert [reference() for reference in references if reference() is not None] == []
        for thread in own_threads():  # what the last messages began
            thread.join(60)
        assert own_threads() == []


def test_the_page_lets_go_of_twenty_views_that_are_closed(browser: Browser) -> None:
    with open_bare(browser, a_run(), concepts=["circle", "red"]) as bare:
        bare.frames(4)
        cdp = bare.page.context.new_cdp_session(bare.page)
        before = canvases(cdp)
        assert before > 0
        for number in range(MANY):
            bare.page.evaluate(VIEW, ("layers", "tables", "export", "notes")[number % 4])
        assert canvases(cdp) <= before + 6, "at most the view that was closed last is still on its way out"


def test_a_page_keeps_nothing_of_live_widgets_that_are_closed(browser: Browser) -> None:
    """Each has a script of its own, which the page never forgets: nothing may hang on what is in it."""
    pipe = pipelines.stable_diffusion()
    with open_live(browser) as live:
        cdp = live.page.context.new_cdp_session(live.page)
        for drawer in ("layers", "methods", "compare", "runs", "tables", "notes", "export"):
            widget = DiffVis(pipe, prompt="a red circle", steps=STEPS)
            view = live.show(widget)
            expect(view.get_by_test_id("status")).to_have_attribute("data-status", "done", timeout=60_000)
            expect(view.get_by_test_id("slider")).to_have_attribute("aria-valuemax", str(STEPS))
            view.get_by_test_id(drawer).click()
            expect(view.locator(f".dv-drawers > .dv-{drawer}")).to_be_visible()
            live.close(widget)
        live.page.wait_for_function("() => Object.keys(window.dvClose).length === 0")
        for _ in range(100):  # a question that is on its way, and its answer, hold the view
            if canvases(cdp) == 0:
                break
            live.page.wait_for_timeout(100)
        assert canvases(cdp) == 0
