"""Metrics of localization (pointing, overlap, ranking), of segmentation, and rank correlation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.traces.resize import resize

Mask = NDArray[np.bool_]
Values = NDArray[np.floating]
THRESHOLD = 0.5


def localization_scores(heat: Values, mask: Mask, threshold: float = THRESHOLD) -> tuple[float, float, float]:
    """Compute pointing, IoU and average precision of a map, resized bilinearly to the mask.

    Args:
        heat: Map, float (h, w).
        mask: bool (H, W).
        threshold: Threshold of the IoU, 0..1, on the map min-max scaled.

    Returns:
        `pointing`, `overlap` and `average_precision`, each 0..1.

    Raises:
        ValueError: If the mask is empty or covers everything, or the map holds values that are not finite.
    """
    if mask.all() or not mask.any():
        raise ValueError("mask must hold pixels inside and pixels outside; this one is empty or covers everything")
    if not np.isfinite(heat).all():
        raise ValueError("heat must be finite; this map holds NaN or infinite values")
    height, width = mask.shape
    resized = resize(np.asarray(heat, dtype=np.float32), (int(height), int(width)))
    return pointing(resized, mask), overlap(resized, mask, threshold), average_precision(resized, mask)


def pointing(heat: Values, mask: Mask) -> float:
    """Test whether the largest value lies in the mask.

    J. Zhang et al., "Top-down neural attention by excitation backprop", ECCV 2016, arXiv 1608.00507; without tolerance.

    Args:
        heat: Map, float (H, W).
        mask: bool (H, W).

    Returns:
        1 or 0; the share inside the mask where several pixels have the largest value.
    """
    return float(mask[heat == heat.max()].mean())


def overlap(heat: Values, mask: Mask, threshold: float = THRESHOLD) -> float:
    """Compute the intersection over union of the mask and the thresholded map.

    Args:
        heat: Map, float (H, W).
        mask: bool (H, W).
        threshold: Threshold, 0..1, on the map min-max scaled to 0..1. A constant map is below it everywhere.

    Returns:
        IoU, 0..1.
    """
    low, high = float(heat.min()), float(heat.max())
    chosen = (heat - low) >= threshold * (high - low) if high > low else np.zeros_like(mask)
    return float((chosen & mask).sum() / (chosen | mask).sum())


def average_precision(heat: Values, mask: Mask) -> float:
    """Compute the average precision of the map's values as scores of the mask's pixels.

    This is the sum of precision times gain in recall over falling thresholds, equal values taken together. The expected
    value of an uninformative map is the mask's share of the pixels.

    Args:
        heat: Map, float (H, W).
        mask: bool (H, W).

    Returns:
        Average precision, 0..1.
    """
    values, counts = np.unique(heat, return_inverse=True)
    ranks = counts.ravel()
    inside = np.bincount(ranks, weights=mask.ravel(), minlength=len(values))[::-1]
    chosen = np.bincount(ranks, minlength=len(values))[::-1]
    precision = inside.cumsum() / chosen.cumsum()
    return float((precision * inside).sum() / mask.sum())


def pixel_counts(
    chosen: NDArray[np.integer], truth: NDArray[np.integer], void: int | None = None
) -> dict[int, tuple[int, int]]:
    """Count the pixels that a segmentation shares with the truth, class by class.

    Sums of these counts over images give accuracy and mean IoU of a data set.

    Args:
        chosen: Class of each pixel, integers (H, W).
        truth: Class of each pixel, integers (H, W).
        void: Value of `truth` whose pixels do not count; None for none.

    Returns:
        For each class of either, the numbers of pixels in both (intersection) and in at least one (union).
    """
    valid = np.ones(truth.shape, dtype=bool) if void is None else truth != void
    counts: dict[int, tuple[int, int]] = {}
    for value in np.union1d(chosen[valid], truth[valid]):
        here, there = (chosen == value) & valid, (truth == value) & valid
        counts[int(value)] = int((here & there).sum()), int((here | there).sum())
    return counts


def two_class_precision(heat: Values, mask: Mask) -> float:
    """Compute the average precision of a map and its complement, as scores of a mask and its complement.

    This is the AP of ImageNet-Segmentation (H. Chefer, S. Gur, L. Wolf, "Transformer interpretability beyond attention
    visualization", CVPR 2021, arXiv 2012.09838) and of those who follow its protocol. A perfect map has 1, an
    uninformative one about 0.5, whatever the size of the mask.

    Args:
        heat: Map, float; min-max scaled here.
        mask: bool of the same shape.

    Returns:
        Average precision, 0..1.
    """
    low, high = float(heat.min()), float(heat.max())
    scaled = (np.asarray(heat, np.float64) - low) / (high - low) if high > low else np.full(heat.shape, 0.5)
    return average_precision(np.stack([1 - scaled, scaled]), np.stack([~mask, mask]))


def rank_correlation(first: Values, second: Values) -> float:
    """Compute Spearman's rank correlation of two maps, ties at their mean rank.

    Args:
        first: A map.
        second: A map of the same shape.

    Returns:
        Correlation, -1..1; 0 where a map is constant.
    """
    ranks = [_ranks(np.asarray(part, dtype=np.float64).ravel()) for part in (first, second)]
    a, b = (rank - rank.mean() for rank in ranks)
    lengths = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / lengths if lengths > 0 else 0.0


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, groups, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return (last - (counts - 1) / 2)[groups]
