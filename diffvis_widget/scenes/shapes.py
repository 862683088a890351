"""Outlines of the fourteen objects of the scenes world, in a unit frame.

x points right and y down. Each object fits the disc of radius 1 around the origin closely enough for the renderer to
take its radius for its size. An object is a list of parts, painted in order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Fill = Literal["main", "shade", "cream", "ink", "erase"]
Points = NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """A closed polygon of an object.

    Attributes:
        points: Its corners, (n, 2).
        fill: Its role: "main" is the object's colour, with its texture; "shade" a darker version of it; "cream" and
            "ink" are neutral light and dark; "erase" cuts a hole.
    """

    points: Points  # (n, 2)
    fill: Fill = "main"


def _ellipse(cx: float, cy: float, rx: float, ry: float, start: float = 0.0, stop: float = 360.0) -> Points:
    t = np.radians(np.linspace(start, stop, 49))
    return np.stack([cx + rx * np.cos(t), cy + ry * np.sin(t)], axis=1)


def _polygon(*points: tuple[float, float]) -> Points:
    return np.array(points, dtype=np.float64)


def _spikes(n: int, outer: float, inner: float) -> Points:
    angle = np.arange(2 * n) * math.pi / n - math.pi / 2
    radius = np.where(np.arange(2 * n) % 2 == 0, outer, inner)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _circle() -> list[Part]:
    return [Part(_ellipse(0, 0, 0.92, 0.92))]


def _square() -> list[Part]:
    return [Part(_polygon((-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82)))]


def _triangle() -> list[Part]:
    return [Part(_polygon((0, -0.95), (0.95, 0.78), (-0.95, 0.78)))]


def _star() -> list[Part]:
    return [Part(_spikes(5, 1.05, 0.45) + np.array([0.0, 0.06]))]


def _heart() -> list[Part]:
    t = np.linspace(0, 2 * math.pi, 60, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return [Part(np.stack([x, y - 2.5], axis=1) / 16.5)]


def _ring() -> list[Part]:
    return [Part(_ellipse(0, 0, 0.95, 0.95)), Part(_ellipse(0, 0, 0.46, 0.46), "erase")]


def _sun() -> list[Part]:
    rays = _spikes(10, 1.08, 0.66)
    return [Part(rays, "shade"), Part(_ellipse(0, 0, 0.62, 0.62))]


def _moon() -> list[Part]:
    # A crescent: the outer arc, then back along a circle shifted to the right.
    outer = _ellipse(0, 0, 0.98, 0.98, 50, 310)
    bite = _ellipse(0.50, 0, 0.76, 0.76, 280, 80)
    return [Part(np.concatenate([outer, bite]) + np.array([0.18, 0.0]))]


def _tree() -> list[Part]:
    trunk = _polygon((-0.14, 0.25), (0.14, 0.25), (0.18, 1.0), (-0.18, 1.0))
    crown = np.concatenate([_ellipse(0, -0.55, 0.5, 0.45, 180, 360), _ellipse(0.22, 0.0, 0.6, 0.42, 300, 450),
                            _ellipse(-0.22, 0.0, 0.6, 0.42, 90, 240)])  # fmt: skip
    return [Part(trunk, "ink"), Part(crown)]


def _house() -> list[Part]:
    body = _polygon((-0.68, -0.1), (0.68, -0.1), (0.68, 0.88), (-0.68, 0.88))
    roof = _polygon((0, -0.98), (0.95, -0.1), (-0.95, -0.1))
    door = _polygon((-0.17, 0.3), (0.17, 0.3), (0.17, 0.88), (-0.17, 0.88))
    return [Part(body), Part(roof, "shade"), Part(door, "cream")]


def _boat() -> list[Part]:
    hull = _polygon((-0.98, 0.3), (0.98, 0.3), (0.6, 0.86), (-0.6, 0.86))
    mast = _polygon((-0.06, -0.95), (0.06, -0.95), (0.06, 0.3), (-0.06, 0.3))
    sail = _polygon((0.1, -0.9), (0.8, 0.16), (0.1, 0.16))
    return [Part(mast, "ink"), Part(sail, "cream"), Part(hull)]


def _fish() -> list[Part]:
    tail = _polygon((0.42, 0.0), (1.0, -0.5), (0.86, 0.0), (1.0, 0.5))
    return [Part(tail, "shade"), Part(_ellipse(-0.22, 0, 0.76, 0.52)), Part(_ellipse(-0.6, -0.12, 0.1, 0.1), "ink")]


def _flower() -> list[Part]:
    stem = _polygon((-0.06, 0.1), (0.06, 0.1), (0.06, 1.02), (-0.06, 1.02))
    petals = [_ellipse(0.4 * math.cos(a), -0.32 + 0.4 * math.sin(a), 0.33, 0.33)
              for a in np.radians([-90, -18, 54, 126, 198])]  # fmt: skip
    heart = _ellipse(0, -0.32, 0.24, 0.24)
    return [Part(stem, "ink"), *(Part(p) for p in petals), Part(heart, "cream")]


def _balloon() -> list[Part]:
    string = _polygon((-0.035, 0.5), (0.035, 0.5), (0.05, 1.05), (-0.02, 1.05))
    knot = _polygon((0, 0.4), (0.16, 0.62), (-0.16, 0.62))
    return [Part(string, "ink"), Part(knot, "shade"), Part(_ellipse(0, -0.28, 0.66, 0.76))]


OUTLINES: dict[str, Callable[[], list[Part]]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "ring": _ring,
    "sun": _sun,
    "moon": _moon,
    "tree": _tree,
    "house": _house,
    "boat": _boat,
    "fish": _fish,
    "flower": _flower,
    "balloon": _balloon,
}
