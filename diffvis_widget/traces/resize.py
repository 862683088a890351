"""Bilinear resizing of maps in numpy, equal to torch's `interpolate(mode="bilinear", align_corners=False)`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from .types import Floats, Size


@lru_cache(maxsize=64)
def _weights(source: int, target: int) -> Floats:
    """Matrix (target, source) whose rows interpolate at the pixel centres of the target."""
    centres = (np.arange(target) + 0.5) * (source / target) - 0.5
    centres = np.clip(centres, 0.0, source - 1)
    low = np.floor(centres).astype(np.int64)
    high = np.minimum(low + 1, source - 1)
    matrix: Floats = np.zeros((target, source), dtype=np.float32)
    np.add.at(matrix, (np.arange(target), low), 1.0 - (centres - low))
    np.add.at(matrix, (np.arange(target), high), centres - low)
    return matrix


def resize(maps: Floats, size: Size) -> Floats:
    """Resizes maps bilinearly.

    Args:
        maps: float32 (..., h, w).
        size: the new (h, w).

    Returns:
        float32 (..., *size); the same array where the size is the same.
    """
    return _along_both(_weights, maps, size)


def _along_both(matrix: Callable[[int, int], Floats], maps: Floats, size: Size) -> Floats:
    """Multiplies rows and columns by matrix(source, target)."""
    height, width = int(maps.shape[-2]), int(maps.shape[-1])
    if (height, width) == size:
        return maps
    return np.matmul(np.matmul(matrix(height, size[0]), maps), matrix(width, size[1]).T)


@lru_cache(maxsize=64)
def _shares(source: int, target: int) -> Floats:
    """Matrix (target, source): the share of each source cell that lies in each target cell. Columns sum to 1."""
    edges, cells = np.arange(target + 1) / target, np.arange(source + 1) / source
    upper = np.minimum(edges[1:, None], cells[None, 1:])
    lower = np.maximum(edges[:-1, None], cells[None, :-1])
    return (np.maximum(upper - lower, 0) * source).astype(np.float32)


def spread(values: Floats, size: Size) -> Floats:
    """Spreads each value evenly over the area of its cell, so that sums stay the same.

    Args:
        values: float32 (..., h, w).
        size: the new (h, w).

    Returns:
        float32 (..., *size); the same array where the size is the same.
    """
    return _along_both(_shares, values, size)


def finest(grids: Sequence[Size]) -> Size:
    """Finds the grid with the most cells.

    Args:
        grids: at least one grid (h, w).

    Returns:
        The first of those with the most cells.
    """
    return max(grids, key=lambda grid: grid[0] * grid[1])


def mean_maps(maps: Sequence[Floats], size: Size | None = None) -> Floats:
    """Averages maps of layers on different grids.

    Args:
        maps: float32 (words, h, w) of each layer; NaN for a layer that did not run, which is left out.
        size: (h, w) of the result; None is the finest grid of the layers.

    Returns:
        float32 (words, *size); NaN where no layer ran.
    """
    target = size or finest([(int(layer.shape[-2]), int(layer.shape[-1])) for layer in maps])
    sums: dict[Size, Floats] = {}
    counts: dict[Size, int] = {}
    for layer in maps:
        if np.isnan(layer).all():
            continue
        grid = (int(layer.shape[-2]), int(layer.shape[-1]))
        sums[grid] = sums[grid] + layer if grid in sums else layer
        counts[grid] = counts.get(grid, 0) + 1
    if not sums:
        return np.full((*maps[0].shape[:-2], *target), np.nan, dtype=np.float32)
    total = sum((resize(layer, target) for layer in sums.values()), start=np.zeros((), dtype=np.float32))
    return np.asarray(total / np.float32(sum(counts.values())), dtype=np.float32)
