"""Renders a scene, with a ground-truth mask for each caption word that refers to a part of the image.

Images are 96 x 96 RGB; each object is antialiased with 3 x 3 samples per pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .shapes import OUTLINES, Part
from .world import COLOURS, Caption, Mention, Spec, Thing, caption, sample_spec

SIZE = 96
_SUPER = 3
_CREAM = np.array([255, 246, 224], dtype=np.float64)
_INK = np.array([58, 56, 70], dtype=np.float64)
_MARGIN = 2.0
# The stars of all nights (and the flakes of all snowfalls) in pixels (x, y); they drift sideways from scene to scene.
_STARS = ((9, 12), (22, 40), (31, 7), (38, 66), (47, 24), (55, 84), (60, 46), (69, 13), (76, 72), (83, 33), (90, 88),
          (15, 78))  # fmt: skip
# Ranges of radii in pixels by the size word; None is medium.
_RADII = {"small": (8.5, 11.0), None: (14.0, 18.0), "large": (21.5, 25.0)}
_RADII_OF_TWO = {"small": (8.5, 11.0), None: (13.5, 16.5), "large": (19.5, 21.0)}

Rgb = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Pose:
    """Position, size and orientation of an object.

    Attributes:
        x: Centre in pixels from the left.
        y: Centre in pixels from the top.
        r: Radius in pixels.
        tilt: Rotation in radians.
        aspect: Stretch of its width over its height.
    """

    x: float
    y: float
    r: float
    tilt: float
    aspect: float


@dataclass(frozen=True)
class Sketch:
    """A scene before it is painted: everything that the seed decides.

    Attributes:
        spec: Its meaning.
        words: Its caption.
        things: The objects of the meaning, with colours chosen where the caption states none.
        poses: A pose per object.
        weather: Phase of waves and hills in radians, height of the horizon and drift of clouds and stars in pixels.
    """

    spec: Spec
    words: Caption
    things: tuple[Thing, ...]
    poses: tuple[Pose, ...]
    weather: tuple[float, float, float]


@dataclass(frozen=True)
class Scene:
    """A painted scene.

    Attributes:
        image: uint8 (96, 96, 3), sRGB.
        caption: Its caption.
        mentions: The words of the caption that refer to a part of the image.
        masks: bool (96, 96) for each mention: the object, or, for a setting, everything but the objects.
        sketch: What it was painted from.
    """

    image: Rgb
    caption: str
    mentions: tuple[Mention, ...]
    masks: tuple[Mask, ...]
    sketch: Sketch


def draw(seed: int, held_out: bool | None = None) -> Scene:
    """Draw the scene of a seed.

    Args:
        seed: The same seed gives the same scene.
        held_out: True for combinations that training never saw, False for those of training, None for any.

    Returns:
        The scene.

    Example:
        >>> from diffvis_widget import scenes
        >>> scene = scenes.draw(3)
        >>> scene.image.shape, len(scene.mentions) == len(scene.masks)
        ((96, 96, 3), True)
    """
    return paint(sketch(seed, held_out))


def sketch(seed: int, held_out: bool | None = None) -> Sketch:
    """Everything that `draw` decides, without painting it.

    Args:
        seed: As for `draw`.
        held_out: As for `draw`.

    Returns:
        The sketch.
    """
    rng = np.random.default_rng([seed, 96])
    return sketch_of(sample_spec(rng, held_out), rng)


def sketch_of(spec: Spec, rng: np.random.Generator) -> Sketch:
    """A scene of a given meaning.

    Args:
        spec: The meaning.
        rng: Random generator for words, weather, unstated colours and poses.

    Returns:
        The sketch.
    """
    words = caption(spec, rng)
    weather = (float(rng.uniform(0, 2 * math.pi)), float(rng.uniform(50, 58)), float(rng.uniform(-10, 10)))
    things: list[Thing] = []
    poses: list[Pose] = []
    for thing, (x, y, r) in zip(spec.things, _layout(spec, rng), strict=True):
        things.append(thing if thing.colour else replace(thing, colour=str(rng.choice(list(COLOURS)))))
        poses.append(Pose(x, y, r, math.radians(float(rng.uniform(-9, 9))), float(rng.uniform(0.95, 1.05))))
    return Sketch(spec, words, tuple(things), tuple(poses), weather)


def paint(plan: Sketch) -> Scene:
    """Paint a sketch.

    Args:
        plan: The sketch.

    Returns:
        The scene, with a mask for each word that refers to a part of the image.
    """
    canvas = _background(plan.spec.setting, plan.weather)
    thing_masks: list[Mask] = []
    for thing, pose in zip(plan.things, plan.poses, strict=True):
        layer, alpha = _object(thing, pose)
        canvas = canvas * (1 - alpha[..., None]) + layer
        thing_masks.append(alpha > 0.5)
    everywhere_else = ~np.any(thing_masks, axis=0)
    mentions = plan.words.mentions
    masks = tuple(everywhere_else if m.thing is None else thing_masks[m.thing] for m in mentions)
    image = np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
    return Scene(image, plan.words.text, mentions, masks, plan)


# --- layout -----------------------------------------------------------------------------------------------------


def _radius(thing: Thing, rng: np.random.Generator, of_two: bool) -> float:
    low, high = (_RADII_OF_TWO if of_two else _RADII)[thing.size]
    return float(rng.uniform(low, high))


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high)) if high > low else (low + high) / 2


def _layout(spec: Spec, rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Centre and radius of each object in pixels."""
    if len(spec.things) == 1:
        r = _radius(spec.things[0], rng, of_two=False)
        low, high = r + _MARGIN, SIZE - r - _MARGIN
        x, y = _between(rng, low, high), _between(rng, low, high)
        near, far = min(low + 7, SIZE / 2 - 8), max(high - 7, SIZE / 2 + 8)
        match spec.place:
            case "left":
                x, y = _between(rng, low, near), _between(rng, 36, 60)
            case "right":
                x, y = _between(rng, far, high), _between(rng, 36, 60)
            case "top":
                x, y = _between(rng, 36, 60), _between(rng, low, near)
            case "bottom":
                x, y = _between(rng, 36, 60), _between(rng, far, high)
            case "middle":
                x, y = _between(rng, 44, 52), _between(rng, 44, 52)
            case _:
                pass
        return [(x, y, r)]
    relation = spec.relation
    if relation == "and":
        relation = str(rng.choice(["above", "below", "left", "right"]))
    r1, r2 = (_radius(thing, rng, of_two=True) for thing in spec.things)
    # The gap is drawn along the axis of the relation; across it, both objects lie near a common line.
    room = SIZE - 2 * _MARGIN - 2 * (r1 + r2)
    gap = _between(rng, min(3.0, room), max(room * 0.7, min(3.0, room)))
    start = _MARGIN + _between(rng, 0, room - gap)
    first_leads = relation in ("above", "left")
    lead, follow = (r1, r2) if first_leads else (r2, r1)
    along = (start + lead, start + 2 * lead + gap + follow)
    line = _between(rng, 34, 62)
    across = [min(max(line + float(rng.uniform(-6, 6)), r + _MARGIN), SIZE - r - _MARGIN) for r in (lead, follow)]
    pair = [(along[i], across[i], (lead, follow)[i]) for i in (0, 1)]
    if not first_leads:
        pair.reverse()
    vertical = relation in ("above", "below")
    return [(c, a, r) if vertical else (a, c, r) for a, c, r in pair]


