"""An image dropped onto the stage of a live widget, pasted, or chosen by the keyboard, and traced by its pipeline."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from playwright.sync_api import Browser, Locator, expect

import diffvis_widget as dv
from diffvis_widget import scenes
from tests.browser.bare import Bare, a_run, open_bare
from tests.browser.lab import Lab, open_notebook
from tests.browser.live_page import LivePage, open_live
from tests.browser.test_live import PATIENT
from tests.browser.test_more import AXE

SHOTS = os.environ.get("IMAGE_SHOTS")
WAIT = 120_000


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "scene.png"
    Image.fromarray(scenes.draw(3).image).resize((320, 240)).save(path)
    return path


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    Image.fromarray(scenes.draw(5).image).save(path)
    return path


@pytest.fixture(scope="module")
def widget() -> Iterator[dv.DiffVis]:
    made = dv.DiffVis(dv.load(), prompt="a red circle", seed=7, steps=4, concepts=["star"])
    made.wait(300)
    yield made
    made.close()


def drop(live: LivePage, target: Locator, path: Path) -> None:
    """What the browser does when a file is dragged from the desktop onto an element and released."""
    box = target.bounding_box()
    assert box is not None
    session = live.page.context.new_cdp_session(live.page)
    data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    for kind in ("dragEnter", "dragOver", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, **at, "data": data})
    session.detach()


def traced(widget: dv.DiffVis, shown: Locator) -> None:
    expect(shown.locator(".dv-image").get_by_role("status")).to_contain_text("Nothing was generated", timeout=WAIT)
    expect(shown.get_by_test_id("status")).to_have_attribute("data-status", "done", timeout=WAIT)


def test_a_dropped_image_is_traced_and_shown_with_the_maps_of_its_words(
    browser: Browser, widget: dv.DiffVis, picture: Path
) -> None:
    with open_live(browser, width=900) as live:
        shown = live.show(widget)
        stage = shown.get_by_test_id("stage").locator(".dv-frame")
        stage.hover()  # the views are loaded when somebody turns to the widget
        expect(shown.get_by_test_id("image")).to_be_visible(timeout=WAIT)
        expect(shown.get_by_test_id("slider")).to_have_attribute("aria-valuemax", "4", timeout=WAIT)
        drop(live, stage, picture)
        traced(widget, shown)
        note = "An image that was given, noised to each level; the model made no image"
        expect(shown.locator(".dv-note")).to_have_text(note)
        expect(shown.get_by_test_id("slider")).to_have_attribute("aria-valuenow", "4")
        expect(shown.locator(".dv-image")).to_contain_text("Cropped to 96 × 96 pixels")
        expect(shown.locator(".dv-image")).to_contain_text("4 noise levels, one a step: 800, 600, 400, 200")
        expect(shown.get_by_test_id("chip-3")).to_contain_text("circle")
        trace = widget.trace
        assert [step.timestep for step in trace.steps] == [800, 600, 400, 200]
        assert [word.text for word in trace.words if word.kind == "concept"] == ["star"]
        with Image.open(picture) as file:
            expected = np.asarray(ImageOps.fit(file.convert("RGB"), (96, 96), Image.Resampling.BICUBIC))
        assert np.array_equal(trace.image, expected)  # sent without loss
        levels = shown.get_by_label("noise levels")
        levels.fill("300 x")
        levels.press("Enter")
        expect(shown.locator(".dv-image").get_by_role("alert")).to_contain_text("it must be 1 to 16 whole numbers")
        levels.fill("300")
        levels.press("Enter")
        expect(shown.locator(".dv-image").get_by_role("status")).to_contain_text("one noise level: 300", timeout=WAIT)
        levels.fill("1000")
        levels.press("Enter")
        expect(shown.locator(".dv-image")).to_contain_text("whole numbers from 0 to 999", timeout=WAIT)


def test_a_file_dropped_before_anything_else_is_taken(browser: Browser, widget: dv.DiffVis, picture: Path) -> None:
    with open_live(browser) as live:
        shown = live.show(widget)
        # The script of the drawers is asked for only now, as the file is dragged in.
        drop(live, shown.get_by_test_id("stage").locator(".dv-frame"), picture)
        traced(widget, shown)


def test_what_is_no_image_says_so_and_the_page_stays(browser: Browser, widget: dv.DiffVis, tmp_path: Path) -> None:
    text, fake = tmp_path / "note.txt", tmp_path / "fake.png"
    text.write_text("no image")
    fake.write_text("no image")
    with open_live(browser) as live:
        shown = live.show(widget)
        stage = shown.get_by_test_id("stage").locator(".dv-frame")
        stage.hover()
        expect(shown.get_by_test_id("image")).to_be_visible(timeout=WAIT)
        drop(live, stage, text)
        expect(shown.get_by_role("alert")).to_have_text("This is no image: use a PNG, a JPEG or a WebP.")
        drop(live, stage, fake)
        expect(shown.get_by_role("alert")).to_contain_text("no image that the browser can read")
        drop(live, shown.locator(".dv-line"), fake)  # beside the stage: the page is not replaced by the file
        expect(shown.get_by_test_id("stage")).to_be_visible()


def test_the_keyboard_and_the_clipboard_give_an_image_too(browser: Browser, widget: dv.DiffVis, picture: Path) -> None:
    with open_live(browser) as live:
        shown = live.show(widget)
        shown.hover()
        shown.get_by_test_id("image").focus()
        shown.get_by_test_id("image").press("Enter")
        button = shown.get_by_test_id("choose-image")
        button.focus()
        with live.page.expect_file_chooser() as chooser:
            button.press("Enter")
        chooser.value.set_files(picture)
        traced(widget, shown)
        runs = len(widget._session.history.runs)
        live.page.evaluate(
            """async (data) => {
                const blob = await (await fetch(data)).blob();
                await navigator.clipboard.write([new ClipboardItem({ 'image/png': blob })]);
            }""",
            "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode(),
        )
        button.focus()
        live.page.keyboard.press("Control+v")
        expect(shown.locator(".dv-image").get_by_role("status")).to_have_count(0)
        traced(widget, shown)
        assert len(widget._session.history.runs) == runs + 1


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [420, 720, 1400])
def test_it_fits_at_every_width(browser: Browser, widget: dv.DiffVis, picture: Path, width: int, theme: str) -> None:
    with open_live(browser, width=width - 48, theme=theme, height=1500) as live:
        shown = live.show(widget)
        stage = shown.get_by_test_id("stage").locator(".dv-frame")
        drop(live, stage, picture)
        traced(widget, shown)
        part = shown.locator(".dv-image")
        assert part.evaluate("(element) => element.scrollWidth <= element.clientWidth")
        live.page.add_script_tag(path=AXE)
        violations = live.page.evaluate("axe.run('.dv-image').then(({ violations }) => violations.map(({ id }) => id))")
        assert violations == []
        if SHOTS:
            live.page.screenshot(path=f"{SHOTS}/{theme}-{width}.png")


def test_it_works_in_a_notebook(browser: Browser, lab: Lab, picture: Path, photo: Path) -> None:
    lab.add("image.ipynb", "import diffvis_widget as dv\nwidget = dv.DiffVis(prompt='a red circle', steps=3)\nwidget")
    with open_notebook(browser, lab, "image.ipynb") as notebook:
        notebook.run_all()
        shown = notebook.widget
        expect(shown.get_by_test_id("status")).to_have_attribute("data-status", "done", timeout=PATIENT)
        shown.get_by_test_id("stage").hover()
        shown.get_by_test_id("image").click(timeout=WAIT)
        with notebook.page.expect_file_chooser() as chooser:
            shown.get_by_test_id("choose-image").click()
        chooser.value.set_files(picture)
        expect(shown.locator(".dv-image").get_by_role("status")).to_contain_text("Nothing was generated", timeout=WAIT)
        levels = notebook.run_python("print([int(step.timestep) for step in widget.trace.steps])")
        assert levels == "[800, 600, 400, 200]"
        # dropped by hand: JupyterLab neither opens the file nor puts it into a cell
        cells = notebook.page.locator(".jp-Notebook .jp-Cell").count()
        notebook.run_python("before = widget.trace; before.image[0, 0, 0]")
        shown.get_by_test_id("stage").scroll_into_view_if_needed()
        drop(LivePage(notebook.page), shown.get_by_test_id("stage").locator(".dv-frame"), photo)
        expect(shown.locator(".dv-image").get_by_role("status")).to_have_count(0)
        expect(shown.locator(".dv-image").get_by_role("status")).to_contain_text("Nothing was generated", timeout=WAIT)
        pixels = notebook.run_python("print(widget.trace is not before, widget.trace.image.sum())")
        with Image.open(photo) as file:
            expected = np.asarray(ImageOps.fit(file.convert("RGB"), (96, 96), Image.Resampling.BICUBIC))
        assert pixels == f"True {expected.sum()}"
        assert notebook.page.locator(".jp-Notebook .jp-Cell").count() == cells
        if SHOTS:
            notebook.page.screenshot(path=f"{SHOTS}/dropped-in-lab.png")


@pytest.fixture
def recorded(browser: Browser) -> Iterator[Bare]:
    with open_bare(browser, a_run("a red circle"), concepts=["circle"], _can_run=False) as bare:
        yield bare


def test_a_recorded_run_says_what_is_missing(recorded: Bare, picture: Path) -> None:
    stage = recorded.widget.get_by_test_id("stage").locator(".dv-frame")
    stage.hover()
    recorded.widget.get_by_test_id("notes").click()
    expect(recorded.widget.locator(".dv-notes")).to_be_visible()  # the views are there
    expect(recorded.widget.get_by_test_id("image")).to_have_count(0)
    drop(LivePage(recorded.page), stage, picture)
    expect(recorded.widget.get_by_role("alert")).to_have_text(
        "Tracing an image needs the pipeline, and a recorded run has none: use dv.DiffVis(pipe)."
    )
    assert recorded.sent("image") == []
