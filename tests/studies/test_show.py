"""The kernel's side of a study in the notebook."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from traitlets import TraitError

import diffvis_widget as dv
from diffvis_widget.intervals import bootstrap_mean
from diffvis_widget.studies import parts
from diffvis_widget.studies.charts import round_ticks
from diffvis_widget.studies.manifest import read
from diffvis_widget.studies.parts import join_parts
from diffvis_widget.studies.view.curve_chart import step_ticks
from diffvis_widget.studies.view.thumbnails import Thumbnails
from tests.studies.stored import colour, store

PROMPTS, SEEDS = 9, 3  # and two conditions: 54 rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("show") / "study"
    store(folder, PROMPTS, SEEDS, failed=[5])
    return folder


@pytest.fixture
def view(folder: Path) -> Any:
    view = dv.Study.open(folder).show()
    yield view
    view.close()


def received(view: Any, message: Any) -> list[tuple[Any, list[bytes]]]:
    """What the kernel sends to the page when that sends a message."""
    sent: list[tuple[Any, list[bytes]]] = []
    view.grid.send = lambda content, buffers=None: sent.append((content, buffers or []))
    view.grid._handle_custom_msg(message, [])
    del view.grid.send
    return sent


def test_the_page_learns_of_every_row(view: Any, folder: Path) -> None:
    (table, buffers), (shown, indices) = received(view, {"type": "hello"})
    assert shown == {"type": "shown"}
    assert np.frombuffer(indices[0], np.int32).tolist() == list(range(54))
    rows, prompts, conditions = (np.frombuffer(buffer, np.int32) for buffer in buffers[:3])
    stored = dv.Study.open(folder).table(["prompt", "condition", "seed"]).to_pylist()
    assert [table["prompts"][code] for code in prompts] == [row["prompt"] for row in stored]
    assert [table["conditions"][code] for code in conditions] == [row["condition"] for row in stored]
    assert np.frombuffer(buffers[3]).tolist() == [row["seed"] for row in stored]
    assert rows.tolist() == list(range(54))
    assert table["errors"] == {"5": "ValueError: no memory"}
    assert {column["name"]: column["kind"] for column in table["columns"]} == {
        "prompt": "text", "seed": "choice", "condition": "choice", "error": "choice", "category": "choice",
        "attention_mass": "number", "brightness": "number", "sharpness": "number",
    }  # fmt: skip


def test_thumbnails_are_those_of_their_rows(view: Any) -> None:
    ((content, images),) = received(view, {"type": "thumbnails", "rows": [53, 5, 0]})
    assert content == {"type": "thumbnails", "rows": [53, 5, 0]}
    assert images[1] == b""
    for row, data in ((53, images[0]), (0, images[2])):
        pixel = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))[48, 48]
        assert np.abs(pixel - np.array(colour(row))).max() <= 4


@pytest.mark.parametrize("rows", [["1"], [True], list(range(401))])
def test_a_page_that_asks_for_something_else_gets_an_error(view: Any, rows: list[Any]) -> None:
    ((content, _),) = received(view, {"type": "thumbnails", "rows": rows})
    assert content["type"] == "error"
    assert "400 rows or fewer" in content["error"]


def test_thumbnails_survive_parts_that_are_joined_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(tmp_path / "study", 10, 5)
    manifest, _ = read(tmp_path / "study")
    thumbnails = Thumbnails(tmp_path / "study", manifest.columns, manifest.study)
    before = thumbnails.read(range(100))
    monkeypatch.setattr(parts, "_MERGE_FROM", 2)
    monkeypatch.setattr(parts, "_GROUP_ROWS", 30)
    join_parts(tmp_path / "study", "all", manifest.study)
    assert len(list((tmp_path / "study" / "parts").glob("*.parquet"))) == 1
    thumbnails._cache.clear()
    thumbnails._bounds.clear()
    assert thumbnails.read(range(100)) == before
    assert len(set(before)) == 100


@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        ({"condition": ["early"]}, lambda row: row["condition"] == "early"),
        ({"seed": ["0", "2"], "category": ["odd"]}, lambda row: row["seed"] != 1 and row["category"] == "odd"),
        ({"brightness": (10, None)}, lambda row: (row["brightness"] or -1) >= 10),
        ({"brightness": [3, 7.5]}, lambda row: 3 <= (row["brightness"] or -1) <= 7.5),
        ({"prompt": "CIRCLE 4"}, lambda row: row["prompt"] == "a red circle 4"),
        ({"error": ["failed"]}, lambda row: row["row"] == 5),
        ({"prompt": "green"}, lambda row: False),
    ],
)
def test_filters_keep_the_rows_that_pass(view: Any, folder: Path, filters: dict[str, Any], passes: Any) -> None:
    view.filters = filters
    table = dv.Study.open(folder).table(["row", "prompt", "seed", "condition", "category", "brightness"]).to_pylist()
    assert view.rows == [row["row"] for row in table if passes(row)]


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"conditon": ["early"]}, "did you mean 'condition'"),
        ({"condition": ["late"]}, "must be a list of some of"),
        ({"brightness": "low"}, "must be .lowest, highest."),
        ({"brightness": [float("nan"), 1]}, "must be .lowest, highest."),
        ({"prompt": ""}, "must be a text to search for"),
    ],
)
def test_filters_that_fit_no_column_are_refused(view: Any, filters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        view.filters = filters
    with pytest.raises(TraitError, match=message):
        view.grid.filters = filters
    assert view.rows == list(range(54))


def test_the_chart_has_the_means_and_intervals_of_the_rows_that_are_shown(view: Any) -> None:
    view.chart.measure.value, view.chart.group.value = "sharpness", "condition"
    view.filters = {"seed": ["0"]}
    band, mean = view.chart._figure.marks[:2]
    rows = np.array([6 * prompt for prompt in range(PROMPTS)])  # of the first seed and condition
    np.testing.assert_allclose(mean.y, rows.mean() + np.arange(10) / 100)
    np.testing.assert_allclose(band.y[:, 0], bootstrap_mean(rows.astype(float))[:2], rtol=1e-9)
    assert [key.description for key in view.chart._keys.children] == ["uniform", "early"]


@pytest.mark.parametrize(
    ("last", "ticks"), [(2, [1, 2]), (11, list(range(1, 12))), (20, [1, 5, 10, 15, 20]), (30, [1, 10, 20, 30])]
)
def test_the_steps_of_the_chart_are_numbered_by_round_numbers(last: int, ticks: list[int]) -> None:
    assert step_ticks(last).tolist() == ticks


def test_the_values_of_the_chart_are_numbered_by_round_numbers_among_its_curves(view: Any) -> None:
    view.chart.measure.value, view.chart.group.value = "sharpness", "condition"
    view.filters = {"seed": ["0"]}
    axis = view.chart._figure.axes[1]
    values = np.concatenate([np.ravel(mark.y) for mark in view.chart._figure.marks])
    assert axis.tick_values.tolist() == round_ticks(values.min(), values.max())
    view.grid.active = int(view._rows[-1])  # whose curve lies above all others
    values = np.concatenate([np.ravel(mark.y) for mark in view.chart._figure.marks])
    assert axis.tick_values.tolist() == round_ticks(values.min(), values.max())


def test_a_group_of_the_chart_filters_the_grid_and_a_second_click_shows_all(view: Any) -> None:
    view.chart.group.value = "condition"
    view.chart._keys.children[1].value = True
    assert view.filters == {"condition": ["early"]}
    (key,) = view.chart._keys.children
    assert key.value
    key.value = False
    assert view.filters == {}


def test_a_region_of_the_chart_keeps_the_rows_whose_curves_pass_through(view: Any) -> None:
    view.chart.measure.value = "sharpness"
    brush = view.chart._brush
    brush.brushing = True
    brush.selected = np.array([[2.0, 9.5], [4.0, 12.02]])
    brush.brushing = False
    assert view.grid.region == {"measure": "sharpness", "steps": [2, 4], "values": [9.5, 12.02]}
    assert view.rows == [10, 11, 12]
    view.grid.region = {}
    assert view.rows == list(range(54))
    assert brush.selected is None


def test_the_cursor_of_the_grid_draws_the_curve_of_its_row(view: Any) -> None:
    view.chart.measure.value = "sharpness"
    view.grid.active = 7
    np.testing.assert_allclose(view.chart._own.y, 7 + np.arange(10) / 100)
    view.grid.active = 5  # failed
    assert len(view.chart._own.y) == 0


def test_a_run_opens_from_its_trace_file_or_is_made_again(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"measures": ["scores"], "progress": False, "num_inference_steps": 2}
    with_files = dv.study(None, ["a red circle"], seeds=2, out=tmp_path / "kept", keep_traces="full", **arguments)
    with_trace: Any = with_files.show()
    with_trace.open_run(1)
    assert "From its trace file" in with_trace.panel._note.value
    conditions = {"late": {"schedule": "late"}, "doubled": {"interventions": [dv.intervene.weight("red", 2.0)]}}
    study = dv.study(None, ["a red circle"], conditions=conditions, out=tmp_path / "plain", **arguments)
    view: Any = study.show()
    for row, key in ((0, "schedule"), (1, "interventions")):
        view.open_run(row)
        view.panel.thread.join()
        assert "the image equals the stored one" in view.panel._note.value
        trace = view.panel.widget.trace
        assert trace.meta[key]
        assert len(trace.steps) == 2
    assert (with_trace.panel.widget.trace.image == with_files.trace(1).image).all()
    for each in (with_trace, view):
        each.panel.widget.close()
        each.close()


def test_a_study_with_every_kind_of_column_is_shown(tmp_path: Path) -> None:
    measures: dict[str, Any] = {
        "scores": {}, "overlap": {}, "divergence": {}, "decision": {"word": "red", "to": "blue", "switch": [1]},
    }  # fmt: skip
    arguments: dict[str, Any] = {"conditions": ["uniform", "early"], "progress": False, "num_inference_steps": 2}
    study = dv.study(None, ["a red circle"], measures=measures, out=tmp_path / "study", **arguments)
    view: Any = study.show()
    overlap = study.table(["overlap"]).column("overlap").to_pylist()
    between_words = [np.mean(np.array(values)[~np.eye(len(values), dtype=bool)]) for values in overlap]
    np.testing.assert_allclose(view._columns["overlap"].values, between_words, rtol=1e-6)
    assert "decision_share" not in view.chart.measures
    view.chart.measure.value = "scores_share"
    assert view.chart.group.options == ("concept",)
    assert [key.description for key in view.chart._keys.children] == ["circle", "red"]
    view.close()


def test_another_model_is_not_taken_for_that_of_the_study(folder: Path) -> None:
    view: Any = dv.Study.open(folder).show(dv.load())
    view.open_run(0)
    view.panel.thread.join()
    assert "This is not the model of the study" in view.panel._note.value
    assert view.panel.widget is None
    view.close()


def test_wrong_arguments_are_refused(view: Any, folder: Path) -> None:
    with pytest.raises(TypeError, match="model must be a pipeline, a name"):
        dv.Study.open(folder).show(3)
    with pytest.raises(IndexError, match="54"):
        view.open_run(54)
    with pytest.raises(TypeError, match="row"):
        view.open_run("first")


def test_a_program_that_executes_a_notebook_leaves_images(view: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffvis_widget.widget.jupyter.is_unattended", lambda: True)
    html = view._repr_mimebundle_()["text/html"]
    assert html.count("data:image/webp;base64,") == 23  # of 24 rows one failed
    assert 'alt="a red circle 0"' in html