# --- settings ----------------------------------------------------------------------------------------------------


def _gradient(top: tuple[int, int, int], bottom: tuple[int, int, int], rows: int = SIZE) -> NDArray[np.float64]:
    t = np.linspace(0, 1, rows)[:, None, None]
    column = np.array(top) * (1 - t) + np.array(bottom) * t
    return np.repeat(column, SIZE, axis=1)


def _disc(cx: float, cy: float, rx: float, ry: float) -> NDArray[np.float64]:
    """Coverage (96, 96) of an ellipse, with a soft edge of about one pixel."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    distance = (np.hypot((x - cx) / rx, (y - cy) / ry) - 1) * min(rx, ry)
    return np.clip(0.5 - distance, 0, 1)


def _blend(canvas: NDArray[np.float64], colour: tuple[int, int, int], cover: NDArray[np.float64]) -> None:
    canvas += (np.array(colour, dtype=np.float64) - canvas) * cover[..., None]


def _ground(horizon: float, swell: float, phase: float) -> NDArray[np.float64]:
    """Coverage (96, 96) of everything below a gently waving horizon."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    return np.clip(y - horizon - swell * np.sin(x / SIZE * 2 * math.pi + phase), 0, 1)


def _background(setting: str | None, weather: tuple[float, float, float]) -> NDArray[np.float64]:
    phase, horizon, drift = weather
    match setting:
        case "day":
            canvas = _gradient((142, 200, 244), (216, 238, 250))
            for cx, cy, r in ((24 + drift, 18, 9), (70 - drift, 30, 7)):
                for dx, scale in ((-0.9, 0.7), (0, 1.0), (0.95, 0.75)):
                    _blend(canvas, (255, 255, 255), 0.85 * _disc(cx + dx * r, cy, r * scale, r * scale * 0.7))
        case "night":
            canvas = _gradient((22, 26, 66), (52, 52, 106))
            for x, y in _STARS:
                _blend(canvas, (244, 240, 206), 0.9 * _disc((x + 2 * drift) % SIZE, y, 1.2, 1.2))
        case "sea":
            canvas = _gradient((206, 232, 240), (232, 242, 240))
            sea = _ground(horizon, 0.6, phase)
            canvas = canvas * (1 - sea[..., None]) + _gradient((72, 158, 190), (40, 108, 158)) * sea[..., None]
            y, x = np.mgrid[0:SIZE, 0:SIZE] + 0.5
            for k in range(4):
                crest = horizon + 8 + 9.5 * k + 1.5 * np.sin(x / SIZE * 6 * math.pi + phase + k * 2.1)
                _blend(canvas, (150, 206, 222), 0.8 * np.clip(1.2 - np.abs(y - crest), 0, 1))
        case "grass":
            canvas = _gradient((208, 232, 246), (238, 246, 240))
            _blend(canvas, (158, 204, 112), _ground(horizon - 4, 4, phase + 2))
            _blend(canvas, (126, 184, 84), _ground(horizon + 8, 3, phase))
        case "sand":
            canvas = _gradient((250, 232, 200), (252, 242, 220))
            _blend(canvas, (236, 208, 150), _ground(horizon - 4, 4, phase + 2))
            _blend(canvas, (222, 186, 120), _ground(horizon + 10, 5, phase))
        case "snow":
            canvas = _gradient((168, 184, 204), (206, 218, 230))
            _blend(canvas, (246, 249, 253), _ground(horizon, 3, phase))
            for x, y in _STARS:
                _blend(canvas, (255, 255, 255), 0.9 * _disc((x + 2 * drift) % SIZE, y * 0.55, 1.5, 1.5))
        case "sunset":
            canvas = _gradient((112, 74, 140), (238, 118, 98), 60)
            canvas = np.concatenate([canvas, _gradient((240, 126, 98), (252, 196, 116), SIZE - 60)])
        case _:
            canvas = _gradient((250, 247, 240), (244, 239, 229))
    return canvas


