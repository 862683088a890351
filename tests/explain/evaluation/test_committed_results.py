"""The committed measurements, the page made from them, and the findings that the registry quotes agree."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from diffvis_widget.explain.evaluation import report
from diffvis_widget.explain.methods import find_method
from diffvis_widget.intervals import median_interval

RESULTS = Path(__file__).parents[3] / "benchmarks" / "explain"


def test_the_page_is_the_one_that_the_report_writes(tmp_path: Path) -> None:
    for path in RESULTS.glob("*.jsonl"):
        shutil.copy(path, tmp_path)
    report.write(tmp_path)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == (RESULTS / "README.md").read_text(encoding="utf-8")


def pointing(method: str, step: int) -> int:
    """How often the maximum of the method's maps lies on an object at this step, in percent of the scenes."""
    lines = [json.loads(line) for line in (RESULTS / "steps.jsonl").read_text(encoding="utf-8").splitlines()]
    return round(100 * float(np.mean([line["methods"][method][0] for line in lines if line["step"] == step])))


@pytest.mark.parametrize("name", ["df_rise", "df_cam", "df_lime"])
def test_a_finding_quotes_the_measurements(name: str) -> None:
    method = find_method(name)
    steps = (2, 6)  # of high noise and of low
    expected = [*(pointing(method.label, step) for step in steps), max(pointing("centre", step) for step in steps)]
    assert [int(percent) for percent in re.findall(r"(\d+)%", method.finding)] == expected


def test_the_finding_of_smooth_masks_quotes_its_measurements() -> None:
    lines = [json.loads(line) for line in (RESULTS / "step_maps.jsonl").read_text(encoding="utf-8").splitlines()]
    names = ("RISE, smooth masks", "edge")
    of_maps = [line["maps"] for line in lines if "maps" in line]
    expected = [round(100 * float(np.mean([maps[name][0] for maps in of_maps]))) for name in names]
    assert [int(percent) for percent in re.findall(r"(\d+)%", find_method("smooth_rise").finding)] == expected


def test_the_finding_of_smooth_masks_says_what_the_deletion_game_found() -> None:
    lines = [json.loads(line) for line in (RESULTS / "step_maps.jsonl").read_text(encoding="utf-8").splitlines()]
    games = [line["games"] for line in lines if "games" in line]
    assert len(games) >= 40

    def over_random(rules: str, name: str) -> list[float]:
        return [areas[rules][name][0] - areas[rules]["random"][0] for areas in games]

    quoted: list[float] = []
    for rules in ("the image one step later, zeros", "the predicted image, noise"):
        for name in ("RISE, smooth masks", "edge"):
            assert median_interval(over_random(rules, name))[0] > 0
        quoted.append(round(float(np.median(over_random(rules, "RISE, smooth masks"))), 2))
    finding = find_method("smooth_rise").finding
    assert [float(area) for area in re.findall(r"0\.\d+", finding)] == quoted
