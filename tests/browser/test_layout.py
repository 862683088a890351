"""The room that widgets take in a real JupyterLab: side by side, with the user's layout, with a long prompt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.browser.lab import Lab, Notebook, open_notebook

SETUP = """
import diffvis_widget as dv, ipywidgets
from tests import pipelines
pipe = pipelines.stable_diffusion()

def shown(prompt="a red circle", **arguments):
    widget = dv.DiffVis(pipe, prompt=prompt, steps=2, **arguments)
    widget.wait()
    return widget
"""
PAIR = "ipywidgets.HBox([shown(), shown('a blue square')])"
BESIDE_A_BUTTON = "ipywidgets.HBox([shown(), ipywidgets.Button(description='Hello there')])"
SIXTY = "ipywidgets.HBox([shown(layout=ipywidgets.Layout(width='60%')), ipywidgets.Label('beside')])"
BELOW = "ipywidgets.VBox([shown(), ipywidgets.Button(description='below')])"
LONG = "shown(' '.join(f'word{index}' for index in range(200)), concepts=[f'concept {index}' for index in range(60)])"
ALONE = "shown(concepts=['circle', 'square'])"
PANEL = ".jp-WindowedPanel-outer"
FITS = """([panel, width]) => {
    const { right } = document.querySelector(panel).getBoundingClientRect();
    return width - 100 < right && right <= width;
}"""
STICKS_OUT = """(root) => {
    const { right } = root.getBoundingClientRect();
    const parts = [...root.querySelectorAll('button, input')];
    const places = parts.map((part) => [part, part.getBoundingClientRect()]);
    return places.filter(([, place]) => place.width > 0 && place.right > right + 1).map(([part]) => part.outerHTML);
}"""


@pytest.fixture(scope="module")
def notebook(browser: Browser, lab: Lab) -> Iterator[Notebook]:
    name = lab.add("layout.ipynb", SETUP, PAIR, BESIDE_A_BUTTON, SIXTY, BELOW, LONG, ALONE)
    with open_notebook(browser, lab, name, width=1400) as notebook:
        notebook.run_all()
        notebook.idle()
        yield notebook


def widgets(notebook: Notebook, cell: int, width: int, height: int = 1000) -> list[Locator]:
    """The widgets of a cell in a page of that size, which show their last step."""
    notebook.page.set_viewport_size({"width": width, "height": height})
    notebook.page.wait_for_function(FITS, arg=[PANEL, width])
    shown = notebook.output(cell).locator(".dv")
    expect(shown.first.get_by_test_id("slider")).to_have_attribute("aria-valuemax", "2", timeout=60_000)
    return shown.all()


def box(place: Locator) -> Any:
    bounds = place.bounding_box()
    assert bounds is not None
    return bounds


@pytest.mark.parametrize("width", [1400, 900])
def test_two_widgets_in_a_row_share_its_width(notebook: Notebook, width: int) -> None:
    pair = widgets(notebook, 1, width)
    row = box(notebook.output(1).locator(".widget-hbox"))["width"]
    for widget in pair:
        assert abs(box(widget)["width"] - row / 2) < 20
        assert widget.evaluate(STICKS_OUT) == []
    assert len(pair) == 2


def test_a_widget_leaves_its_neighbour_the_room_that_it_needs(notebook: Notebook) -> None:
    (widget,) = widgets(notebook, 2, 1400)
    row = box(notebook.output(2).locator(".widget-hbox"))["width"]
    button = box(notebook.output(2).locator(".widget-button"))["width"]
    assert button > 140
    assert row - 20 < box(widget)["width"] + button < row + 1


def test_the_width_of_a_layout_is_obeyed(notebook: Notebook) -> None:
    (widget,) = widgets(notebook, 3, 1400)
    row = box(notebook.output(3).locator(".widget-hbox"))["width"]
    assert abs(box(widget)["width"] - 0.6 * row) < 5


def test_a_widget_in_a_column_is_as_wide_as_the_column_and_as_high_as_it_needs(notebook: Notebook) -> None:
    (widget,) = widgets(notebook, 4, 1400)
    column = box(notebook.output(4).locator(".widget-vbox"))
    assert abs(box(widget)["width"] - column["width"]) < 20
    assert box(notebook.output(4).locator(".widget-button"))["y"] >= box(widget)["y"] + box(widget)["height"]


LAST_CHIP_IS_SEEN = """(prompt) => {
    const chip = [...prompt.querySelectorAll('.dv-chips .dv-chip')].at(-1).getBoundingClientRect();
    const { top, bottom } = prompt.getBoundingClientRect();
    return top <= chip.top && chip.bottom <= bottom;
}"""


@pytest.mark.parametrize("width", [1400, 900, 600])
def test_long_prompts_and_many_concepts_scroll_and_leave_the_image_in_its_place(notebook: Notebook, width: int) -> None:
    (widget,) = widgets(notebook, 5, width)
    assert box(widget.get_by_test_id("stage"))["y"] - box(widget)["y"] < 230
    assert box(widget)["height"] < 2100
    assert widget.evaluate(STICKS_OUT) == []
    last = widget.locator(".dv-chips .dv-chip").last
    last.scroll_into_view_if_needed()
    # both boxes at once: a page that shows a run which begins may still be scrolling
    widget.page.wait_for_function(LAST_CHIP_IS_SEEN, arg=widget.locator(".dv-prompt").element_handle(), timeout=10_000)


def test_the_end_of_a_long_prompt_is_seen_while_it_is_typed(notebook: Notebook) -> None:
    (widget,) = widgets(notebook, 5, 900)
    prompt = widget.locator(".dv-prompt")
    field = widget.get_by_test_id("prompt-input")
    prompt.evaluate("(area) => area.scrollTo(0, 0)")
    field.focus()
    field.press("Control+End")
    field.press_sequentially(" and a moon")
    assert prompt.evaluate("(area) => area.scrollTop") > 0
    field.press("Escape")


@pytest.mark.parametrize(("width", "height"), [(1366, 768), (1440, 900)])
def test_prompt_stage_and_film_are_seen_at_once_beside_the_side_bar(
    notebook: Notebook, width: int, height: int
) -> None:
    notebook.command("application:toggle-left-area")
    try:
        (widget,) = widgets(notebook, 6, width, height)
        top, stage = box(widget)["y"], box(widget.get_by_test_id("stage"))
        film = box(widget.locator(".dv-film"))
        assert stage["y"] < film["y"]
        code = 102  # pixels of a cell of four lines, with the margins of both areas
        panel = box(notebook.page.locator(PANEL).first)["height"]
        assert film["y"] + film["height"] - top <= min(700, panel - code)
        assert box(widget.locator(".dv-frame"))["height"] <= min(440, 0.52 * height) + 1
        assert box(widget.locator(".dv-opacity input"))["width"] >= 40
    finally:
        notebook.command("application:toggle-left-area")


@pytest.mark.parametrize("width", [1400, 1000])
def test_the_maps_of_many_words_are_never_higher_than_the_stage(notebook: Notebook, width: int) -> None:
    (widget,) = widgets(notebook, 5, width)
    stage, maps = box(widget.get_by_test_id("stage")), box(widget.locator(".dv-maps"))
    assert maps["y"] + maps["height"] <= stage["y"] + stage["height"] + 1
    assert widget.locator(".dv-tiles").evaluate("(tiles) => tiles.scrollHeight > tiles.clientHeight")


def test_a_drawer_opens_beside_the_stage_where_there_is_room(notebook: Notebook) -> None:
    (widget,) = widgets(notebook, 6, 1400)
    top, film = box(widget)["y"], box(widget.locator(".dv-film"))
    widget.get_by_test_id("tables").click()
    drawer, stage = box(widget.locator(".dv-drawers")), box(widget.get_by_test_id("stage"))
    assert drawer["x"] > stage["x"] + stage["width"]
    assert stage["y"] - 5 <= drawer["y"]
    assert drawer["y"] + drawer["height"] <= stage["y"] + stage["height"] + 5
    moved = box(widget.locator(".dv-film"))
    assert moved["width"] == film["width"]
    assert moved["y"] - box(widget)["y"] == film["y"] - top
    assert box(widget.locator(".dv-maps"))["y"] > moved["y"]
    widget.get_by_test_id("tables").click()


@pytest.mark.parametrize("width", [1000, 560])
def test_stage_and_film_stay_in_view_over_an_open_drawer(notebook: Notebook, width: int) -> None:
    (widget,) = widgets(notebook, 6, width, 700)
    widget.get_by_test_id("methods").click()
    panel = notebook.page.locator(PANEL).first
    heading = widget.locator(".dv-methods h3").first
    expect(heading).to_be_in_viewport()
    film = box(widget.locator(".dv-marks"))
    assert box(heading)["y"] >= film["y"] + film["height"], "the stage covers the drawer that was opened"
    heading.evaluate("(text) => text.scrollIntoView({ block: 'end' })")
    panel.evaluate("(panel) => { panel.scrollTop += 250; }")
    top = box(panel)["y"]
    expect(widget.get_by_test_id("stage")).to_be_in_viewport(ratio=0.9)
    assert box(widget)["y"] < top - 100
    stage, film = box(widget.get_by_test_id("stage")), box(widget.locator(".dv-film"))
    assert abs(stage["y"] - top) < 3
    assert stage["y"] + stage["height"] < film["y"] < top + 700
    widget.get_by_test_id("methods").evaluate("(button) => button.click()")
    expect(widget.locator(".dv-methods")).to_have_count(0)
    assert box(widget.get_by_test_id("stage"))["y"] > box(widget)["y"]


def test_a_run_started_where_its_image_is_out_of_sight_brings_it_into_view(notebook: Notebook) -> None:
    (widget,) = widgets(notebook, 6, 1000, 700)
    panel = notebook.page.locator(PANEL).first
    panel.evaluate("(panel, y) => { panel.scrollTop += y; }", box(widget)["y"] - box(panel)["y"] - 500)
    frame = widget.locator(".dv-frame")
    expect(frame).not_to_be_in_viewport(ratio=0.9)
    field = widget.get_by_test_id("prompt-input")
    field.evaluate("(field) => field.focus({ preventScroll: true })")
    notebook.page.keyboard.press("Enter")
    expect(frame).to_be_in_viewport(ratio=0.99)
    expect(widget.get_by_test_id("status")).to_have_attribute("data-status", "done", timeout=60_000)
