"""Colours of values, the same as on the page (js/src/core/colormap.ts)."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

MapName = Literal["viridis", "magma"]

_FADE_EXPONENT = 0.6

# Evenly spaced stops (van der Walt and Smith, CC0): viridis for attention, magma for any other quantity.
_STOPS: dict[MapName, str] = {
    "viridis": "440154481769472a7a433d843d4e8a355e8d2e6d8e297b8e23898e1f978b"
    "21a5852eb37c46c06f65cb5e89d548b0dd2fd8e219fde725",
    "magma": "0000040907201a10423111654a1079621980792282912b81aa337dc23b75d9"
    "466bec5860f7725cfc8e64feaa74fec68afde2a3fcfdbf",
}
Rgb = tuple[int, int, int]

# One hue per word where several are shown; distinguishable with every kind of colour vision (after Okabe and Ito). Each
# with the colour words that it resembles.
HUES: Mapping[Rgb, Sequence[str]] = {
    (230, 159, 0): ("orange", "yellow"),
    (86, 180, 233): ("blue",),
    (204, 121, 167): ("pink",),
    (0, 158, 115): ("green",),
    (240, 228, 66): ("yellow",),
    (213, 94, 0): ("red", "orange", "brown"),
    (0, 114, 178): ("blue",),
}
_COLOUR_WORDS: Mapping[str, Rgb] = {
    "red": (208, 58, 48),
    "orange": (224, 128, 32),
    "yellow": (201, 162, 0),
    "green": (47, 158, 68),
    "blue": (47, 111, 219),
    "purple": (125, 79, 201),
    "violet": (125, 79, 201),
    "pink": (224, 96, 154),
    "brown": (138, 90, 51),
    "black": (74, 77, 82),
    "white": (180, 184, 190),
    "grey": (138, 143, 152),
    "gray": (138, 143, 152),
}


@functools.cache
def colour_table(name: MapName) -> NDArray[np.uint8]:
    """The colours of a colormap.

    Args:
        name: The colormap.

    Returns:
        uint8 (256, 3), sRGB, from the low end to the high end.
    """
    text = _STOPS[name]
    stops = np.array([[int(text[i + k : i + k + 2], 16) for k in (0, 2, 4)] for i in range(0, len(text), 6)])
    positions = np.linspace(0, len(stops) - 1, 256)
    channels = [np.interp(positions, np.arange(len(stops)), stops[:, channel]) for channel in range(3)]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8)


def apply_colormap(
    values: NDArray[np.floating[Any]], low: float, high: float, name: MapName = "viridis"
) -> NDArray[np.uint8]:
    """Colour values.

    Args:
        values: (h, w); NaN counts as 0.
        low: This value and any below get the first colour.
        high: This value and any above get the last colour.
        name: The colormap.

    Returns:
        uint8 (h, w, 3), sRGB.
    """
    level = (np.nan_to_num(values) - low) / max(high - low, 1e-12) * 255
    return colour_table(name)[np.clip(level, 0, 255).astype(np.uint8)]


def fade(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Share of the full opacity that a heat map has at a level, so that the image stays visible where the map is low.

    The exponent keeps medium levels visible; with an opacity proportional to the level they are lost.

    Args:
        levels: float32, 0 at the low end of the colour bar and 1 at the high end; others are clamped.

    Returns:
        float32 of the same shape, 0..1.
    """
    return np.clip(levels, 0, 1) ** np.float32(_FADE_EXPONENT)


def word_colours(texts: Sequence[str], palette: Mapping[Rgb, Sequence[str]] = HUES) -> list[Rgb]:
    """A colour for each of several words that are shown together: a colour word has its own, others one unlike those.

    Args:
        texts: The words, or concepts of several words, of which only one may name a colour.
        palette: Colours for the others, each with the colour words that it resembles.

    Returns:
        sRGB, 0..255, in the order of the words.

    Example:
        >>> word_colours(["blue", "square", "ball"])
        [(47, 111, 219), (230, 159, 0), (204, 121, 167)]
    """
    matches = [[word for word in re.findall("[a-z]+", text.lower()) if word in _COLOUR_WORDS] for text in texts]
    named = [words[0] if len(words) == 1 else "" for words in matches]
    free = [colour for colour, resembled in palette.items() if not set(resembled) & set(named)]
    others = itertools.cycle(free or list(palette))
    colours: list[Rgb] = []
    for name in named:
        colour = _COLOUR_WORDS.get(name)
        colours.append(next(others) if colour is None or colour in colours else colour)
    return colours
