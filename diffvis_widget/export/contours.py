"""Contours of a map and antialiased lines on an image, as on the page (js/src/stage/contours.ts)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

AnyFloats = NDArray[np.floating[Any]]
Rgb = tuple[int, int, int]
WHITE: Rgb = (255, 255, 255)
_SMALL_IMAGE = 1024  # pixels; lines are antialiased by drawing them 4 times as large, on larger images 2 times


def trace_contours(values: AnyFloats, level: float) -> list[NDArray[np.float64]]:
    """The contours of a map at a level, by marching squares.

    Beyond the centres of its outermost cells the map is continued constantly, so that contours reach the border.

    Args:
        values: (h, w).
        level: The value on the contours.

    Returns:
        One array (n, 2) per contour: x and y in cells from the upper left corner. A closed contour ends with its first
        point.
    """
    values = np.pad(np.asarray(values, dtype=np.float64), 1, mode="edge")
    height, width = values.shape
    above = values > level
    # A crossing is identified by its edge: those along rows first, then those along columns.
    row, column = above[:, :-1] != above[:, 1:], above[:-1] != above[1:]
    column_edges = np.arange(column.size).reshape(column.shape) + row.size
    row_edges = np.arange(row.size).reshape(row.shape)
    crossed = np.stack([row[:-1], column[:, 1:], row[1:], column[:, :-1]], axis=-1).reshape(-1, 4)  # clockwise
    edges = np.stack([row_edges[:-1], column_edges[:, 1:], row_edges[1:], column_edges[:, :-1]], axis=-1)
    edges = edges.reshape(-1, 4)
    two = crossed.sum(axis=1) == 2
    pairs = np.concatenate([edges[two][crossed[two]].reshape(-1, 2), edges[crossed.all(axis=1)].reshape(-1, 2)])
    points = np.full((row.size + column.size, 2), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        y, x = np.indices(row.shape)
        points[: row.size] = np.stack([x + (level - values[:, :-1]) / np.diff(values), y], axis=-1).reshape(-1, 2)
        y, x = np.indices(column.shape)
        shift = (level - values[:-1]) / np.diff(values, axis=0)
        points[row.size :] = np.stack([x, y + shift], axis=-1).reshape(-1, 2)
    border = np.array([width - 2, height - 2], dtype=np.float64)
    return [np.clip(points[chain] - 0.5, 0, border) for chain in _chains(pairs.tolist())]


def _chains(pairs: list[list[int]]) -> list[list[int]]:
    """Joins pairs of neighbours into chains: open chains from end to end first, then closed ones."""
    neighbours: dict[int, list[int]] = {}
    for a, b in pairs:
        neighbours.setdefault(a, []).append(b)
        neighbours.setdefault(b, []).append(a)
    chains: list[list[int]] = []
    for start in sorted(neighbours, key=lambda edge: len(neighbours[edge])):
        if not neighbours[start]:
            continue
        chain = [start]
        while neighbours[chain[-1]]:
            current = chain[-1]
            following = neighbours[current].pop()
            neighbours[following].remove(current)
            chain.append(following)
        chains.append(chain)
    return chains


def draw_lines(
    image: Image.Image, paths: Sequence[AnyFloats], width: float, colour: Rgb, opacity: float = 1.0
) -> Image.Image:
    """Draw antialiased lines on an image.

    Args:
        image: RGB; it is not changed.
        paths: One array (n, 2) per line: x and y in pixels.
        width: Width of the lines in pixels.
        colour: Colour of the lines.
        opacity: 0..1.

    Returns:
        A new image.
    """
    times = 4 if max(image.size) <= _SMALL_IMAGE else 2
    mask = Image.new("L", (image.width * times, image.height * times))
    draw = ImageDraw.Draw(mask)
    for path in paths:
        points = [(float(x), float(y)) for x, y in np.asarray(path) * times]
        if len(points) > 2 and points[0] == points[-1]:
            points.append(points[1])  # rounds the joint where a closed line meets itself
        # Joints take most of the time and show only where a line turns sharply: in frames and small rings.
        joint = "curve" if len(points) < 40 else None
        draw.line(points, fill=round(255 * opacity), width=max(1, round(width * times)), joint=joint)
    return Image.composite(Image.new("RGB", image.size, colour), image, mask.reduce(times))


def draw_outlined_lines(
    image: Image.Image, paths: Sequence[AnyFloats], width: float, colour: Rgb = WHITE
) -> Image.Image:
    """Draw lines with a dark outline, which are visible on light and dark images.

    Args:
        image: RGB; it is not changed.
        paths: One array (n, 2) per line: x and y in pixels.
        width: Width of the lines in pixels, without the outline.
        colour: Colour of the lines.

    Returns:
        A new image; ``image`` itself where there are no lines.
    """
    if not paths:
        return image
    return draw_lines(draw_lines(image, paths, width * 2.4, (0, 0, 0), 0.53), paths, width, colour)
