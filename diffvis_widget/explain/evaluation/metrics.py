"""How well a map finds a region that is known: pointing, overlap, ranking; and intervals of means over scenes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.traces.resize import resize

Mask = NDArray[np.bool_]
Values = NDArray[np.floating]
THRESHOLD = 0.5
_DRAWS = 2000


def located(heat: Values, mask: Mask, threshold: float = THRESHOLD) -> tuple[float, float, float]:
    """Pointing, IoU and average precision (below) of a map (h, w), resized bilinearly to the mask (H, W).

    Raises ValueError for a mask that is empty or covers everything, and for maps that hold values that are no numbers.
    """
    if mask.all() or not mask.any():
        raise ValueError("mask: nothing can be found where nothing, or everything, is inside")
    if not np.isfinite(heat).all():
        raise ValueError("heat: the map holds values that are no numbers")
    height, width = mask.shape
    shown = resize(np.asarray(heat, dtype=np.float32), (int(height), int(width)))
    return pointing(shown, mask), overlap(shown, mask, threshold), average_precision(shown, mask)


def pointing(heat: Values, mask: Mask) -> float:
    """Whether the largest value lies in the mask, both (H, W): 1 or 0, or the share of those that are equally large.

    J. Zhang et al., "Top-down neural attention by excitation backprop", ECCV 2016, arXiv 1608.00507; without tolerance.
    """
    return float(mask[heat == heat.max()].mean())


def overlap(heat: Values, mask: Mask, threshold: float = THRESHOLD) -> float:
    """Intersection over union, 0..1, of the mask and of where the map, min-max scaled to 0..1, reaches the threshold.

    A constant map reaches it nowhere.
    """
    low, high = float(heat.min()), float(heat.max())
    chosen = (heat - low) >= threshold * (high - low) if high > low else np.zeros_like(mask)
    return float((chosen & mask).sum() / (chosen | mask).sum())


def average_precision(heat: Values, mask: Mask) -> float:
    """Average precision, 0..1, of the map's values as scores of the mask's pixels: the sum of precision times gain in
    recall over falling thresholds, equal values at once. A map that knows nothing has the mask's share of the pixels.
    """
    values, counts = np.unique(heat, return_inverse=True)
    places = counts.ravel()
    inside = np.bincount(places, weights=mask.ravel(), minlength=len(values))[::-1]
    chosen = np.bincount(places, minlength=len(values))[::-1]
    precision = inside.cumsum() / chosen.cumsum()
    return float((precision * inside).sum() / mask.sum())


def rank_correlation(first: Values, second: Values) -> float:
    """Spearman's rank correlation of two maps of one shape, -1..1, ties at their mean rank; 0 where one is constant."""
    ranks = [_ranks(np.asarray(part, dtype=np.float64).ravel()) for part in (first, second)]
    a, b = (rank - rank.mean() for rank in ranks)
    lengths = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / lengths if lengths > 0 else 0.0


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return (last - (counts - 1) / 2)[places]


def interval(sums: Sequence[float], counts: Sequence[float] | None = None, seed: int = 0) -> tuple[float, float, float]:
    """Mean and 95 % interval over scenes: the bootstrap's percentiles, whole scenes drawn anew 2,000 times.

    sums: per scene the sum of what was measured in it; counts: how many that were (1 each). What comes of one scene
    stays together, for its words are no independent samples. The interval of a single scene is (NaN, NaN).
    Raises ValueError where nothing was measured.
    """
    total = np.asarray(sums, dtype=np.float64)
    weight = np.ones_like(total) if counts is None else np.asarray(counts, dtype=np.float64)
    if weight.sum() <= 0:
        raise ValueError("sums: nothing was measured")
    mean = float(total.sum() / weight.sum())
    if len(total) == 1:
        return mean, float("nan"), float("nan")
    drawn = np.random.default_rng(seed).integers(0, len(total), (_DRAWS, len(total)))
    known = weight[drawn].sum(axis=1)
    means = total[drawn].sum(axis=1)[known > 0] / known[known > 0]
    low, high = np.percentile(means, [2.5, 97.5])
    return mean, float(low), float(high)
