"""Pages in Firefox, opened from a file: a prompt is typed and painted, and a recorded run is read by keyboard."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import diffvis_widget as dv
from tests import firefox
from tests.browser.painting import READ, RECORD

PROMPT = "a red circle above a blue square"
STATUS = "document.querySelector('[data-testid=status]')?.dataset.status"
ENTER, HOME, RIGHT = "\ue007", "\ue011", "\ue014"


@pytest.fixture(scope="module")
def trace() -> dv.Trace:
    trace = dv.trace(dv.load(), PROMPT, seed=0, num_inference_steps=6)
    dv.concept_scores(trace, ["circle", "square"])
    return trace


@pytest.fixture(scope="module")
def browser() -> Iterator[firefox.Firefox]:
    path = firefox.find()
    if path is None:
        pytest.skip(f"Firefox is not installed: {firefox.HELP}")
    with firefox.started(path) as browser:
        browser.run_before_pages(RECORD)
        yield browser


@pytest.fixture(autouse=True)
def quiet(browser: firefox.Firefox) -> Iterator[None]:
    browser.messages.clear()
    browser.requests.clear()
    yield
    assert not browser.messages, browser.messages
    assert [url for url in browser.requests if not url.startswith(("blob:", "data:", "file:", "about:"))] == []


def focus(browser: firefox.Firefox, selector: str) -> None:
    element = f"document.querySelector({json.dumps(selector)})"
    browser.wait_for(f"({element}?.focus(), {element} !== null && document.activeElement === {element})")


def test_a_typed_prompt_is_painted_with_the_numbers_of_the_notebook(
    browser: firefox.Firefox, trace: dv.Trace, tmp_path: Path
) -> None:
    page = dv.playground(tmp_path / "lab.html", notes=[dv.Note("Paint a circle", expects='prompt has "circle"')])
    browser.open(page.as_uri())
    browser.wait_for(f"{STATUS} === 'idle'")
    focus(browser, "[aria-label=steps]")
    browser.evaluate("document.activeElement.select()")
    browser.press("6", ENTER)
    focus(browser, "[data-testid=prompt-input]")
    browser.evaluate("document.activeElement.select()")
    browser.press(*PROMPT, ENTER)
    browser.wait_for(f"{STATUS} === 'done'")
    words = "[...document.querySelectorAll('[data-testid^=chip-]')].map((chip) => chip.innerText.trim())"
    assert browser.evaluate(words) == PROMPT.split()
    assert browser.evaluate("document.querySelectorAll('.dv-tile canvas').length") == 7
    assert browser.wait_for("document.querySelector('.dv-check')?.innerText") == "○ Met: the prompt has “circle”"[2:]

    received = json.loads(browser.evaluate(f"({READ})()"))
    (image,) = [buffers[0] for content, buffers in received if content["type"] == "end"]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(image))).convert("RGB")).astype(float)
    assert np.abs(pixels - trace.image).mean() <= 2
    # The stage is drawn, and with it the maps: neither is of one colour.
    screen = np.asarray(Image.open(io.BytesIO(browser.screenshot())).convert("RGB"))
    for selector in (".dv-stage canvas", ".dv-tile canvas"):
        box = browser.evaluate(
            f"(({{ x, y, width, height }}) => [x, y, width, height])"
            f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
        )
        left, top, width, height = (round(edge) for edge in box)
        assert screen[top : top + height, left : left + width].std() > 10, selector


def test_a_recorded_run_is_read_by_keyboard(browser: firefox.Firefox, trace: dv.Trace, tmp_path: Path) -> None:
    browser.open(dv.to_html(trace, tmp_path / "run.html").as_uri())
    slider = "document.querySelector('[data-testid=slider]')?.getAttribute('aria-valuenow')"
    browser.wait_for(f"{slider} === '6'")
    focus(browser, "[data-testid=slider]")
    browser.press(HOME, RIGHT)
    browser.wait_for(f"{slider} === '2'")
    assert browser.evaluate("document.querySelectorAll('.dv-meters li').length") == 2
    browser.evaluate("document.querySelector('[data-testid=tables]').focus()")
    browser.press(ENTER)
    browser.wait_for("document.querySelector('.dv-tables table') !== null")
