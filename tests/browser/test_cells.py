"""A cell whose text is the prompt, in a real JupyterLab: edits that overtake one another, the chart, a decision."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.lab import Lab, Notebook, open_notebook
from tests.browser.test_live import PATIENT

SETUP = """
%load_ext diffvis_widget
import threading
import diffvis_widget as dv
from diffvis_widget.widget.charts import attention_chart
from tests import pipelines
from tests.widget.session.test_scoring import ColourMeter

pipe = pipelines.stable_diffusion()
gate, calls = threading.Event(), []
gate.set()

def pace(*_):
    calls.append(1)
    if len(calls) > 3:
        gate.wait(120)

pipe.unet.register_forward_pre_hook(pace)
"""
MAGIC = "%%diffvis --pipe pipe --seed 7 --steps 8 --name widget\na red circle"
CHART = "attention_chart(widget)"
METERED = """
metered = dv.DiffVis(pipe, prompt="a red circle", steps=3, meter=ColourMeter())
metered
"""


@pytest.fixture
def cells(browser: Browser, lab: Lab) -> Iterator[Notebook]:
    lab.add("cells.ipynb", SETUP, MAGIC, CHART, METERED)
    with open_notebook(browser, lab, "cells.ipynb") as notebook:
        notebook.run_cell(0)
        yield notebook


def test_the_text_of_a_cell_is_painted_and_enter_paints_it_anew(cells: Notebook) -> None:
    cells.run_cell(1)
    status = cells.widget.get_by_test_id("status")
    expect(status).to_have_attribute("data-status", "done", timeout=PATIENT)
    expect(cells.widget.get_by_test_id("chip-1")).to_have_text("a")
    first = cells.run_python("print(widget.trace.prompt, widget.trace.meta['seed'], len(widget.trace.steps))")
    assert first == "a red circle 7 8"
    field = cells.widget.get_by_test_id("prompt-input")
    field.fill("a red square")
    field.press("Enter")
    expect(cells.widget.get_by_test_id("chip-3")).to_contain_text("square", timeout=60_000)
    expect(status).to_have_attribute("data-status", "done", timeout=60_000)
    assert cells.run_python("print(widget.trace.prompt, widget.trace.meta['seed'])") == "a red square 7"


def test_a_newer_edit_stops_the_older_run_and_the_latest_wins(cells: Notebook) -> None:
    cells.run_cell(1)
    status = cells.widget.get_by_test_id("status")
    expect(status).to_have_attribute("data-status", "done", timeout=PATIENT)
    cells.run_python("calls.clear(); gate.clear()")
    field = cells.widget.get_by_test_id("prompt-input")
    field.fill("a green star")
    field.press("Enter")
    slider = cells.widget.get_by_test_id("slider")
    expect(slider).to_have_attribute("aria-valuemax", "3", timeout=60_000)  # it stands in the middle of its fourth step
    field.fill("a blue moon")
    field.press("Enter")
    expect(status).to_have_attribute("data-status", "stopping")
    field.fill("a pink tree")
    field.press("Enter")
    cells.run_python("gate.set()")
    expect(cells.widget.get_by_test_id("chip-2")).to_contain_text("pink", timeout=60_000)
    expect(status).to_have_attribute("data-status", "done", timeout=60_000)
    printed = cells.run_python("widget.wait(60); print([(t.prompt, len(t.steps)) for t in widget.history])")
    assert printed == "[('a red circle', 8), ('a green star', 4), ('a pink tree', 8)]"
    assert field.input_value() == "a pink tree"


def test_a_word_of_the_chart_is_chosen_in_the_widget(cells: Notebook) -> None:
    cells.run_cell(1)
    expect(cells.widget.get_by_test_id("status")).to_have_attribute("data-status", "done", timeout=PATIENT)
    cells.run_cell(2)
    button = cells.output(2).get_by_role("button", name="red")
    button.click()
    chip = cells.widget.get_by_test_id("chip-2")
    expect(chip).to_have_attribute("aria-pressed", "true")
    button.press("Enter")
    expect(chip).to_have_attribute("aria-pressed", "false")
    chip.click()
    expect(button).to_have_class(re.compile("mod-active"))


def test_a_decision_is_found_out_in_a_real_page(cells: Notebook) -> None:
    cells.run_cell(3)
    expect(cells.widget.get_by_test_id("status")).to_have_attribute("data-status", "done", timeout=PATIENT)
    cells.widget.get_by_test_id("decision").click()
    view = cells.widget.locator(".dv-decision")
    view.get_by_label("Word", exact=True).select_option("red")
    view.get_by_label("Replacement").fill("blue")
    view.get_by_test_id("compute-decision").click()
    # the model has random weights: its images differ by too little
    expect(view.get_by_role("status")).to_contain_text("cannot distinguish the two", timeout=PATIENT)
    expect(view.locator(".dv-one")).to_have_count(4)
    assert cells.run_python("print(metered._session.history.runs[-1].decisions[0].content['seeds'])") == "4"
