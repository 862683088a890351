"""Maps that know nothing of the model: what a method has to beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.traces.types import Floats

Size = tuple[int, int]


def baselines(picture: NDArray[np.uint8], size: Size, rng: np.random.Generator) -> dict[str, Floats]:
    """Maps float32 (h, w): "random"; "centre", nearness to the middle; "edge", the picture's own edges.

    picture: uint8 (H, W, 3). size: (h, w). "edge" is the length of the gradient of its grey values, averaged over each
    latent pixel.
    """
    rows, columns = (np.linspace(-1, 1, cells) if cells > 1 else np.zeros(1) for cells in size)
    grey = picture.mean(axis=2)
    edges = np.hypot(*np.gradient(grey))
    found = {
        "random": rng.random(size),
        "centre": -np.hypot(rows[:, None], columns[None, :]),
        "edge": averaged(edges, size),
    }
    return {name: values.astype(np.float32) for name, values in found.items()}


def averaged(values: NDArray[np.float64], size: Size) -> NDArray[np.float64]:
    """Mean of values (H, W) over the cells of a grid (h, w)."""
    starts = [np.arange(cells) * full // cells for full, cells in zip(values.shape, size, strict=True)]
    sums = np.add.reduceat(np.add.reduceat(values, starts[0], axis=0), starts[1], axis=1)
    counts = [np.diff([*start, full]) for start, full in zip(starts, values.shape, strict=True)]
    return sums / (counts[0][:, None] * counts[1][None, :])
