"""What needs a pipeline whose pace the test sets: Stop in a cell that waits, a cell run again, a failure, markup."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.lab import Lab, Notebook, open_notebook

PATIENT = 600_000
SETUP = """
import threading
import diffvis_widget as dv
from tests import pipelines

pipe = pipelines.stable_diffusion()
gate, calls = threading.Event(), []

def pace(*_):
    calls.append(1)
    if len(calls) > 3:
        gate.wait(120)

pipe.unet.register_forward_pre_hook(pace)
"""
SHOW = """
calls.clear(); gate.clear()
widget = dv.DiffVis(pipe, prompt="<img src=x onerror=window.hacked=1> <b>bold</b>", concepts=["<i>x</i>"], steps=8)
widget
"""
WAIT = """
widget.wait(100)
print(widget.status, len(widget.trace.steps))
"""


@pytest.fixture
def live(browser: Browser, lab: Lab) -> Iterator[Notebook]:
    lab.add("live.ipynb", SETUP, SHOW, WAIT)
    with open_notebook(browser, lab, "live.ipynb") as notebook:
        yield notebook


def test_stop_reaches_python_while_a_cell_waits(live: Notebook) -> None:
    live.run_all()
    status = live.widget.get_by_test_id("status")
    expect(status).to_have_attribute("data-status", "running", timeout=PATIENT)
    slider = live.widget.get_by_test_id("slider")
    expect(slider).to_have_attribute("aria-valuemax", "3", timeout=60_000)  # finished steps, in the middle of a run
    slider.focus()
    slider.press("Home")
    expect(slider).to_have_attribute("aria-valuenow", "1")
    live.widget.get_by_test_id("stop").click()
    expect(status).to_have_attribute("data-status", "stopping")
    # a second shell reaches the kernel too, while the main one waits in the cell
    live.run_in_subshell("gate.set()")
    expect(status).to_have_attribute("data-status", "stopped", timeout=60_000)
    expect(live.output(2)).to_contain_text("stopped 4", timeout=60_000)
    assert live.page.evaluate("() => window.hacked") is None
    assert live.widget.locator("img, b:not(.dv-dot)").count() == 0  # the dots of the meters are ours
    expect(live.widget).to_contain_text("<")


def test_a_cell_that_is_run_again_stops_its_old_run(live: Notebook) -> None:
    live.run_cell(0)
    live.run_cell(1)
    # Three finished steps: from here on the first run stands at the gate, and can be stopped but not yet have stopped.
    slider = live.widget.get_by_test_id("slider")
    expect(slider).to_have_attribute("aria-valuemax", "3", timeout=PATIENT)
    live.run_python("first = widget")
    live.run_cell(1)
    assert live.run_python("print(first.status)") == "stopping"
    live.run_python("gate.set(); widget.wait(60)")
    expect(live.widget.get_by_test_id("status")).to_have_attribute("data-status", "done", timeout=60_000)
    assert live.run_python("print(first.status, len(widget.trace.steps))") == "stopped 8"


def test_a_reload_in_the_middle_of_a_run_heals(live: Notebook) -> None:
    live.run_cell(0)
    live.run_cell(1)
    slider = live.widget.get_by_test_id("slider")
    expect(slider).to_have_attribute("aria-valuemax", "3", timeout=PATIENT)
    live.command("docmanager:save")
    live.reload()
    expect(slider).to_have_attribute("aria-valuemax", "3", timeout=60_000)
    expect(live.widget.get_by_test_id("status")).to_have_attribute("data-status", "running")
    slider.focus()
    slider.press("Home")
    expect(slider).to_have_attribute("aria-valuenow", "1")
    live.run_python("gate.set()")
    expect(live.widget.get_by_test_id("status")).to_have_attribute("data-status", "done", timeout=60_000)
    expect(slider).to_have_attribute("aria-valuemax", "8")


def test_a_cell_that_is_run_fifty_times_leaves_nothing(live: Notebook) -> None:
    live.run_cell(0)
    live.run_python("gate.set()")
    show = "from IPython.display import display\ndisplay(dv.DiffVis(pipe, prompt='a red circle', steps=2))"
    live.set_source(1, show)
    count = (
        "import gc, threading\ngc.collect()\n"
        "print(sum(type(o) is dv.DiffVis for o in gc.get_objects()),"
        " sum(t.name.startswith('diffvis') for t in threading.enumerate()) <= 9)"
    )
    for _ in range(50):
        live.run_cell(1)
    status = live.widget.get_by_test_id("status")
    expect(status).to_have_attribute("data-status", "done", timeout=PATIENT)
    assert live.run_python(count).split()[1] == "True"
    assert int(live.run_python(count).split()[0]) <= 2
    assert live.page.locator(".dv").count() == 1


def test_a_kernel_that_dies_in_the_middle_leaves_what_has_arrived(live: Notebook) -> None:
    live.run_cell(0)
    live.run_cell(1)
    slider = live.widget.get_by_test_id("slider")
    expect(slider).to_have_attribute("aria-valuemax", "3", timeout=PATIENT)
    live.kill_kernel()
    expect(live.widget.get_by_test_id("status")).to_contain_text(re.compile("No kernel|busy, or gone"), timeout=90_000)
    dialog = live.page.locator(".jp-Dialog")  # JupyterLab's own: that the kernel restarts
    if dialog.count():
        dialog.get_by_role("button").last.click()
        expect(dialog).to_have_count(0)
    slider.focus()
    slider.press("Home")
    expect(slider).to_have_attribute("aria-valuenow", "1")


def test_a_failure_says_what_happened_and_keeps_the_steps(live: Notebook) -> None:
    live.run_cell(0)
    live.run_python("gate.set()")
    live.run_python(
        "def fail(*_):\n    if len(calls) == 6: raise ValueError('the <b>fan</b> fell off')\n"
        "handle = pipe.unet.register_forward_pre_hook(fail)"
    )
    live.run_cell(1)
    live.run_python("gate.set()")
    status = live.widget.get_by_test_id("status")
    expect(status).to_have_attribute("data-status", "failed", timeout=PATIENT)
    expect(live.widget).to_contain_text("the <b>fan</b> fell off")
    slider = live.widget.get_by_test_id("slider")
    expect(slider).to_have_attribute("aria-valuemax", "5")
    live.run_python("handle.remove(); calls.clear()")
    live.widget.get_by_test_id("run").click()
    expect(status).to_have_attribute("data-status", "done", timeout=60_000)


def test_a_figure_of_the_view_is_saved_by_the_browser(live: Notebook, tmp_path: Path) -> None:
    live.run_cell(0)
    live.run_python("gate.set()")
    live.set_source(1, "widget = dv.DiffVis(pipe, prompt='a red circle', steps=3, seed=7)\nwidget")
    live.run_cell(1)
    expect(live.widget.get_by_test_id("status")).to_have_attribute("data-status", "done", timeout=PATIENT)
    live.widget.get_by_test_id("slider").press("Home")
    live.widget.get_by_test_id("chip-3").click()
    live.widget.get_by_test_id("export").click()
    with live.page.expect_download() as waiting:
        live.widget.get_by_test_id("export-png").click(timeout=60_000)
    assert waiting.value.suggested_filename == "a-red-circle-step-1.png"
    waiting.value.save_as(tmp_path / "figure.png")
    live.run_python("import hashlib; figure = dv.export.png(widget.trace, step=0, words='circle')")
    expected = live.run_python("print(hashlib.sha256(figure).hexdigest())")
    assert hashlib.sha256((tmp_path / "figure.png").read_bytes()).hexdigest() == expected
