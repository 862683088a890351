"""The table on when to believe the meter: counted by hand on made readings, and run on two captions."""

from __future__ import annotations

import numpy as np
import pytest

from diffvis_widget import scenes
from diffvis_widget.intervals import proportion_interval
from diffvis_widget.scenes.evaluation import reliability
from diffvis_widget.scenes.evaluation.judge import Detection, Verdict
from diffvis_widget.scenes.world import COLOURS, SHAPES, Thing


def test_what_the_judge_names_is_what_is_there() -> None:
    things = [Thing("circle", "red"), Thing("star", "red", texture="dotted")]
    verdict = Verdict(tuple(Detection(thing, 1, 1, 1) for thing in things), "sea")
    assert reliability.shown_words(verdict) == {"shape": {"circle", "star"}, "colour": {"red"}}


def test_steps_are_those_nearest_to_the_levels() -> None:
    sigmas = np.array([4096, 12, 7, 4, 2, 1, 0.5, 0.2], dtype=np.float32)
    assert reliability.sampled_steps(sigmas) == [0, 1, 3, 4, 5, 6, 7]


def test_answers_are_counted() -> None:
    tallies = [reliability.Tally(), reliability.Tally()]
    read = {name: np.zeros((2, len(words)), np.float32) for name, words in reliability.SETS.items()}
    read["shape"][0, SHAPES.index("star")] = 0.5  # wrong at first
    read["shape"][1, SHAPES.index("circle")] = 0.5
    read["colour"][:, list(COLOURS).index("red")] = 0.4
    null = np.array([[-0.1, 0.1], [-0.1, 0.45]], dtype=np.float32)
    shown = {"shape": {"circle"}, "colour": {"red"}}
    reliability.add(tallies, np.array([10, 1], np.float32), read, null, shown)
    first, last = tallies
    assert (first.best, last.best) == (
        {"shape": [False], "colour": [True]},
        {"shape": [True], "colour": [True]},
    )
    assert sorted(first.above) == [False, True]  # the star is not there, red is
    assert (len(first.inside), first.inside.count(False)) == (20, 1)  # the circle was missed
    assert last.above == [True]
    assert (len(last.inside), last.inside.count(False)) == (21, 1)  # red lies in the band
    low, high = proportion_interval(1, 1)
    table = reliability.markdown_table(tallies, {"shape": 1 / 14, "colour": 1 / 8})
    upper = proportion_interval(0, 1)[1]
    assert table.splitlines()[2].startswith(f"| first step | 0.0% (0.0% to {upper:.1%}) | 100.0%")
    assert f"| 1 | 100.0% ({low:.1%} to {high:.1%}) | 100.0%" in table
    assert "| 100.0% of 1 | 95.2% of 21 |" in table
    assert table.splitlines()[-1] == "| drawn at random | 7.1% | 12.5% | | |"


def test_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reliability, "STEPS", 8)
    tallies, chance = reliability.measure(scenes.load(), 2)
    assert [len(tally.best["shape"]) for tally in tallies] == [len(tallies[0].sigmas)] * 7
    assert tallies[0].sigmas[0] > tallies[-1].sigmas[0]
    assert all(len(tally.above) + len(tally.inside) == 22 * len(tally.sigmas) for tally in tallies)
    assert 0 < chance["shape"] < 0.3
