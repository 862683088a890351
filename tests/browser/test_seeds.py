"""Nine seeds as a contact sheet, and sliders that answer with few steps first: with a kernel, and in a page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect

import diffvis_widget as dv
from diffvis_widget.widget.widget import DiffVis
from tests import pipelines
from tests.browser.live_page import LivePage, open_live
from tests.browser.painting import opened, set_steps

WAIT = 90_000
PROMPT = "a red circle"
PIXELS = """(canvas) => {
    const blank = Object.assign(document.createElement('canvas'), { width: canvas.width, height: canvas.height });
    const pixels = canvas.toDataURL();
    return pixels === blank.toDataURL() ? '' : pixels;
}"""


@pytest.fixture
def shown(browser: Browser) -> Iterator[tuple[LivePage, Locator, DiffVis]]:
    widget = DiffVis(pipelines.stable_diffusion(), prompt=PROMPT, steps=3, seed=5)
    with open_live(browser) as live:
        view = live.show(widget)
        expect(view.get_by_test_id("status")).to_have_attribute("data-status", "done", timeout=WAIT)
        yield live, view, widget
        live.close(widget)


def images(view: Locator) -> list[str]:
    return [canvas.evaluate(PIXELS) for canvas in view.locator(".dv-seed canvas").all()]


def check_sheet(view: Locator, steps: int) -> None:
    """All nine are painted, move with the slider, and each opens as a run."""
    seeds = view.locator(".dv-seed")
    expect(seeds).to_have_count(9, timeout=WAIT)
    expect(view.get_by_test_id("status")).to_have_attribute("data-status", "done", timeout=3 * WAIT)
    expect(seeds.nth(8)).to_have_attribute("aria-pressed", "true", timeout=WAIT)
    view.page.wait_for_function(
        f"() => [...document.querySelectorAll('.dv-seed canvas')].every((canvas) => ({PIXELS})(canvas) !== '')"
    )
    at_the_end = images(view)
    assert len(set(at_the_end)) == 9
    view.get_by_test_id("slider").press("Home")
    expect(view.get_by_test_id("slider")).to_have_attribute("aria-valuenow", "1")
    view.page.wait_for_function(
        f"""(before) => [...document.querySelectorAll('.dv-seed canvas')].every((canvas, i) => {{
            const now = ({PIXELS})(canvas);
            return now !== '' && now !== before[i];
        }})""",
        arg=at_the_end,
    )
    seeds.nth(2).click()
    expect(seeds.nth(2)).to_have_attribute("aria-pressed", "true", timeout=WAIT)
    expect(view.get_by_test_id("slider")).to_have_attribute("aria-valuemax", str(steps))


def test_nine_seeds_are_painted_side_by_side(shown: tuple[LivePage, Locator, DiffVis]) -> None:
    _, view, widget = shown
    view.get_by_test_id("runs").click()
    view.get_by_test_id("seeds").click()
    check_sheet(view, 3)
    expect(view.locator(".dv-seed .dv-num")).to_have_text([f"seed {seed}" for seed in range(5, 14)])
    assert (widget.seed, widget.trace.meta["seed"]) == (7, 7)


def test_a_page_that_is_opened_later_shows_the_sheet_too(shown: tuple[LivePage, Locator, DiffVis]) -> None:
    live, _, widget = shown
    live.leave(widget)
    seeds = [trace.meta["seed"] for trace in widget.seeds(3)]
    assert seeds == [5, 6, 7]
    view = live.show(widget)
    view.get_by_test_id("runs").click()
    expect(view.locator(".dv-seed")).to_have_count(3)
    live.page.wait_for_function(
        f"() => [...document.querySelectorAll('.dv-seed canvas')].every((canvas) => ({PIXELS})(canvas) !== '')"
    )
    assert len(set(images(view))) == 3


def test_stop_ends_all_seeds(shown: tuple[LivePage, Locator, DiffVis]) -> None:
    live, view, widget = shown
    set_steps(view, 60)
    view.get_by_test_id("runs").click()
    view.get_by_test_id("seeds").click()
    expect(view.locator(".dv-seed[aria-pressed=true]")).to_have_count(1, timeout=WAIT)
    view.get_by_test_id("stop").click()
    expect(view.get_by_test_id("status")).to_have_attribute("data-status", "stopped", timeout=WAIT)
    live.page.wait_for_timeout(500)  # nothing may begin now
    assert widget.status == "stopped"
    assert len(widget.history) == 2


def test_the_guidance_slider_answers_with_a_draft_first(shown: tuple[LivePage, Locator, DiffVis]) -> None:
    live, view, widget = shown
    lengths = list[int]()
    widget.observe(lambda _: lengths.append(widget._outbox.payload().run.content["steps"]), "progress")  # pyright: ignore[reportOptionalMemberAccess]
    set_steps(view, 12)
    view.get_by_test_id("runs").click()
    slider = view.get_by_test_id("guidance-slider")
    slider.fill("3")
    live.page.wait_for_function(
        "() => document.querySelector('[data-testid=slider]').getAttribute('aria-valuemax') === '12'", timeout=WAIT
    )
    expect(view.get_by_test_id("status")).to_have_attribute("data-status", "done", timeout=WAIT)
    assert widget.guidance_scale == 3
    assert widget.trace.meta["guidance_scale"] == 3
    assert [len(trace.steps) for trace in widget.history] == [3, 12]
    assert {8, 12} <= set(lengths)
    # A draft is no run to compare with: the one before is.
    view.get_by_test_id("compare").click()
    expect(view.locator(".dv-compare")).to_contain_text("guidance 7.5 → 3", timeout=WAIT)


def test_the_weight_slider_answers_with_a_draft_first(shown: tuple[LivePage, Locator, DiffVis]) -> None:
    _, view, widget = shown
    set_steps(view, 12)
    seen: list[object] = []
    widget.observe(lambda _: seen.append(widget._outbox.payload().run.content.get("draft")), "progress")  # pyright: ignore[reportOptionalMemberAccess]
    view.locator(".dv-chip", has_text="circle").click(button="right")
    view.get_by_test_id("word-popover").get_by_role("slider").fill("2")
    expect(view.get_by_test_id("slider")).to_have_attribute("aria-valuemax", "12", timeout=WAIT)
    expect(view.get_by_test_id("status")).to_have_attribute("data-status", "done", timeout=WAIT)
    assert True in seen
    assert widget.weights == {"circle": 2.0}
    assert [len(trace.steps) for trace in widget.history] == [3, 12]


def test_the_page_that_paints_has_seeds_and_drafts_too(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, dv.playground(tmp_path / "lab.html", prompt=PROMPT)) as page:
        view = page.widget
        page.expect_status("done")
        set_steps(view, 2)
        view.get_by_test_id("runs").click()
        view.get_by_test_id("seeds").click()
        check_sheet(view, 2)
        set_steps(view, 10)
        view.get_by_test_id("guidance-slider").fill("3")
        expect(view.get_by_test_id("slider")).to_have_attribute("aria-valuemax", "10", timeout=WAIT)
        page.expect_status("done")
        begun = [content for content, _ in page.received() if content["type"] == "run"][-2:]
        assert [(run["steps"], run.get("draft", False), run["guidance_scale"]) for run in begun] == [
            (8, True, 3),
            (10, False, 3),
        ]
