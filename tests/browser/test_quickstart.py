"""The quickstart notebook in a real JupyterLab, as a newcomer uses it: the whole path from the cell to the image."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.browser.lab import ROOT, Lab, Notebook, copy_notebook, open_notebook

PROMPT = "a red circle above a blue square"
PATIENT = 600_000  # a cold import of torch on a busy machine
SHOTS = ROOT / "test-results"
WAIT_FOR_STEP = """
import threading
arrived = threading.Event()
widget.observe(lambda change: change["new"] == 5 and arrived.set(), "step")
widget.step == 5 or arrived.wait(20)
print(widget.step)
"""


@pytest.fixture(scope="module")
def quickstart(browser: Browser, lab: Lab) -> Iterator[Notebook]:
    """The quickstart, run from top to end once; the tests of this module look at it one after the other."""
    name = copy_notebook(lab, ROOT / "notebooks" / "01_quickstart.ipynb", "quickstart.ipynb")
    with open_notebook(browser, lab, name) as notebook:
        notebook.watch()
        notebook.run_all()
        until(notebook, "done", PATIENT)
        yield notebook


def until(notebook: Notebook, state: str, timeout: float = 60_000) -> None:
    expect(notebook.widget.get_by_test_id("status")).to_have_attribute("data-status", state, timeout=timeout)


def ink(locator: Locator) -> float:
    """How much a canvas shows: the standard deviation of its visible pixels."""
    return locator.evaluate(
        """(canvas) => {
            const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
            let n = 0, sum = 0, squares = 0;
            for (let i = 0; i < data.length; i += 4) {
                if (data[i + 3] === 0) continue;
                const v = (data[i] + data[i + 1] + data[i + 2]) / 3;
                n += 1; sum += v; squares += v * v;
            }
            return n === 0 ? 0 : Math.sqrt(Math.max(0, squares / n - (sum / n) ** 2));
        }"""
    )


def pixels(locator: Locator) -> str:
    return locator.evaluate("(canvas) => canvas.toDataURL()")


def stage(notebook: Notebook) -> Locator:
    return notebook.widget.get_by_test_id("stage").locator("canvas").first


def word(notebook: Notebook, text: str) -> Locator:
    chips = notebook.widget.get_by_role("toolbar", name="Words of the prompt")
    return chips.get_by_role("button", name=re.compile(rf"^{re.escape(text)}( \(changed\))?$")).first


def test_it_said_what_it_loads_and_frames_came_live(quickstart: Notebook) -> None:
    recorded_states = quickstart.seen()
    states = [state for state, _, _ in recorded_states]
    assert "loading" in states
    assert any("scenes model" in text for _, text, _ in recorded_states)
    recorded = {step for state, text, step in recorded_states if state == "loading" and "Recorded run" in text}
    assert recorded == {30}, "the last step of a recorded run is there before the model"
    assert "running" in states
    live = {step for state, _, step in recorded_states if state == "running" and step > 1}
    assert len(live) >= 3, "frames must arrive while the model runs"
    assert ink(stage(quickstart)) > 5


def test_no_cell_failed(quickstart: Notebook) -> None:
    quickstart.idle()
    assert quickstart.page.locator(".jp-OutputArea-output[data-mime-type*='stderr']").all_inner_texts() == []
    assert "Error" not in " ".join(quickstart.page.locator(".jp-RenderedText").all_inner_texts())
    shown = quickstart.page.locator(".jp-Notebook").inner_text()
    assert "seed 7 · DPMSolverMultistepScheduler" in shown, "the summary of the trace"


def test_keys_scrub_through_the_steps(quickstart: Notebook) -> None:
    slider = quickstart.widget.get_by_test_id("slider")
    slider.focus()
    slider.press("Home")
    expect(slider).to_have_attribute("aria-valuenow", "1")
    first = pixels(stage(quickstart))
    slider.press("Shift+ArrowRight")
    slider.press("ArrowRight")
    expect(slider).to_have_attribute("aria-valuenow", "7")
    expect(stage(quickstart)).to_have_attribute("aria-label", re.compile("step 7 of 30"))
    slider.press("End")
    expect(slider).to_have_attribute("aria-valuenow", "30")
    assert pixels(stage(quickstart)) != first


def test_a_picked_word_shows_where_it_looks(quickstart: Notebook) -> None:
    quickstart.page.keyboard.press("Escape")
    plain = pixels(stage(quickstart))
    chip = word(quickstart, "circle")
    pressed = chip.get_attribute("aria-pressed") == "true"
    if pressed:
        chip.click()
    chip.click()
    quickstart.page.mouse.move(0, 0)
    expect(chip).to_have_attribute("aria-pressed", "true")
    expect(stage(quickstart)).to_have_attribute("aria-label", re.compile("heat map of circle"))
    assert pixels(stage(quickstart)) != plain
    chip.click()


def test_meters_read_numbers(quickstart: Notebook) -> None:
    for concept in ("circle", "square", "red", "blue"):
        meter = quickstart.widget.get_by_test_id(f"meter-{concept}")
        expect(meter).to_contain_text(re.compile(r"[−-]?0\.\d\d"))


def test_python_moves_the_page_and_the_page_moves_python(quickstart: Notebook) -> None:
    quickstart.run_python("widget.step = 3")
    slider = quickstart.widget.get_by_test_id("slider")
    expect(slider).to_have_attribute("aria-valuenow", "4")
    slider.focus()
    slider.press("ArrowRight")
    slider.press("ArrowRight")
    assert quickstart.run_python(WAIT_FOR_STEP) == "5"


def test_the_chart_moves_the_widget(quickstart: Notebook) -> None:
    chart = quickstart.page.locator(".bqplot").first
    chart.scroll_into_view_if_needed()
    plot = chart.locator("rect.selectormouse")
    box = plot.bounding_box()
    assert box is not None
    mouse = quickstart.page.mouse
    mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] / 2)
    mouse.click(box["x"] + box["width"] * 0.3, box["y"] + box["height"] / 2)
    mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] / 2, steps=5)
    mouse.click(box["x"] + box["width"] * 0.5, box["y"] + box["height"] / 2)
    slider = quickstart.widget.get_by_test_id("slider")
    expect(slider).to_have_attribute("aria-valuenow", re.compile("^1[3-7]$"))


def test_an_edited_prompt_runs_on_enter(quickstart: Notebook) -> None:
    field = quickstart.widget.get_by_test_id("prompt-input")
    field.click()
    field.fill("a yellow star, zyzzyva")
    field.press("Enter")
    expect(word(quickstart, "star")).to_be_visible(timeout=60_000)
    until(quickstart, "done", 120_000)
    expect(quickstart.widget).to_contain_text("zyzzyva")
    assert quickstart.run_python("print(widget.prompt)") == "a yellow star, zyzzyva"
    assert quickstart.run_python("print(len(widget.trace.steps))") == "30"


def test_typing_in_the_widget_is_no_shortcut_of_the_notebook(quickstart: Notebook) -> None:
    cells = quickstart.page.locator(".jp-Notebook .jp-Cell").count()
    field = quickstart.widget.get_by_test_id("prompt-input")
    field.press("End")
    field.press_sequentially(" dd a b x")
    field.press("Escape")
    assert quickstart.page.locator(".jp-Notebook .jp-Cell").count() == cells


def test_stop_ends_a_run(quickstart: Notebook) -> None:
    quickstart.run_python("widget.steps = 300")
    quickstart.widget.get_by_test_id("run").click()
    stop = quickstart.widget.get_by_test_id("stop")
    expect(stop).to_be_enabled(timeout=30_000)
    stop.click()
    until(quickstart, "stopped")
    assert int(quickstart.run_python("print(len(widget.trace.steps))")) < 300


def test_a_reload_heals(quickstart: Notebook) -> None:
    quickstart.run_python("widget.prompt, widget.steps = 'a blue circle', 12\nwidget.run()\nwidget.wait()")
    until(quickstart, "done")
    quickstart.command("docmanager:save")
    quickstart.reload()
    expect(quickstart.widget).to_be_visible(timeout=60_000)
    until(quickstart, "done")
    slider = quickstart.widget.get_by_test_id("slider")
    expect(slider).to_have_attribute("aria-valuemax", "12")
    assert ink(stage(quickstart)) > 5
    slider.focus()
    slider.press("Home")
    expect(slider).to_have_attribute("aria-valuenow", "1")
    field = quickstart.widget.get_by_test_id("prompt-input")
    field.click()
    field.fill("a green square")
    field.press("Enter")
    expect(word(quickstart, "green")).to_be_visible(timeout=60_000)
    until(quickstart, "done", 120_000)


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_it_looks_right_at_every_width(quickstart: Notebook, theme: str) -> None:
    """Saves screenshots in test-results/, and checks that the theme is applied and nothing overflows."""
    quickstart.set_theme(theme)
    SHOTS.mkdir(exist_ok=True)
    dark = theme.endswith("Dark")
    for width in (1400, 720, 420):
        quickstart.set_widget_width(width)
        root = quickstart.widget
        expect(root).to_have_attribute("data-theme", "dark" if dark else "light")
        box = root.bounding_box()
        assert box is not None
        assert abs(box["width"] - width) <= 2
        over = root.evaluate("(el) => el.scrollWidth - el.clientWidth")
        assert over <= 1, f"{over} px stick out at {width} px"
        root.scroll_into_view_if_needed()
        root.screenshot(path=Path(SHOTS) / f"quickstart-{'dark' if dark else 'light'}-{width}.png")
    quickstart.set_widget_width(None)
