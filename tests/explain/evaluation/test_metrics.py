"""Pointing, overlap and ranking, against loops and closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from diffvis_widget.explain.evaluation import metrics


def naive_precision(heat: np.ndarray, mask: np.ndarray) -> float:
    total, previous = 0.0, 0.0
    for threshold in sorted(set(heat.ravel().tolist()), reverse=True):
        chosen = heat >= threshold
        recall = (chosen & mask).sum() / mask.sum()
        total += (recall - previous) * (chosen & mask).sum() / chosen.sum()
        previous = recall
    return total


@pytest.mark.parametrize("levels", [3, 1000])
def test_average_precision_against_thresholds_one_by_one(levels: int) -> None:
    rng = np.random.default_rng(0)
    heat = rng.integers(0, levels, (9, 7)).astype(np.float32)
    mask = rng.random((9, 7)) < 0.3
    assert metrics.average_precision(heat, mask) == pytest.approx(naive_precision(heat, mask))
    assert metrics.average_precision(mask.astype(float), mask) == 1
    assert metrics.average_precision(np.zeros_like(heat), mask) == pytest.approx(mask.mean())


def test_pointing_shares_a_tie() -> None:
    mask = np.zeros((2, 3), dtype=bool)
    mask[0, :2] = True
    heat = np.array([[5, 0, 0], [0, 0, 0]])
    assert metrics.pointing(heat, mask) == 1
    assert metrics.pointing(-heat, mask) == pytest.approx(1 / 5)


def test_overlap_is_of_the_scaled_map() -> None:
    mask = np.array([[True, True, False, False]])
    # scaled: 0, 0.5, 1, 0.25: two reach a half, one of them inside, three in all
    heat = np.array([[10.0, 12.0, 14.0, 11.0]])
    assert metrics.overlap(heat, mask) == pytest.approx(1 / 3)
    assert metrics.overlap(heat, mask, threshold=0.1) == pytest.approx(1 / 4)
    assert metrics.overlap(np.ones((1, 4)), mask) == 0


def test_a_map_is_laid_on_the_mask() -> None:
    mask = np.zeros((8, 8), dtype=bool)
    mask[:4, :4] = True
    assert metrics.localization_scores(np.array([[1.0, 0.0], [0.0, 0.0]]), mask)[0] == 1
    assert metrics.localization_scores(np.array([[0.0, 0.0], [0.0, 1.0]]), mask)[0] == 0
    for wrong in (np.zeros((8, 8), dtype=bool), np.ones((8, 8), dtype=bool)):
        with pytest.raises(ValueError, match="inside and pixels outside"):
            metrics.localization_scores(np.eye(2), wrong)
    with pytest.raises(ValueError, match="must be finite"):
        metrics.localization_scores(np.full((2, 2), np.nan), mask)


def test_rank_correlation_of_ranks_counted_one_by_one() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 5, (6, 6)).astype(float), rng.random((6, 6))
    ranks = [[(part < value).sum() + (part == value).sum() / 2 for value in part.ravel()] for part in (first, second)]
    assert metrics.rank_correlation(first, second) == pytest.approx(np.corrcoef(ranks)[0, 1])
    assert metrics.rank_correlation(second, np.exp(second)) == pytest.approx(1)
    assert metrics.rank_correlation(second, np.zeros((6, 6))) == 0
