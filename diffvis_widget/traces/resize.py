"""Bilinear resizing of maps in numpy, equal to torch's `interpolate(mode="bilinear", align_corners=False)`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Size = tuple[int, int]


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
    """Maps (..., h, w) float32 resized to (..., *size)."""
    height, width = int(maps.shape[-2]), int(maps.shape[-1])
    if (height, width) == size:
        return maps
    return np.matmul(np.matmul(_weights(height, size[0]), maps), _weights(width, size[1]).T)


def finest(grids: Sequence[Size]) -> Size:
    """The grid with the most cells."""
    return max(grids, key=lambda grid: grid[0] * grid[1])


def mean_maps(maps: Sequence[Floats], size: Size | None = None) -> Floats:
    """Mean over layers of maps (words, h, w) float32 on different grids, on `size` or on the finest grid of them.

    A layer that was not computed at a step (NaN) is left out where others were.
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
