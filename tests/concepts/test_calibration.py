"""Calibration of the meter: fitted to planted probabilities, stored with the weights, right on held-out captions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from diffvis_widget.concepts import emergence
from diffvis_widget.concepts.calibration import CalibratedLevel, Calibration, fit_level
from diffvis_widget.scenes.evaluation.calibration import WORDS, fit, heights, usable
from diffvis_widget.shipped import calibration_file
from diffvis_widget.traces import ConceptScores

LINES = Path(__file__).parents[2] / "benchmarks" / "scenes" / "calibration.jsonl"
TWO = Calibration(
    frozenset({"circle", "red"}),
    (CalibratedLevel(10.0, 20.0, -3.0, None, 0.1), CalibratedLevel(0.5, 20.0, 0.0, 0.9, 0.2)),
)


def test_a_level_is_fitted_to_planted_probabilities() -> None:
    rng = np.random.default_rng(3)
    height = rng.normal(0, 0.1, 20_000)
    probability = 1 / (1 + np.exp(-(30 * height - 1)))
    level = fit_level(0.7, height, rng.random(20_000) < probability)
    assert level.slope == pytest.approx(30, rel=0.05)
    assert level.offset == pytest.approx(-1, abs=0.1)
    np.testing.assert_allclose(level.probability(height), probability, atol=0.02)


def test_thresholds_keep_their_precision_and_are_missing_where_nothing_does() -> None:
    rng = np.random.default_rng(4)
    height = rng.normal(0, 0.1, 5000)
    is_present = rng.random(5000) < 1 / (1 + np.exp(-(40 * height - 2)))
    level = fit_level(0.7, height, is_present, precision=0.95, absent_precision=0.99)
    assert level.present is not None
    assert level.absent is not None
    probability = level.probability(height)
    assert is_present[probability >= level.present].mean() >= 0.95
    assert (~is_present[probability <= level.absent]).mean() >= 0.99
    chance = fit_level(0.7, height, rng.random(5000) < 0.5)
    assert chance.present is None
    assert chance.absent is None


def test_it_says_present_absent_or_nothing_by_the_nearest_level() -> None:
    cosine = np.array([[0.5, 0.5, 0.5], [0.35, 0.21, 0.35], [0.1, 0.3, 0.3]], np.float32)
    band = np.tile(np.array([0.1, 0.2], np.float32), (3, 1))
    present = TWO.present(["Circle", "red", "elephant"], cosine, band, np.array([9.0, 0.6, 0.4]))
    # heights 0.3 at the strong noise; 0.15, 0.01; -0.1, 0.1 at the weak: 0.95, 0.55, 0.12, 0.88
    expected = np.array([[np.nan, np.nan, np.nan], [1, np.nan, np.nan], [0, np.nan, np.nan]], np.float32)
    np.testing.assert_array_equal(present, expected)
    assert np.isnan(TWO.present(["red"], cosine[:1, :1], band[:1], np.array([np.nan]))).all()


def test_it_is_stored_and_read(tmp_path: Path) -> None:
    (tmp_path / "calibration.json").write_text(TWO.to_json(), encoding="utf-8")
    assert Calibration.read(tmp_path / "calibration.json") == TWO


def test_the_shipped_calibration_is_that_of_the_even_captions() -> None:
    assert calibration_file().name == "calibration.json"
    lines = [json.loads(text) for text in LINES.read_text(encoding="utf-8").splitlines()]
    assert Calibration.read(calibration_file()) == fit(usable(line for line in lines if line["caption"] % 2 == 0))


def test_present_is_right_in_nine_of_ten_on_captions_that_it_was_not_fitted_on() -> None:
    calibration = Calibration.read(calibration_file())
    lines = [json.loads(text) for text in LINES.read_text(encoding="utf-8").splitlines()]
    height, is_shown = heights(usable(line for line in lines if line["caption"] % 2 == 1))
    said_at = 0
    for step, level in enumerate(calibration.levels):
        flat = np.zeros((len(height), 2))
        verdicts = calibration.present(WORDS, height[:, step], flat, np.full(len(height), level.sigma))
        if (verdicts == 1).any():
            said_at += 1
            assert is_shown[verdicts == 1].mean() >= 0.9
    assert said_at >= 6


def test_only_what_is_said_to_be_present_at_the_end_emerges() -> None:
    cosine = np.array([[0.1, 0.1, 0.1], [0.4, 0.4, 0.4], [0.5, 0.5, 0.5]], np.float32)
    band = np.tile(np.array([0.1, 0.2], np.float32), (3, 1))
    present = np.array([[np.nan, np.nan, np.nan], [1, np.nan, np.nan], [1, 0, np.nan]], np.float32)
    np.testing.assert_array_equal(emergence(cosine, band, present), np.array([1, np.nan, np.nan], np.float32))
    np.testing.assert_array_equal(emergence(cosine, band), np.array([1, 1, 1], np.float32))


def test_scores_say_it_in_words() -> None:
    table = np.array([[0.5, 0.5, 0.5]], np.float32)
    present = np.array([[1, 0, np.nan]], np.float32)
    names = ["circle", "square", "red"]
    scores = ConceptScores(names, table, table, table[:, :2], table[0], "a meter", present=present)
    assert [scores.verdict(name) for name in names] == ["present", "absent", "not sure yet"]
    assert ConceptScores(names, table, table, table[:, :2], table[0], "another").verdict("red") == "not calibrated"
    with pytest.raises(ValueError, match="concept must be one of"):
        scores.verdict("moon")
