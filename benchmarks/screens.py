"""Screenshots of the widget in its states, in docs/screens.

    python -m benchmarks.screens            # all
    python -m benchmarks.screens words-720  # those whose names begin so

Each shows a real run of the built-in model in a real Chromium, with a fixed seed. Times in them differ between
machines; everything else is the same.
"""

from __future__ import annotations

import io
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

import diffvis_widget as dv
from diffvis_widget.widget.widget import DiffVis
from tests import chromium
from tests.browser.live_page import LivePage, open_live

FOLDER = Path(__file__).parent.parent / "docs" / "screens"
PROMPT, OTHER = "a red circle above a blue square", "a red circle above a green square"
CONCEPTS = ["circle", "square", "red", "blue"]
RATIO = 1.5  # pixels of the screenshot per pixel of the page
MAX_HEIGHT = 1160  # pixels of the page
TIMEOUT = 120_000  # milliseconds


@dataclass
class Studio:
    """A browser, and the built-in model, which can be paused in the middle of a run."""

    browser: Browser
    pipe: Any

    def widget(self, **over: Any) -> DiffVis:
        return DiffVis(self.pipe, **{"prompt": PROMPT, "concepts": CONCEPTS, "seed": 7, **over})

    @contextmanager
    def page(self, width: int, theme: str, widget: DiffVis) -> Iterator[tuple[LivePage, Locator]]:
        with open_live(self.browser, width, theme, height=1200, ratio=RATIO) as live:
            yield live, live.show(widget)
            live.close(widget)

    @contextmanager
    def at(self, step: int, act: Callable[[], object]) -> Iterator[threading.Event]:
        """Calls a function when the model is evaluated for this step; the event is set when that happens."""
        reached, calls = threading.Event(), 0

        def hook(*_: Any) -> None:
            nonlocal calls
            calls += 1
            if calls == step + 1:
                reached.set()
                act()

        handle = self.pipe.unet.register_forward_pre_hook(hook)
        try:
            yield reached
        finally:
            handle.remove()


def done(view: Locator) -> None:
    """Waits until the run is over, each image exact and each concept scored."""
    expect(view.get_by_test_id("status")).to_have_attribute("data-status", "done", timeout=TIMEOUT)
    expect(view.locator(".dv-marks button")).not_to_have_count(0, timeout=TIMEOUT)


def choose(view: Locator, *words: str) -> None:
    for number, word in enumerate(words):
        chip = view.locator(".dv-chip", has_text=word).first
        chip.click(modifiers=["Shift"] if number else [])


def go_to(view: Locator, step: int) -> None:
    slider = view.get_by_test_id("slider")
    slider.press("Home")
    for _ in range(step):
        slider.press("ArrowRight")


def away(page: Page) -> None:
    """Moves the pointer to where it changes nothing, and waits until everything is drawn."""
    page.mouse.move(0, 0)
    page.evaluate("() => document.activeElement?.blur()")
    page.wait_for_load_state()
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def idle(studio: Studio, width: int, theme: str) -> bytes:
    widget = studio.widget(prompt=None, concepts=["circle", "square"])
    with studio.page(width, theme, widget) as (live, view):
        expect(view.get_by_test_id("status")).to_contain_text("Write a prompt")
        return taken(live.page, view)


def running(studio: Studio, width: int, theme: str) -> bytes:
    free = threading.Event()
    with studio.at(14, lambda: free.wait(60)) as reached:
        widget = studio.widget()
        with studio.page(width, theme, widget) as (live, view):
            assert reached.wait(120)
            expect(view.get_by_test_id("slider")).to_have_attribute("aria-valuemax", "14", timeout=TIMEOUT)
            expect(view.get_by_test_id("meter-blue")).to_contain_text(re.compile(r"0\.\d\d"), timeout=TIMEOUT)
            choose(view, "square")
            screenshot = taken(live.page, view)
            free.set()
            done(view)
            return screenshot


def words(studio: Studio, width: int, theme: str) -> bytes:
    with studio.page(width, theme, studio.widget()) as (live, view):
        done(view)
        choose(view, "circle", "square")
        go_to(view, 9)
        return taken(live.page, view)


def drawer(name: str, step: int = 11, *chosen: str) -> Callable[[Studio, int, str], bytes]:
    def make(studio: Studio, width: int, theme: str) -> bytes:
        with studio.page(width, theme, studio.widget()) as (live, view):
            done(view)
            choose(view, *chosen)
            go_to(view, step)
            view.get_by_test_id(name).click()
            if name == "layers":
                view.locator(".dv-layers .dv-tile").nth(1).click()
            if name == "export":
                expect(view.get_by_test_id("export-png")).to_be_visible()
            return taken(live.page, view)

    return make


