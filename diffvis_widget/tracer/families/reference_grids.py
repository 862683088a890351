"""The grids of the reference images of editing models, whose tokens follow those of the image in joint attention."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from torch import Tensor

from diffvis_widget.traces.types import Size

ReferenceGrids = Callable[[Mapping[str, Any], int, int], list[Size]]
"""(arguments of the denoiser by name, row of its batch, image tokens) -> (h, w) of each reference image's tokens."""


def no_references(arguments: Mapping[str, Any], row: int, image: int) -> list[Size]:
    """The model has no reference images whose tokens are known.

    Args:
        arguments: Arguments of the denoiser by name.
        row: Row of its batch.
        image: Number of image tokens.

    Returns:
        An empty list.
    """
    return []


def from_position_ids(arguments: Mapping[str, Any], row: int, image: int) -> list[Size]:
    """Read the grids from position ids, whose first number counts the images (FLUX).

    Args:
        arguments: Arguments of the denoiser: `img_ids` is (tokens, n) or (batch, tokens, n), its second and third
            numbers are row and column.
        row: Row of its batch.
        image: Number of image tokens.

    Returns:
        (h, w) of the tokens of each reference image; none where they do not fill rectangles.
    """
    ids = arguments.get("img_ids")
    if not isinstance(ids, Tensor) or ids.ndim not in (2, 3):
        return []
    of_row = ids if ids.ndim == 2 else ids[min(row, len(ids) - 1)]
    rest: list[tuple[float, ...]] = [tuple(token[:3]) for token in of_row[image:].tolist()]
    by_image: dict[float, list[tuple[float, ...]]] = {}
    for token in rest:
        by_image.setdefault(token[0], []).append(token)
    grids: list[Size] = []
    for tokens in by_image.values():
        grid = len({token[1] for token in tokens}), len({token[2] for token in tokens})
        if math.prod(grid) != len(tokens):
            return []
        grids.append(grid)
    return grids


def from_image_shapes(arguments: Mapping[str, Any], row: int, image: int) -> list[Size]:
    """Read the grids from a list of shapes of images, the first of which is the image being made (Qwen-Image).

    Args:
        arguments: Arguments of the denoiser: `img_shapes` has a list of (frames, h, w) for each row of the batch.
        row: Row of its batch.
        image: Number of image tokens.

    Returns:
        (h, w) of the tokens of each reference image; none where a shape has several frames.
    """
    rows = arguments.get("img_shapes")
    if not isinstance(rows, list) or not rows:
        return []
    of_row: Any = cast("list[Any]", rows)[min(row, len(cast("list[Any]", rows)) - 1)]
    shapes = [
        tuple(int(side) for side in shape)
        for shape in cast("Sequence[Any]", of_row if isinstance(of_row, list) else [of_row])
    ]
    rest = shapes[1:]
    if not shapes or math.prod(shapes[0]) != image or any(len(shape) != 3 or shape[0] != 1 for shape in rest):
        return []
    return [(shape[1], shape[2]) for shape in rest]
