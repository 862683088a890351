"""The drawer Places in a real browser: what a clicked place attends to, with a kernel and in an offline page."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Browser, Locator, Page, expect

import diffvis_widget as dv
from diffvis_widget.tracer import Tracer
from diffvis_widget.traces import ImageAttention, Trace
from diffvis_widget.widget.widget import DiffVis
from tests.browser.live_page import open_live
from tests.browser.painting import opened
from tests.pipelines_edit import EDITING

TIMEOUT = 60_000  # milliseconds
PROMPT = "A tiny red circle, above a blue square"


def click(page: Page, view: Locator, u: float, v: float) -> None:
    """Clicks a place of the image, which is square."""
    box = view.get_by_test_id("stage").locator("canvas").first.bounding_box()
    assert box is not None
    side = min(box["width"], box["height"])
    page.mouse.click(box["x"] + box["width"] / 2 + (u - 0.5) * side, box["y"] + box["height"] / 2 + (v - 0.5) * side)


def figures(view: Locator) -> Locator:
    return view.locator(".dv-places figure")


def until_other(page: Page, canvas: Locator, before: str) -> str:
    """The pixels of a canvas, once they are others."""
    page.wait_for_function("([canvas, before]) => canvas.toDataURL() !== before", arg=[canvas.element_handle(), before])
    return canvas.evaluate("(canvas) => canvas.toDataURL()")


@pytest.fixture(scope="module")
def edited() -> tuple[object, Trace]:
    case = EDITING["klein-two"]
    pipe = case.build()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Tracer(pipe) as tracer:
            pipe(prompt=PROMPT, generator=torch.Generator().manual_seed(1), **case.arguments)
    return pipe, tracer.trace


def test_a_clicked_place_shows_what_it_attends_to(browser: Browser) -> None:
    widget = DiffVis(dv.load(), prompt="a red circle above a blue square", seed=7, steps=3)
    with open_live(browser) as live:
        view = live.show(widget)
        expect(view.get_by_test_id("status")).to_have_attribute("data-status", "done", timeout=TIMEOUT)
        view.get_by_test_id("places").click()
        expect(view.get_by_test_id("places-view")).to_contain_text("Click a place of the image", timeout=TIMEOUT)
        click(live.page, view, 0.5, 0.3)
        expect(figures(view)).to_have_count(1, timeout=TIMEOUT)
        expect(view.get_by_test_id("places-view")).to_contain_text("at step 3")
        canvas = figures(view).locator("canvas")
        first = until_other(live.page, canvas, "")
        click(live.page, view, 0.35, 0.65)  # not under the readout, which moves away from the pointer
        second = until_other(live.page, canvas, first)
        view.get_by_test_id("slider").press("Home")
        expect(view.get_by_test_id("places-view")).to_contain_text("at step 1", timeout=TIMEOUT)
        until_other(live.page, canvas, second)
        live.close(widget)


def test_references_are_shown_with_their_shares(browser: Browser, edited: tuple[object, Trace]) -> None:
    _, trace = edited
    widget = DiffVis(trace)
    with open_live(browser, theme="dark") as live:
        view = live.show(widget)
        view.get_by_test_id("places").click()
        click(live.page, view, 0.5, 0.5)
        expect(figures(view)).to_have_count(3, timeout=TIMEOUT)
        shares = [trace.attention_from((0.5, 0.5), 1, to=to).sum() for to in ("image", "reference 0", "reference 1")]
        names = ("The image", "Reference 1", "Reference 2")
        for figure, name, share in zip(figures(view).all(), names, shares, strict=True):
            expect(figure).to_contain_text(f"{name} {share * 100:.0f} %")
        expect(view.get_by_test_id("places-view")).to_contain_text("Of the attention of this place: the text")
        live.close(widget)


def test_a_run_without_a_model_says_so(browser: Browser, edited: tuple[object, Trace], tmp_path: Path) -> None:
    _, trace = edited
    widget = DiffVis(dv.open_trace(trace.save(tmp_path / "run.safetensors")))
    with open_live(browser) as live:
        view = live.show(widget)
        view.get_by_test_id("places").click()
        click(live.page, view, 0.5, 0.5)
        expect(view.get_by_test_id("places-view")).to_contain_text("no live pipeline", timeout=TIMEOUT)
        live.close(widget)


def test_an_offline_page_shows_what_it_holds(browser: Browser, edited: tuple[object, Trace], tmp_path: Path) -> None:
    _, trace = edited
    trace.keep_attention([1])
    path = dv.to_html(trace, tmp_path / "run.html")
    trace.results(ImageAttention).clear()
    context = browser.new_context(offline=True, viewport={"width": 800, "height": 1200})
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(path.as_uri())
    view = page.locator(".dv").first
    view.get_by_test_id("places").click()
    click(page, view, 0.5, 0.5)
    expect(figures(view)).to_have_count(3, timeout=TIMEOUT)
    share = trace.attention_from((0.5, 0.5), 1, to="reference 1").sum()
    expect(figures(view).nth(2)).to_contain_text(f"Reference 2 {share * 100:.0f} %")
    view.get_by_test_id("slider").press("Home")
    expect(view.get_by_test_id("places-view")).to_contain_text("does not hold", timeout=TIMEOUT)
    assert not errors
    context.close()


def test_a_page_that_holds_no_rows_does_not_offer_it(browser: Browser, tmp_path: Path) -> None:
    trace = dv.trace(dv.load(), "a red circle", seed=7, num_inference_steps=2)
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto(dv.to_html(trace, tmp_path / "run.html").as_uri())
    expect(page.locator(".dv").first.get_by_test_id("tables")).to_be_visible()
    expect(page.locator(".dv").first.get_by_test_id("places")).to_have_count(0)
    context.close()


def test_a_page_that_paints_shows_what_it_holds_of_a_recorded_run(browser: Browser, tmp_path: Path) -> None:
    trace = dv.trace(dv.load(), "a red circle above a blue square", seed=3, num_inference_steps=2)
    trace.keep_attention([1])
    with opened(browser, dv.to_html(trace, tmp_path / "run.html", live=True)) as shown:
        view, places = shown.widget, shown.widget.get_by_test_id("places-view")
        view.get_by_test_id("places").click()
        click(shown.page, view, 0.5, 0.3)
        expect(places).to_contain_text("What the place attends to at step 2", timeout=TIMEOUT)
        expect(places).to_contain_text("mean over the default layers")  # Python's, where the engine reads one layer
        view.get_by_test_id("slider").press("Home")
        expect(places).to_contain_text("does not hold", timeout=TIMEOUT)
        view.get_by_role("button", name="Run", exact=True).click(timeout=TIMEOUT)
        shown.expect_status("done")
        click(shown.page, view, 0.5, 0.3)
        expect(places).to_contain_text("in its last layer on the finest grid", timeout=TIMEOUT)


def test_a_page_that_paints_says_what_to_do_with_a_recorded_run(browser: Browser, tmp_path: Path) -> None:
    trace = dv.trace(dv.load(), "a red circle", seed=7, num_inference_steps=2)
    with opened(browser, dv.to_html(trace, tmp_path / "run.html", live=True)) as shown:
        shown.widget.get_by_test_id("places").click(timeout=TIMEOUT)
        click(shown.page, shown.widget, 0.5, 0.3)
        expect(shown.widget.get_by_test_id("places-view")).to_contain_text("press Run to paint it", timeout=TIMEOUT)
