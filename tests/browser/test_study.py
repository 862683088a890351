"""A study in a real JupyterLab: images, filters, chart and runs, linked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, expect

import diffvis_widget as dv
from tests.browser.lab import Lab, Notebook, open_notebook
from tests.studies.stored import store

ROWS, MANY = 12, 4000
SHOW = "import diffvis_widget as dv\nview = dv.Study.open({folder!r}).show()\nview"

# notes the rows whose thumbnails the page asks for
WATCHED = """
import diffvis_widget as dv
view, asked = dv.Study.open({folder!r}).show(), []
read = view._thumbnails.read
view._thumbnails.read = lambda rows: asked.extend(rows) or read(rows)
view
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "study"
    arguments: dict[str, Any] = {"measures": ["attention"], "num_inference_steps": 3, "progress": False}
    prompts = [{"prompt": "a red circle", "kind": "round"}, {"prompt": "a blue square", "kind": "angular"}]
    dv.study(None, prompts, seeds=3, conditions=["uniform", "early"], out=folder, threads=1, **arguments)
    return folder


@pytest.fixture(scope="module")
def notebook(browser: Browser, lab: Lab, folder: Path) -> Iterator[Notebook]:
    with open_notebook(browser, lab, lab.add("study.ipynb", SHOW.format(folder=str(folder)))) as notebook:
        notebook.run_all()
        notebook.idle()
        yield notebook


@pytest.fixture
def study(notebook: Notebook) -> Iterator[Locator]:
    study = notebook.page.locator(".dv-study")
    expect(study.locator("[data-row] img")).to_have_count(ROWS)
    yield study
    notebook.run_python("view.filters = {}; view.grid.region = {}")
    expect(study.get_by_test_id("count")).to_have_text(f"{ROWS} images")


def test_the_images_stand_by_prompt_condition_and_seed(study: Locator) -> None:
    expect(study.locator(".dv-heading")).to_have_text(["a red circle", "a blue square"])
    expect(study.locator(".dv-label")).to_have_text(["uniform", "early"] * 2)
    expect(study.locator(".dv-cell > span")).to_have_text(["seed 0", "seed 1", "seed 2"] * 4)
    widths = "(images) => Promise.all(images.map(async (image) => (await image.decode(), image.naturalWidth)))"
    assert set(study.locator("img").evaluate_all(widths)) == {96}


def test_a_filter_holds_in_the_grid_the_chart_and_python(study: Locator, notebook: Notebook) -> None:
    study.get_by_test_id("filter-condition").get_by_role("button", name="early").click()
    expect(study.get_by_test_id("count")).to_contain_text(f"{ROWS // 2} of {ROWS} images")
    expect(study.locator(".dv-label")).to_have_text(["early"] * 2)
    study.get_by_label("Search prompt").fill("BLUE")
    expect(study.locator(".dv-heading")).to_have_text(["a blue square"])
    assert notebook.run_python("print(view.filters, view.rows)") == (
        "{'condition': ['early'], 'prompt': 'BLUE'} [7, 9, 11]"
    )
    keys = notebook.page.locator(".jp-OutputArea button.widget-toggle-button")
    expect(keys).to_have_text(["early"])
    study.get_by_role("button", name="Show all").click()
    expect(keys).to_have_text(["uniform", "early"])


def test_a_column_that_is_added_filters_by_a_range(study: Locator) -> None:
    study.get_by_label("Add a filter").select_option("attention_entropy")
    ends = study.get_by_test_id("filter-attention_entropy").locator("input")
    expect(ends).to_have_count(2)
    ends.nth(0).fill("2")  # an entropy is 1 at most
    ends.nth(0).press("Enter")
    expect(study.get_by_test_id("count")).to_contain_text(f"0 of {ROWS}")
    expect(study.get_by_text("No row passes all filters.")).to_be_visible()
    study.get_by_label("Remove the filter attention_entropy").click()
    expect(study.get_by_test_id("count")).to_have_text(f"{ROWS} images")
    expect(study.get_by_test_id("filter-attention_entropy")).to_have_count(0)


def test_a_part_of_the_chart_that_is_dragged_over_keeps_its_rows(study: Locator, notebook: Notebook) -> None:
    plot = notebook.page.locator(".bqplot .selector .overlay, .bqplot .brush .overlay").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    mouse = notebook.page.mouse
    mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 1)
    mouse.down()
    mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 12, steps=3)
    mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 24, steps=3)
    mouse.up()
    region = study.get_by_test_id("region")
    expect(region).to_contain_text("in steps 2 to 2")
    shown = notebook.run_python("print(view.rows == view._rows[view.chart.inside(view.grid.region)].tolist())")
    assert shown == "True"
    region.get_by_role("button").click()
    expect(region).to_have_count(0)
    expect(study.get_by_test_id("count")).to_have_text(f"{ROWS} images")
    assert notebook.run_python("print(view.chart._brush.selected)") == "None"


def test_keys_move_through_the_images_and_open_one_in_the_viewer(study: Locator, notebook: Notebook) -> None:
    grid = study.get_by_test_id("grid")
    grid.focus()
    for key in ("Home", "ArrowDown", "ArrowRight"):
        grid.press(key)
    active = study.locator("[data-active]")
    expect(active).to_have_attribute("data-row", "3")  # prompt 0, the second seed, early
    expect(grid).to_have_attribute("aria-activedescendant", str(active.get_attribute("id")))
    grid.press("Enter")
    viewer = notebook.page.locator(".dv:not(.dv-study)")
    expect(viewer.get_by_test_id("status")).to_have_attribute("data-status", "done", timeout=120_000)
    expect(viewer.get_by_test_id("slider")).to_have_attribute("aria-valuemax", "3")
    note = notebook.page.get_by_role("status").filter(has_text="seed 1")
    expect(note).to_contain_text("the image equals the stored one")
    expect(active).to_have_attribute("aria-selected", "true")
    left, right = study.bounding_box(), viewer.bounding_box()
    assert left is not None
    assert right is not None
    assert right["x"] >= left["x"] + left["width"] - 1, "the run stands beside the grid"


def test_a_click_opens_another_run_in_its_place(study: Locator, notebook: Notebook) -> None:
    study.locator("[data-row='6']").click()
    note = notebook.page.get_by_role("status").filter(has_text="a blue square · seed 0 · uniform")
    expect(note).to_contain_text("the image equals the stored one", timeout=120_000)
    expect(notebook.page.locator(".dv:not(.dv-study)")).to_have_count(1)


def test_a_study_of_many_rows_has_few_elements_and_loads_what_is_on_the_page(
    browser: Browser, lab: Lab, tmp_path: Path
) -> None:
    store(tmp_path / "many", MANY // 20, 10, failed=[MANY - 1])
    name = lab.add("many.ipynb", WATCHED.format(folder=str(tmp_path / "many")))
    with open_notebook(browser, lab, name) as notebook:
        notebook.run_all()
        study = notebook.page.locator(".dv-study")
        expect(study.locator("[data-row='0'] img")).to_be_visible(timeout=120_000)
        grid = study.get_by_test_id("grid")
        grid.focus()
        grid.press("End")
        expect(study.locator(f"[data-row='{MANY - 2}'] img")).to_be_visible(timeout=60_000)
        expect(study.locator(f"[data-row='{MANY - 1}']")).to_contain_text("failed")
        assert study.locator("*").count() < 500
        asked_for = notebook.run_python("print(len(asked), min(asked), max(asked))").split()
        assert int(asked_for[0]) < 400
        assert int(asked_for[2]) == MANY - 1
