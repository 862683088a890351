"""A video in the page: frames and steps are scrubbed, played and read, and the words say when they are attended to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect

import diffvis_widget as dv
from tests.moving_video import moving_video

AXE = Path(__file__).parent.parent.parent / "js" / "node_modules" / "axe-core" / "axe.min.js"
STAGE = "() => document.querySelector('[data-testid=stage] canvas').toDataURL()"
CHANGES = "(before) => document.querySelector('[data-testid=stage] canvas').toDataURL() !== before"


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    path = dv.to_html(moving_video(), tmp_path / "video.html")
    page = browser.new_page(viewport={"width": 760, "height": 900})
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(path.as_uri())
    expect(page.get_by_test_id("frame-slider")).to_be_visible()
    yield page
    page.close()
    assert problems == []


def test_frames_are_scrubbed_by_pointer_and_keys(page: Page) -> None:
    slider, readout = page.get_by_test_id("frame-slider"), page.get_by_test_id("frame-readout")
    expect(readout).to_have_text("latent frame 1 / 7 · frame 1 of 25")
    # nothing was measured, and this page holds nothing that could measure
    concepts = page.get_by_role("region", name="Concepts")
    expect(concepts).to_have_text("ConceptsThe concepts of this run were not measured.")
    before = page.evaluate(STAGE)
    slider.focus()
    page.keyboard.press("ArrowRight")
    expect(readout).to_have_text("latent frame 2 / 7 · frames 2–5 of 25")
    page.wait_for_function(CHANGES, arg=before)
    page.keyboard.press("End")
    expect(slider).to_have_attribute("aria-valuetext", "Latent frame 7 of 7, frames 22 to 25 of the video")
    bounds = slider.bounding_box()
    assert bounds is not None
    page.mouse.click(bounds["x"] + bounds["width"] * 0.5, bounds["y"] + 10)
    expect(slider).to_have_attribute("aria-valuenow", "4")
    page.get_by_test_id("slider").focus()
    page.keyboard.press(".")
    expect(slider).to_have_attribute("aria-valuenow", "5")
    page.keyboard.press(",")
    expect(slider).to_have_attribute("aria-valuenow", "4")
    # the steps keep the frame
    page.keyboard.press("Home")
    expect(page.get_by_test_id("slider")).to_have_attribute("aria-valuenow", "1")
    expect(slider).to_have_attribute("aria-valuenow", "4")


def test_the_heat_map_follows_the_ball(page: Page) -> None:
    """Each frame has its own heat map on the stage, and the row of the word names the value of each."""
    row = page.locator(".dv-when canvas").nth(1)
    expect(row).to_have_attribute("aria-label", re.compile(r"^ball at step 6, by frame: (0\.0\d+, ){6}0\.0\d+$"))
    page.get_by_test_id("chip-1").click()
    page.mouse.move(2, 2)
    shown: list[str] = []
    for frame in range(3):
        page.get_by_test_id("frame-slider").focus()
        page.keyboard.press("Home")
        for _ in range(frame):
            page.keyboard.press("ArrowRight")
        expect(page.get_by_test_id("frame-slider")).to_have_attribute("aria-valuenow", str(frame + 1))
        shown.append(page.evaluate(STAGE))
    assert len(set(shown)) == 3


def test_the_video_plays_and_the_steps_too(page: Page) -> None:
    slider, readout = page.get_by_test_id("frame-slider"), page.get_by_test_id("frame-readout")
    page.get_by_role("button", name="Play the frames").click()
    # at the last step every frame of the video is shown, not only one for each latent frame
    page.wait_for_function(
        "() => /frame (3|4|5) of 25/.test(document.querySelector('[data-testid=frame-readout]').textContent)"
    )
    page.get_by_role("button", name="Pause the frames").click()
    slider.focus()
    page.keyboard.press("End")
    expect(readout).to_contain_text("latent frame 7 / 7")
    page.get_by_test_id("slider").focus()
    page.keyboard.press("Home")
    page.get_by_role("button", name="Steps too").click()
    page.get_by_role("button", name="Play the frames").click()
    expect(page.get_by_test_id("slider")).to_have_attribute("aria-valuenow", "2")
    page.get_by_role("button", name="Pause the frames").click()


def test_a_click_on_a_words_strip_goes_to_the_frame(page: Page) -> None:
    strip = page.locator(".dv-when-strip").nth(5)
    bounds = strip.bounding_box()
    assert bounds is not None
    page.mouse.click(bounds["x"] + bounds["width"] * 0.93, bounds["y"] + 5)
    expect(page.get_by_test_id("frame-slider")).to_have_attribute("aria-valuenow", "7")
    page.locator(".dv-when-word", has_text="late").click()
    expect(page.get_by_test_id("chip-5")).to_have_attribute("aria-pressed", "true")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(browser: Browser, tmp_path: Path, theme: Literal["light", "dark"]) -> None:
    page = browser.new_page(viewport={"width": 760, "height": 900}, color_scheme=theme, bypass_csp=True)
    page.goto(dv.to_html(moving_video(steps=2), tmp_path / "video.html").as_uri())
    expect(page.get_by_test_id("frame-slider")).to_be_visible()
    page.add_script_tag(path=AXE)
    rules = "async () => (await axe.run('.dv')).violations.map(({ id, nodes }) => id + ' ' + nodes[0].html)"
    assert page.evaluate(rules) == []
    page.close()
