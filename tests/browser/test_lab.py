"""The lab without Python: its five tasks, done in the page as a student does them; the page says what Python says."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from playwright.sync_api import Browser, expect

import diffvis_widget as dv
from diffvis_widget.export.notes_file import read_notes
from tests.browser.painting import Opened, opened

ROOT = Path(__file__).parents[2]
TASKS = read_notes(ROOT / "docs" / "pages" / "lab" / "tasks.json")
PROMPT = "a red circle above a blue square"
NIGHT = "a yellow moon above a green tree at night"
STEPS = 10
WAIT = 90_000


@pytest.fixture(scope="module")
def lab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    path = dv.playground(tmp_path_factory.mktemp("pages") / "lab.html", prompt=PROMPT, notes=TASKS)
    with opened(browser, path) as shown:
        # The first run begins by itself; the lab's steps are fewer here, so that the test is short.
        expect(shown.widget.get_by_test_id("stop")).to_be_visible(timeout=WAIT)
        shown.widget.get_by_test_id("stop").click()
        shown.expect_status("stopped")
        change(shown, "steps", STEPS)
        yield shown


def change(lab: Opened, setting: str, value: int) -> None:
    field = lab.widget.get_by_role("textbox", name=setting)
    field.fill(str(value))
    field.press("Tab")


def paint(lab: Opened, prompt: str, seed: int | None = None) -> None:
    if seed is not None:
        change(lab, "seed", seed)
    ended = "() => window.received.filter(({ content }) => content.type === 'end').length"
    before = lab.page.evaluate(ended)
    lab.paint(prompt)
    lab.page.wait_for_function(f"(before) => ({ended})() > before", arg=before, timeout=WAIT)
    lab.expect_status("done")


def check(lab: Opened, number: int) -> Any:
    return lab.widget.locator(".dv-notes li").nth(number - 1).locator(".dv-check")


def expect_met(lab: Opened, number: int, reason: str, done: int) -> None:
    expect(check(lab, number)).to_have_text(f"Met: {reason}", timeout=WAIT)
    expect(lab.widget.get_by_test_id("tasks-met")).to_have_text(f"{done} of 5 tasks met")


@functools.cache
def scenes() -> Any:
    return dv.load()


def python(prompt: str, seed: int = 0, concepts: tuple[str, ...] = (), **kwargs: Any) -> dv.Trace:
    trace = dv.trace(scenes(), prompt, seed=seed, num_inference_steps=STEPS, guidance_scale=7.5, **kwargs)
    if concepts:
        dv.concept_scores(trace, list(concepts))
    return trace


def add_concept(lab: Opened, concept: str) -> None:
    field = lab.widget.get_by_test_id("add-concept")
    field.fill(concept)
    field.press("Enter")


def test_the_notebook_has_the_tasks_of_the_documentation() -> None:
    notebook = nbformat.read(ROOT / "notebooks" / "07_a_lab_without_python.ipynb", as_version=4)
    source = next(cell.source for cell in notebook.cells if "tasks = [" in cell.source)
    names: dict[str, Any] = {}
    exec(source, names)  # the notebook of this repository
    assert names["tasks"] == TASKS


def test_a_student_does_all_five_tasks(lab: Opened) -> None:
    paint(lab, PROMPT)
    outcome = TASKS[0].outcome(python(PROMPT))
    expect(check(lab, 1)).to_have_text(f"Not yet: {outcome.reason}")
    expect(lab.widget.get_by_test_id("tasks-met")).to_have_text("0 of 5 tasks met")

    below = "a red circle below a blue square"
    paint(lab, below)
    outcome = TASKS[0].outcome(python(below))
    assert outcome.met
    expect_met(lab, 1, outcome.reason, done=1)

    expect(check(lab, 2)).to_contain_text("“circle” is not measured: add it to the concepts")
    add_concept(lab, "circle")
    add_concept(lab, "square")
    expect(check(lab, 2)).to_contain_text(re.compile(r"Not yet: meter of “square” 0\.\d+ at step 10"), timeout=WAIT)
    paint(lab, "a red circle")
    expect(check(lab, 1)).to_have_text("Met by an earlier run")
    outcome = TASKS[1].outcome(python("a red circle", concepts=("circle", "square")))
    assert outcome.met
    expect_met(lab, 2, outcome.reason, done=2)

    for seed in (1, 2):
        paint(lab, "a red circle", seed)
    expect_met(lab, 3, "3 seeds", done=3)

    paint(lab, PROMPT, seed=0)
    lab.widget.get_by_test_id("chip-3").click()
    lab.widget.get_by_test_id("adjust-word").click()
    lab.widget.get_by_role("button", name="Leave out").click()
    outcome = TASKS[3].outcome(python(PROMPT, interventions=[dv.intervene.drop("circle")]))
    assert outcome.met
    expect_met(lab, 4, outcome.reason, done=4)
    lab.widget.get_by_role("button", name="Reset").click()
    lab.expect_status("done")
    lab.page.keyboard.press("Escape")

    add_concept(lab, "night")
    add_concept(lab, "moon")
    traces = ((seed, python(NIGHT, seed, ("night", "moon"))) for seed in range(50))
    outcomes = ((seed, TASKS[4].outcome(trace)) for seed, trace in traces)
    seed, outcome = next((seed, outcome) for seed, outcome in outcomes if outcome.met)
    paint(lab, NIGHT, seed)
    expect_met(lab, 5, outcome.reason, done=5)


def test_the_lab_can_be_read_and_fits_a_narrow_page(lab: Opened, chromium: str) -> None:
    axe = (ROOT / "js" / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
    lab.page.set_viewport_size({"width": 420, "height": 900})
    assert lab.page.evaluate("document.documentElement.scrollWidth") <= 420
    lab.page.evaluate(axe)
    violations = lab.page.evaluate(
        "axe.run('.dv', { resultTypes: ['violations'] }).then((result) => result.violations)"
    )
    assert violations == []
