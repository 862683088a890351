"""What an explaining method finds: one map over the latent pixels of a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Saliency:
    """How much each latent pixel matters at one step, larger is more.

    method: its name. step: index. map: float32 (h, w), raw, in the method's own unit. stderr: float32 (h, w), the
    standard error of `map` where it was estimated from random masks, else None. masks_used: how many; 0 without masks.
    layers: raw maps float32 (h, w) of single layers by name, for the methods that have them.
    """

    method: str
    step: int
    map: Floats
    stderr: Floats | None = None
    masks_used: int = 0
    layers: Mapping[str, Floats] = field(default_factory=dict[str, Floats])

    @property
    def scaled(self) -> Floats:
        """float32 (h, w): `map` brought to 0..1 by its own smallest and largest value, for display."""
        return scale(self.map)


def scale(values: NDArray[np.floating]) -> Floats:
    """Min-max scaling to 0..1; values that are all equal become 0."""
    low, high = float(values.min()), float(values.max())
    return ((values - low) / (high - low if high > low else 1.0)).astype(np.float32)