# --- objects -----------------------------------------------------------------------------------------------------


def _texture(thing: Thing, main: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]) -> Image.Image:
    """The fill of the main parts; x and y are supersampled coordinates in pixels from the object's centre."""
    light = main * 0.25 + _CREAM * 0.75
    if thing.texture == "striped":
        pattern = (np.mod(x * 0.5 + y * 0.866, 7.0) < 3.2).astype(np.float64)
    elif thing.texture == "dotted":
        row = np.floor(y / 6.4)
        u, v = np.mod(x + row * 3.7, 7.4) - 3.7, np.mod(y, 6.4) - 3.2
        pattern = (np.hypot(u, v) < 1.9).astype(np.float64)
    else:
        pattern = np.zeros_like(x)
    fill = main + (light - main) * pattern[..., None]
    return Image.fromarray(np.rint(fill).astype(np.uint8))


def _object(thing: Thing, pose: Pose) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """An object on an empty canvas: premultiplied colour (96, 96, 3) in 0..255 and coverage (96, 96) in 0..1."""
    assert thing.colour is not None
    main = np.array(COLOURS[thing.colour], dtype=np.float64)
    turn = np.array([[math.cos(pose.tilt), -math.sin(pose.tilt)], [math.sin(pose.tilt), math.cos(pose.tilt)]])
    side = math.ceil(pose.r * 1.2) * 2 + 4
    left, top = int(pose.x) - side // 2, int(pose.y) - side // 2

    def place(part: Part) -> list[tuple[float, float]]:
        unit = (part.points * np.array([pose.aspect, 1 / pose.aspect])) @ turn.T
        pixels = (unit * pose.r + np.array([pose.x - left, pose.y - top])) * _SUPER
        return [(float(px), float(py)) for px, py in pixels]

    grid = (np.mgrid[0 : side * _SUPER, 0 : side * _SUPER] + 0.5) / _SUPER
    fill = _texture(thing, main, grid[1] + left - pose.x, grid[0] + top - pose.y)
    flat = {"shade": main * 0.8, "cream": _CREAM, "ink": _INK}
    edge = tuple(int(v) for v in main * 0.55)
    colour = Image.new("RGB", fill.size)
    cover = Image.new("L", fill.size)
    for part in OUTLINES[thing.shape]():
        points = place(part)
        stencil = Image.new("L", fill.size)
        ImageDraw.Draw(stencil).polygon(points, fill=255)
        if part.fill == "erase":
            cover.paste(0, mask=stencil)
        else:
            cover.paste(255, mask=stencil)
            source = fill if part.fill == "main" else Image.new("RGB", fill.size, tuple(flat[part.fill].astype(int)))
            colour.paste(source, mask=stencil)
        if part.fill in ("main", "shade", "erase"):
            ring = [*points, points[0], points[1]]
            ImageDraw.Draw(colour).line(ring, fill=edge, width=_SUPER, joint="curve")
            ImageDraw.Draw(cover).line(ring, fill=255, width=_SUPER, joint="curve")

    alpha_small, layer_small = _shrink(cover, colour)
    alpha, layer = np.zeros((SIZE, SIZE)), np.zeros((SIZE, SIZE, 3))
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, SIZE), min(top + side, SIZE)
    window = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    alpha[y0:y1, x0:x1] = alpha_small[window]
    layer[y0:y1, x0:x1] = layer_small[window]
    return layer, alpha


def _shrink(cover: Image.Image, colour: Image.Image) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Averages supersampled coverage and premultiplied colour over each pixel."""
    a = np.asarray(cover, dtype=np.float64) / 255
    rgb = np.asarray(colour, dtype=np.float64) * a[..., None]
    h, w = a.shape[0] // _SUPER, a.shape[1] // _SUPER
    a = a.reshape(h, _SUPER, w, _SUPER).mean(axis=(1, 3))
    return a, rgb.reshape(h, _SUPER, w, _SUPER, 3).mean(axis=(1, 3))
