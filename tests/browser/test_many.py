"""Twenty widgets on one page, live, and what is left of them in page and kernel when they are closed."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

from playwright.sync_api import Browser, CDPSession, expect

from diffvis_widget.widget.widget import DiffVis
from tests import pipelines
from tests.browser.live_page import LivePage, open_live

MANY, STEPS = 20, 3
COUNTED = ("HTMLCanvasElement", "ImageBitmap", "OffscreenCanvas", "HTMLDivElement")


def used(live: LivePage, cdp: CDPSession) -> dict[str, float]:
    """What the page holds after its garbage is gone: DOM nodes, listeners, objects by class, bytes of the heap."""
    for _ in range(3):
        cdp.send("HeapProfiler.collectGarbage")
    metrics = {one["name"]: one["value"] for one in cdp.send("Performance.getMetrics")["metrics"]}
    found = {name: metrics[name] for name in ("Nodes", "JSEventListeners", "JSHeapUsedSize")}
    for name in COUNTED:
        made = cdp.send("Runtime.evaluate", {"expression": f"{name}.prototype"})["result"]["objectId"]
        objects = cdp.send("Runtime.queryObjects", {"prototypeObjectId": made})["objects"]["objectId"]
        count = {"objectId": objects, "functionDeclaration": "function () { return this.length; }"}
        found[name] = cdp.send("Runtime.callFunctionOn", {**count, "returnByValue": True})["result"]["value"]
        cdp.send("Runtime.releaseObject", {"objectId": objects})
    return found


def use(live: LivePage, pipe: Any, count: int) -> tuple[list[DiffVis], list[weakref.ref[Any]]]:
    """So many widgets, each run, scrubbed and with two of its drawers open."""
    widgets = [
        DiffVis(pipe, prompt=f"a red circle {number}", steps=STEPS, seed=number, concepts=["red"])
        for number in range(count)
    ]
    for widget in widgets:
        view = live.show(widget)
        expect(view.get_by_test_id("status")).to_have_attribute("data-status", "done", timeout=60_000)
        expect(view.get_by_test_id("slider")).to_have_attribute("aria-valuemax", str(STEPS))
        view.get_by_test_id("slider").press("Home")
        view.get_by_test_id("chip-2").click()
        for drawer in ("layers", "export"):
            view.get_by_test_id(drawer).click()
        expect(view.locator(".dv-layers .dv-tile")).not_to_have_count(0)
        expect(view.get_by_test_id("export-png")).to_be_visible()
    held = [part for widget in widgets for part in (widget, widget._session, widget.trace)]
    return widgets, [weakref.ref(part) for part in held]


def closed(live: LivePage, widgets: list[DiffVis]) -> None:
    for widget in widgets:
        live.close(widget)
    widgets.clear()
    for thread in own_threads():
        thread.join(60)


def own_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("diffvis")]


def test_memory_returns_when_twenty_widgets_are_closed(browser: Browser) -> None:
    pipe = pipelines.stable_diffusion()
    with open_live(browser) as live:
        cdp = live.page.context.new_cdp_session(live.page)
        cdp.send("Performance.enable")
        widgets, kept = use(live, pipe, 2)  # what is made once stays: it is there before and after
        closed(live, widgets)
        before = used(live, cdp)
        widgets, held = use(live, pipe, MANY)
        kept += held
        assert len(own_threads()) >= MANY
        most = used(live, cdp)
        closed(live, widgets)
        after = used(live, cdp)
        gc.collect()
        assert [reference() for reference in kept if reference() is not None] == []
        assert own_threads() == []
        print(before, most, after)
        for name in ("HTMLCanvasElement", "ImageBitmap", "HTMLDivElement"):
            assert most[name] >= before[name] + MANY, name
            assert after[name] <= before[name], name
        for name in ("Nodes", "JSEventListeners", "OffscreenCanvas"):
            assert after[name] - before[name] <= 0.02 * (most[name] - before[name]), name
