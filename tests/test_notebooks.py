"""Every notebook runs from end to end in a kernel of its own, and is committed without outputs."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

import diffvis_widget as dv

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LESSONS = [path for path in NOTEBOOKS if not path.name.startswith("01_")]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_from_end_to_end(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "stream" and output.name == "stderr"]
    assert not list(tmp_path.glob("*.safetensors")), "a lesson leaves files behind"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_committed_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert "widgets" not in notebook.metadata


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_has_exercises_and_a_real_model(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert "## Exercises" in text
    assert "## On a real model" in text


def test_attention_is_where_the_second_lesson_says() -> None:
    trace = dv.trace(dv.load(), "a red circle above a blue square", seed=7, num_inference_steps=30, guidance_scale=7.5)
    shares = trace.heat_maps(step=15, layer=trace.layers[-1].name).mean(axis=(1, 2))
    assert sum(share for word, share in zip(trace.words, shares, strict=True) if word.kind != "word") > 0.5
    red, green, blue = (trace.image[..., channel].astype(float) for channel in range(3))
    circle, square = (red > 150) & (green < 110) & (blue < 110), (blue > 130) & (red < 110)
    for word, region, other in (("red", circle, square), ("circle", circle, square), ("blue", square, circle)):
        heat_map = trace.heat_map(word, size=trace.image.shape[:2])
        assert heat_map[region].mean() > 3 * heat_map[other].mean(), word


def test_curves_correlate_as_the_third_lesson_says() -> None:
    concepts = ["red", "circle", "grass", "star"]
    trace = dv.trace(dv.load(), "a large red circle on grass", seed=7, num_inference_steps=15)
    scores, correlation = dv.concept_scores(trace, concepts), dv.correlation(trace, concepts)
    assert np.isfinite(scores.emergence).tolist() == [True, True, False, False]
    above = scores.cosine > scores.null_band[:, 1:]
    assert above[:, concepts.index("grass")].all(), "the meadow is there from the first step on"
    assert not above[:, concepts.index("star")].any()
    rho = dict(zip(correlation.words, correlation.rho[0, :, concepts.index("circle")], strict=True))
    assert max(rho, key=lambda word: rho[word]) == "a"
    assert rho["a"] > 0.6
    assert rho["circle"] < -0.6
    assert not (correlation.p_adjusted < 0.05).any()
    assert (dv.correlation(trace, concepts, test="independent").p_adjusted < 0.05).any()


def test_the_quickstart_begins_with_the_widget() -> None:
    first, second, *_ = nbformat.read(ROOT / "notebooks" / "01_quickstart.ipynb", as_version=4).cells
    assert first.cell_type == "code"
    assert first.source.endswith("\nwidget")
    assert second.source.startswith("# Watch a diffusion model decide")
