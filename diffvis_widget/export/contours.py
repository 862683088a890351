"""Lines on a picture, drawn without stairs: contours of a map, as on the page (js/src/stage/contours.ts)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Floats = NDArray[np.floating[Any]]
Rgb = tuple[int, int, int]
INSIDE = (0.5, 0.25, 0.1)  # the share of a map's cells that lie inside each line, outermost first
WHITE: Rgb = (255, 255, 255)
_SHARP = 1024  # pixels; up to this size a line is drawn four times as large first, above twice


def levels(field: Floats, inside: Sequence[float] = INSIDE) -> list[float]:
    """The values above which lie these shares of ``field`` (h, w); a flat field has none."""
    ordered = np.sort(field, axis=None)
    last = len(ordered) - 1
    if not ordered[last] > ordered[0]:
        return []
    return [float(ordered[round((1 - share) * last)]) for share in inside]


def lines(field: Floats, level: float) -> list[NDArray[np.float64]]:
    """Where ``field`` (h, w) crosses ``level``: lines as points (n, 2), x and y in cells from the upper left corner.

    Marching squares; beyond its outermost centres the field goes on as it is there, so that lines reach the border.
    A closed line ends with the point that it begins with.
    """
    field = np.pad(np.asarray(field, dtype=np.float64), 1, mode="edge")
    height, width = field.shape
    above = field > level
    # a crossing is known by its edge: those along rows first, then those along columns
    row, column = above[:, :-1] != above[:, 1:], above[:-1] != above[1:]
    below = np.arange(column.size).reshape(column.shape) + row.size
    along = np.arange(row.size).reshape(row.shape)
    crossed = np.stack([row[:-1], column[:, 1:], row[1:], column[:, :-1]], axis=-1).reshape(-1, 4)  # clockwise
    edges = np.stack([along[:-1], below[:, 1:], along[1:], below[:, :-1]], axis=-1).reshape(-1, 4)
    two = crossed.sum(axis=1) == 2
    pairs = np.concatenate([edges[two][crossed[two]].reshape(-1, 2), edges[crossed.all(axis=1)].reshape(-1, 2)])
    points = np.full((row.size + column.size, 2), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        y, x = np.indices(row.shape)
        points[: row.size] = np.stack([x + (level - field[:, :-1]) / np.diff(field), y], axis=-1).reshape(-1, 2)
        y, x = np.indices(column.shape)
        shift = (level - field[:-1]) / np.diff(field, axis=0)
        points[row.size :] = np.stack([x, y + shift], axis=-1).reshape(-1, 2)
    border = np.array([width - 2, height - 2], dtype=np.float64)
    return [np.clip(points[chain] - 0.5, 0, border) for chain in _chains(pairs.tolist())]


def _chains(pairs: list[list[int]]) -> list[list[int]]:
    """Pairs of neighbours, of which each has one or two, as lines: open ones from end to end, then closed ones."""
    beside: dict[int, list[int]] = {}
    for a, b in pairs:
        beside.setdefault(a, []).append(b)
        beside.setdefault(b, []).append(a)
    chains: list[list[int]] = []
    for start in sorted(beside, key=lambda one: len(beside[one])):
        if not beside[start]:
            continue
        chain = [start]
        while beside[chain[-1]]:
            here = chain[-1]
            after = beside[here].pop()
            beside[after].remove(here)
            chain.append(after)
        chains.append(chain)
    return chains


def stroke(image: Image.Image, paths: Sequence[Floats], width: float, colour: Rgb, cover: float = 1.0) -> Image.Image:
    """The image with lines on it. paths: points (n, 2) in its pixels. width: in pixels. cover: 0..1 of the ground."""
    times = 4 if max(image.size) <= _SHARP else 2
    mask = Image.new("L", (image.width * times, image.height * times))
    draw = ImageDraw.Draw(mask)
    for path in paths:
        points = [(float(x), float(y)) for x, y in np.asarray(path) * times]
        if len(points) > 2 and points[0] == points[-1]:
            points.append(points[1])  # so that the joint where it closes is round too
        # joints take most of the time, and are seen only where a line turns sharply: frames and small rings
        joint = "curve" if len(points) < 40 else None
        draw.line(points, fill=round(255 * cover), width=max(1, round(width * times)), joint=joint)
    return Image.composite(Image.new("RGB", image.size, colour), image, mask.reduce(times))


def outlined(image: Image.Image, paths: Sequence[Floats], width: float, colour: Rgb = WHITE) -> Image.Image:
    """As `stroke`, on a dark and wider line, so that it is seen on every ground."""
    if not paths:
        return image
    return stroke(stroke(image, paths, width * 2.4, (0, 0, 0), 0.53), paths, width, colour)
