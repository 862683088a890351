"""Where text and image lie: in a joint sequence of keys, on a grid of latents, in rows of packed latents.

Read from the sources of diffusers 0.42; `tests/tracer/test_families.py` finds the text rows anew by changing the text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from diffvis_widget.traces import Layer

Size = tuple[int, int]
# (keys, text positions, image positions) -> slices of the text and of the image; None where they do not fit
Place = Callable[[int, int, int], tuple[slice, slice] | None]


# -- joint sequences ---------------------------------------------------------------------------------------------------


def text_first(keys: int, text: int, image: int) -> tuple[slice, slice] | None:
    """Text, image, and what else there may be (the picture that an editing model looks at)."""
    return (slice(0, text), slice(text, text + image)) if text + image <= keys else None


def image_first(keys: int, text: int, image: int) -> tuple[slice, slice] | None:
    """The image, padding if its model wants a fixed length, and the text at the end."""
    return (slice(keys - text, keys), slice(0, image)) if text + image <= keys else None


def before_image(keys: int, text: int, image: int) -> tuple[slice, slice] | None:
    """Register tokens, text, image: the image closes the sequence."""
    start = keys - image
    return (slice(start - text, start), slice(start, keys)) if text + image <= keys else None


def padded_image_first(keys: int, text: int, image: int) -> tuple[slice, slice] | None:
    """Z-Image: the image, padded to a multiple of 32, and the text, padded likewise."""
    start = math.ceil(image / 32) * 32
    return (slice(start, start + text), slice(0, image)) if start + text <= keys else None


# -- text positions ----------------------------------------------------------------------------------------------------


def own_lengths(results: Sequence[Any]) -> list[int]:
    """As many as the embeddings have."""
    return [len(row) for row in results[0][0]]


def summed_lengths(results: Sequence[Any]) -> list[int]:
    """The texts of several encoders, one behind the other."""
    return [sum(result[0].shape[1] for result in results)] * len(results[0][0])


def masked_lengths(results: Sequence[Any]) -> list[int]:
    """Lumina 2 leaves out the padding of each row."""
    mask: Tensor = results[0][1]
    return [int(length) for length in mask.sum(dim=1).tolist()]


def hidream_lengths(results: Sequence[Any]) -> list[int]:
    """T5's text, then Llama's twice: its last layer's, and that of the layer which belongs to the block."""
    t5, llama = results[0][0], results[0][2]
    return [t5.shape[1] + 2 * llama.shape[-2]] * len(t5)


# -- grids -------------------------------------------------------------------------------------------------------------


def halved(positions: int, latents: Size) -> Size | None:
    """The latent grid halved until it has that many positions; diffusers rounds odd sides up or down by config."""
    for up in (1, 0):
        height, width = latents
        while height * width > positions:
            height, width = (height + up) // 2, (width + up) // 2
            if height * width == positions:
                break
            if not height * width or height * width == 1:
                break
        if height * width == positions:
            return height, width
    return None


def unpacked(latents: Tensor, size: Size, side: int) -> Tensor:
    """Rows (n, positions, channels * side * side) to (n, channels, h, w); size: (h, w) in latent pixels."""
    height, width = size[0] // side, size[1] // side
    squares = latents.unflatten(1, (height, width)).unflatten(3, (-1, side, side))
    return squares.permute(0, 3, 1, 4, 2, 5).reshape(len(latents), -1, height * side, width * side)


def packed(latents: Tensor, side: int) -> Tensor:
    """The inverse of `unpacked`."""
    count, channels, height, width = latents.shape
    squares = latents.reshape(count, channels, height // side, side, width // side, side)
    return squares.permute(0, 2, 4, 1, 3, 5).reshape(count, -1, channels * side * side)


# -- default layers ----------------------------------------------------------------------------------------------------


def fine_enough(layer: Layer, layers: Sequence[Layer]) -> bool:
    """The cross-attention layers on grids of 64 positions or more; where there are none, those on the finest grid.

    Measured on the scenes model (`python -m diffvis_widget.scenes.evaluation.localization`): on 12 x 12 a word's
    attention inside its ground-truth mask is two to nine times that outside; on 6 x 6 and 3 x 3 it is
    hardly above chance.
    """
    cells = [one.grid[0] * one.grid[1] for one in layers]
    own = layer.grid[0] * layer.grid[1]
    return own >= min(64, max(cells))


def every_layer(layer: Layer, layers: Sequence[Layer]) -> bool:
    """All of them: for these families nothing was measured on ground truth, so none is preferred."""
    return True
