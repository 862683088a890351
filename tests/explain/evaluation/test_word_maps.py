"""The comparison of ways to make a word's map: it measures every way in a scene, resumes, and shows its results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import diffvis_widget as dv
from diffvis_widget.explain.evaluation import json_lines as lines
from diffvis_widget.explain.evaluation import report, word_maps
from diffvis_widget.explain.evaluation.ground_truth import Rendering
from diffvis_widget.scenes.evaluation.captions import held_out_scenes


@pytest.fixture(scope="module")
def measurements() -> dict[str, Any]:
    pipe = dv.load()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(word_maps, "STEPS", 3)
        return word_maps.measure(pipe, Rendering(pipe, held_out_scenes(2)[1], 1))


def test_every_way_is_measured_at_each_step_and_over_all(measurements: dict[str, Any]) -> None:
    assert len(measurements["timesteps"]) == 3
    values = {name: np.array(table) for name, table in measurements["roles"]["object"]["values"].items()}
    assert len(values) == 11
    assert all(table.shape == (3, 4) and table.min() >= 0 and table.max() <= 1 for table in values.values())
    assert (values[word_maps.TRUTH][0] == 1).all()
    assert (values[word_maps.TRUTH][2] > 0.9).all()
    assert len(set(values[word_maps.LAST][1])) == 1  # the last step's map is compared at every step
    assert values[word_maps.LAST][1, 0] == values[word_maps.ALL][1, 2]


def test_the_page_has_their_tables(measurements: dict[str, Any], tmp_path: Path) -> None:
    for scene in range(6):
        lines.append(tmp_path / "word_maps.jsonl", {"scene": scene, "model": "m", **measurements})
    report.write(tmp_path)
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "6 held-out renderings with known masks, noised to 3 levels" in page
    expected = measurements["roles"]["object"]["values"]["refined"]
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| refined |")]
    shown = [float(cell.split()[0]) for cell in rows[0][1:4]]
    assert shown == pytest.approx([measure[-1] for measure in expected], abs=0.006)
    assert [float(cell.rstrip(" |")) for cell in rows[1][1:]] == pytest.approx(expected[1][:-1], abs=0.006)


def test_an_image_that_exists_has_a_table_beside_that_of_runs(measurements: dict[str, Any], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(word_maps, "STEPS", 3)
        existing = word_maps.measure(dv.load(), Rendering(dv.load(), held_out_scenes(2)[1], 1), existing=True)
    assert existing["timesteps"] == measurements["timesteps"]
    assert existing["roles"]["object"]["words"] == measurements["roles"]["object"]["words"]
    for scene in range(6):
        lines.append(tmp_path / "word_maps.jsonl", {"scene": scene, "model": "m", **measurements})
        lines.append(tmp_path / "image_maps.jsonl", {"scene": scene, "model": "m", **existing})
    report.write(tmp_path)
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    (row,) = [line.split(" | ") for line in page.splitlines() if line.startswith("| object | refined |")]
    there, here = (part["roles"]["object"]["values"]["refined"][1][-1] for part in (existing, measurements))
    assert float(row[3].split()[0]) == pytest.approx(there, abs=0.006)
    assert float(row[5].split()[0]) == pytest.approx(there - here, abs=0.006)