def compare(studio: Studio, width: int, theme: str) -> bytes:
    with studio.page(width, theme, studio.widget()) as (live, view):
        done(view)
        field = view.get_by_test_id("prompt-input")
        field.fill(OTHER)
        field.press("Enter")
        expect(view.locator(".dv-chip[data-changed]")).to_have_count(1, timeout=TIMEOUT)
        done(view)
        choose(view, "square")
        view.get_by_test_id("compare").click()
        expect(view.locator(".dv-course")).to_contain_text("diverge at", timeout=TIMEOUT)
        go_to(view, 12)
        return taken(live.page, view)


def notes(studio: Studio, width: int, theme: str) -> bytes:
    widget = studio.widget()
    widget.note("The circle has its position before it has its colour.", step=4, words=["circle"])
    widget.note("Look here: the square is blue as soon as it appears.", step=9, words=["blue", "square"])
    widget.note("From here on only edges change.", step=20, region=(0.2, 0.1, 0.8, 0.5))
    with studio.page(width, theme, widget) as (live, view):
        done(view)
        expect(view.locator(".dv-notes")).to_be_visible()
        view.get_by_role("button", name="Start", exact=True).click()
        view.locator(".dv-notes").get_by_role("button", name="Next").click()
        return taken(live.page, view)


def failed(studio: Studio, width: int, theme: str) -> bytes:
    def fail() -> None:
        raise ValueError("the sampler met a value that is not a number")

    with studio.at(11, fail), studio.page(width, theme, studio.widget()) as (live, view):
        expect(view.get_by_test_id("status")).to_have_attribute("data-status", "failed", timeout=TIMEOUT)
        expect(view.get_by_test_id("meter-blue")).to_contain_text(re.compile(r"0\.\d\d"), timeout=TIMEOUT)
        return taken(live.page, view)


def offline(studio: Studio, width: int, theme: str) -> bytes:
    trace = dv.trace(studio.pipe, "a large tree and a small house in the snow", seed=3, num_inference_steps=30)
    trace.scores = dv.concept_scores(trace, ["tree", "house", "snow", "water"])
    path = FOLDER / "page.html"
    page = studio.browser.new_context(
        offline=True, viewport={"width": width + 32, "height": 1200}, device_scale_factor=RATIO,
        color_scheme="dark" if theme == "dark" else "light", reduced_motion="reduce",
    ).new_page()  # fmt: skip
    try:
        page.goto(dv.to_html(trace, path).as_uri())
        view = page.locator(".dv")
        choose(view, "tree", "snow")
        go_to(view, 7)
        return taken(page, view)
    finally:
        page.context.close()
        path.unlink()


def taken(page: Page, view: Locator) -> bytes:
    """A screenshot of the widget; of a very long one, its upper part."""
    away(page)
    box = view.bounding_box()
    assert box is not None
    part = {**box, "height": min(box["height"], MAX_HEIGHT)}
    return page.screenshot(clip=part, full_page=True)  # pyright: ignore[reportArgumentType]


SCREENS: dict[str, Callable[[Studio, int, str], bytes]] = {
    "idle-720-light": idle,
    "running-720-dark": running,
    "words-720-light": words,
    "words-1400-dark": words,
    "words-420-light": words,
    "layers-720-light": drawer("layers", 11, "circle"),
    "compare-720-dark": compare,
    "notes-720-light": notes,
    "tables-1400-light": drawer("tables", 11, "circle"),
    "export-720-dark": drawer("export", 11, "circle", "square"),
    "failed-420-dark": failed,
    "offline-1400-light": offline,
}


def small(screenshot: bytes) -> bytes:
    """The same PNG with a palette: a third of the size, without a visible difference."""
    with Image.open(io.BytesIO(screenshot)) as image:
        colours = image.convert("RGB")
    palette = colours.quantize(256, Image.Quantize.MEDIANCUT, kmeans=1)
    data = io.BytesIO()
    colours.quantize(palette=palette, dither=Image.Dither.NONE).save(data, "PNG", optimize=True)
    return data.getvalue()


def moving(pipe: Any) -> None:
    """The animated image of the README."""
    trace = dv.trace(pipe, PROMPT, seed=7, num_inference_steps=30, guidance_scale=7.5)
    dv.export.webp(trace, FOLDER / "run.webp", words=["circle", "square"], fps=6, hold=2, size=384)


def main(prefixes: list[str]) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    pipe = dv.load()
    if not prefixes:
        moving(pipe)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(chromium.find()), args=chromium.FLAGS)
        studio = Studio(browser, pipe)
        for name, make in SCREENS.items():
            if prefixes and not name.startswith(tuple(prefixes)):
                continue
            _, width, theme = name.split("-")
            data = small(make(studio, int(width), theme))
            (FOLDER / f"{name}.png").write_bytes(data)
            print(f"{name}.png {len(data) / 1000:.0f} kB", flush=True)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1:])
