"""Colours of data, the same as in the page (js/src/core/colormap.ts)."""

from __future__ import annotations

import functools
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

MapName = Literal["viridis", "magma"]

# evenly spaced stops of viridis, and of magma for a quantity that is not attention (van der Walt and Smith, CC0)
_STOPS: dict[MapName, str] = {
    "viridis": "440154481769472a7a433d843d4e8a355e8d2e6d8e297b8e23898e1f978b"
    "21a5852eb37c46c06f65cb5e89d548b0dd2fd8e219fde725",
    "magma": "0000040907201a10423111654a1079621980792282912b81aa337dc23b75d9"
    "466bec5860f7725cfc8e64feaa74fec68afde2a3fcfdbf",
}
# one colour for each of several words: apart for every kind of colour vision (after Okabe and Ito)
HUES = [(230, 159, 0), (86, 180, 233), (204, 121, 167), (0, 158, 115), (240, 228, 66), (213, 94, 0), (0, 114, 178)]


@functools.cache
def table(name: MapName) -> NDArray[np.uint8]:
    """uint8 (256, 3), from the low end to the high one."""
    text = _STOPS[name]
    stops = np.array([[int(text[i + k : i + k + 2], 16) for k in (0, 2, 4)] for i in range(0, len(text), 6)])
    at = np.linspace(0, len(stops) - 1, 256)
    channels = [np.interp(at, np.arange(len(stops)), stops[:, channel]) for channel in range(3)]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8)


def coloured(values: NDArray[np.floating[Any]], lo: float, hi: float, name: MapName = "viridis") -> NDArray[np.uint8]:
    """Values (h, w) as colours uint8 (h, w, 3): ``lo`` and below is the low end, ``hi`` and above the high one."""
    level = (np.nan_to_num(values) - lo) / max(hi - lo, 1e-12) * 255
    return table(name)[np.clip(level, 0, 255).astype(np.uint8)]
