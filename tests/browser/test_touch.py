"""Fingers in a real Chromium: tap, hold, drag and scroll, sent as the touch events of a screen."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, CDPSession, Locator, expect

from tests.browser.bare import Bare, a_run, open_bare, spots

PROMPT = "a red circle above a square"


@dataclass
class Finger:
    """One finger on the screen of a page."""

    session: CDPSession

    def _touch(self, kind: str, *points: tuple[float, float]) -> None:
        touches = [{"x": x, "y": y} for x, y in points]
        self.session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    def down(self, x: float, y: float) -> None:
        self._touch("touchStart", (x, y))

    def move(self, x: float, y: float) -> None:
        self._touch("touchMove", (x, y))

    def up(self) -> None:
        self._touch("touchEnd")


@contextlib.contextmanager
def touched(browser: Browser, width: int = 420, **options: Any) -> Iterator[tuple[Bare, Finger]]:
    with open_bare(browser, a_run(PROMPT), width=width, touch=True, **options) as bare:
        # Something to scroll to, below the widget.
        bare.page.add_style_tag(content="body{padding-bottom:1200px}")
        yield bare, Finger(bare.page.context.new_cdp_session(bare.page))


def spot(place: Locator, u: float = 0.5, v: float = 0.5) -> tuple[float, float]:
    box = place.bounding_box()
    assert box is not None
    return box["x"] + u * box["width"], box["y"] + v * box["height"]


def region_title(bare: Bare) -> Locator:
    return bare.widget.locator(".dv-maps h3")


def test_a_tap_on_the_image_reads_it_and_ranks_the_words_there_until_the_next_tap(browser: Browser) -> None:
    with touched(browser) as (bare, _):
        frame = bare.widget.locator(".dv-frame")
        bare.page.touchscreen.tap(*spot(frame, 0.51, 0.26))
        readout = bare.widget.locator(".dv-readout:not(.dv-preview)")
        expect(readout).to_contain_text("rgb")
        expect(readout).to_contain_text("at 32, 16")
        expect(region_title(bare)).to_have_text("Words this region attends to")
        bare.page.touchscreen.tap(*spot(bare.widget.locator(".dv-title h3").first))
        expect(readout).to_be_empty()


def test_holding_and_dragging_brushes_a_region_while_the_page_stays(browser: Browser) -> None:
    with touched(browser) as (bare, finger):
        frame = bare.widget.locator(".dv-frame")
        finger.down(*spot(frame, 0.2, 0.2))
        expect(region_title(bare)).to_have_text("Words this region attends to")
        for part in (0.3, 0.4, 0.5, 0.6, 0.7):
            finger.move(*spot(frame, part, part))
        finger.up()
        # 0.2 to 0.7 of eight cells: the second to the sixth, in both directions.
        means = spots(6, 8, 1.0)[:, 1:6, 1:6].mean(axis=(1, 2))
        first = bare.widget.locator(".dv-maps li").first
        expect(first.get_by_role("button")).to_have_attribute("data-testid", f"region-word-{means.argmax()}")
        assert float(first.locator(".dv-score").inner_text()) == pytest.approx(means.max(), rel=0.05)
        assert bare.page.evaluate("() => window.scrollY") == 0


def test_a_finger_that_moves_at_once_scrolls_the_page_and_selects_nothing(browser: Browser) -> None:
    with touched(browser) as (bare, finger):
        x, y = spot(bare.widget.locator(".dv-frame"), 0.5, 0.8)
        finger.down(x, y)
        for step in range(1, 12):
            finger.move(x, y - 20 * step)
        finger.up()
        bare.page.wait_for_function("() => window.scrollY > 50")
        expect(region_title(bare)).to_have_text("Heat map of each word")
        expect(bare.widget.locator(".dv-readout:not(.dv-preview)")).to_be_empty()


def test_holding_a_word_offers_to_add_its_map_to_another_one(browser: Browser) -> None:
    with touched(browser) as (bare, finger):
        bare.page.touchscreen.tap(*spot(bare.widget.get_by_test_id("chip-2")))
        expect(bare.widget.get_by_test_id("chip-2")).to_have_attribute("aria-pressed", "true")
        finger.down(*spot(bare.widget.get_by_test_id("chip-5")))
        popover = bare.widget.get_by_test_id("word-popover")
        expect(popover).to_be_visible()
        finger.up()
        expect(bare.widget.get_by_test_id("chip-5")).to_have_attribute("aria-pressed", "false")
        bare.page.touchscreen.tap(*spot(popover.get_by_test_id("add-map")))
        expect(popover).to_have_count(0)
        for chip in ("chip-2", "chip-5"):
            expect(bare.widget.get_by_test_id(chip)).to_have_attribute("aria-pressed", "true")
        expect(bare.widget.locator(".dv-bar-name")).to_have_text(["circle", "square"])


@pytest.mark.parametrize(("place", "text"), [(".dv-spark", "at step 4: 0.22"), (".dv-slider", "step 4 · t = ")])
def test_a_tap_on_a_curve_or_the_film_reads_its_value(browser: Browser, place: str, text: str) -> None:
    with touched(browser, concepts=["circle", "red"]) as (bare, _):
        note = bare.widget.locator(".dv-note")
        bare.page.touchscreen.tap(*spot(bare.widget.locator(place).first, 0.58))
        expect(note).to_contain_text(text)
        expect(bare.slider).to_have_attribute("aria-valuenow", "4")
        bare.page.touchscreen.tap(*spot(bare.widget.locator(".dv-title h3").first))
        expect(note).not_to_contain_text(text)


def test_a_tap_on_a_map_reads_the_value_there(browser: Browser) -> None:
    with touched(browser) as (bare, _):
        bare.page.touchscreen.tap(*spot(bare.widget.get_by_test_id("map-1").locator(".dv-map")))
        expect(bare.widget.get_by_test_id("map-1").locator(".dv-num")).to_contain_text("here")
        bare.page.touchscreen.tap(*spot(bare.widget.locator(".dv-title h3").first))
        expect(bare.widget.get_by_test_id("map-1").locator(".dv-num")).not_to_contain_text("here")


def test_the_hints_are_about_touch(browser: Browser) -> None:
    with touched(browser) as (bare, _):
        hint = bare.widget.get_by_test_id("hint")
        seen = set[str]()
        while hint.count():
            seen.add(hint.locator(":first-child").first.inner_text())
            hint.get_by_role("button", name="Hide this hint").tap()
            bare.frames()
        assert any(text.startswith("Tap the image, or hold and drag") for text in seen)
        assert not any(text.startswith("Double-click") for text in seen)
