"""Baseline maps that are independent of the model: every method should do better."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.traces.types import Floats, Size


def baselines(image: NDArray[np.uint8], size: Size, rng: np.random.Generator) -> dict[str, Floats]:
    """Compute the baseline maps of one step.

    Args:
        image: The step's image, uint8 (H, W, 3).
        size: (h, w) of the latent grid.
        rng: Source of the random map.

    Returns:
        float32 (h, w) by name: "random"; "centre", closeness to the centre; "edge", the length of the image's
        grey-value gradient, averaged over each latent pixel.
    """
    rows, columns = (np.linspace(-1, 1, cells) if cells > 1 else np.zeros(1) for cells in size)
    grey = image.mean(axis=2)
    edges = np.hypot(*np.gradient(grey))
    maps = {
        "random": rng.random(size),
        "centre": -np.hypot(rows[:, None], columns[None, :]),
        "edge": averaged(edges, size),
    }
    return {name: values.astype(np.float32) for name, values in maps.items()}


def averaged(values: NDArray[np.float64], size: Size) -> NDArray[np.float64]:
    """Average values over the cells of a coarser grid.

    Args:
        values: float64 (H, W).
        size: (h, w) of the grid.

    Returns:
        float64 (h, w).
    """
    starts = [np.arange(cells) * full // cells for full, cells in zip(values.shape, size, strict=True)]
    sums = np.add.reduceat(np.add.reduceat(values, starts[0], axis=0), starts[1], axis=1)
    counts = [np.diff([*start, full]) for start, full in zip(starts, values.shape, strict=True)]
    return sums / (counts[0][:, None] * counts[1][None, :])
