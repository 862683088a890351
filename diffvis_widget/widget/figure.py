"""Draws what the page shows as a figure: picture, heat maps over it, colour bars, caption."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from diffvis_widget.widget.colours import HUES, coloured, table

if TYPE_CHECKING:
    from diffvis_widget.traces import Saliency, Trace

View = Literal["prediction", "latents", "guidance", "change"]
VIEWS: tuple[View, ...] = ("prediction", "latents", "guidance", "change")
Floats = NDArray[np.float32]
Images = NDArray[np.uint8]

_INK, _SOFT, _GROUND = (29, 31, 35), (95, 100, 109), (255, 255, 255)
_BAR, _LINE, _PAD = 10, 20, 12


@dataclass(frozen=True)
class Looked:
    """What is looked at: `png` says what each of these means."""

    step: int | None = None
    words: tuple[str | int, ...] = ()
    view: View = "prediction"
    layer: str | int | None = None
    head: int | None = None
    saliency: Saliency | None = None
    opacity: float = 0.65


@dataclass(frozen=True)
class Field:
    """One map of values over the picture: its name, values (h, w), and the range that its colours span."""

    name: str
    values: Floats
    lo: float
    hi: float


def picture(trace: Trace, looked: Looked) -> tuple[Images, Field | None]:
    """The ground, uint8 (h, w, 3), and the values behind it where it is coloured by values."""
    step, view = looked.step, looked.view
    if view == "guidance":
        guidance = trace.guidance
        if guidance is None:
            raise ValueError('view="guidance": this run had no guidance (guidance_scale of 1 or less)')
        values = np.nanmean(guidance, axis=0) if step is None else guidance[step]
        return _valued("guidance", np.asarray(values, dtype=np.float32), looked)
    if view == "change":
        if step is None:
            raise ValueError('view="change" needs a step: it shows what that step changed')
        before, after = (trace.frame("prediction", index).astype(np.float32) for index in (max(step - 1, 0), step))
        return _valued("change of 255", np.abs(after - before).mean(axis=-1), looked)
    if step is None and view == "prediction":
        return trace.image, None
    return trace.frame(view, -1 if step is None else step), None


def _valued(name: str, values: Floats, looked: Looked) -> tuple[Images, Field]:
    known = values[np.isfinite(values)]
    lo, hi = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    lo = 0.0 if looked.view == "change" else lo
    if looked.words or looked.saliency is not None:  # heat maps come on top: keep to greys
        grey = np.clip((np.nan_to_num(values) - lo) / max(hi - lo, 1e-12) * 255, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1), Field(name, values, lo, hi)
    return coloured(values, lo, hi, "magma"), Field(name, values, lo, hi)


def fields(trace: Trace, looked: Looked) -> list[Field]:
    """The heat maps that lie over the picture."""
    found: list[Field] = []
    if looked.saliency is not None:
        one = looked.saliency
        found.append(Field(one.method, one.map, float(np.nanmin(one.map)), float(np.nanmax(one.map))))
    for word in looked.words:
        values = trace.heat_map(word, step=looked.step, layer=looked.layer, head=looked.head)
        name = trace.words[word].text if isinstance(word, int) else word
        if looked.layer is not None:
            name += f", {looked.layer}" + ("" if looked.head is None else f" head {looked.head + 1}")
        known = values[np.isfinite(values)]
        if known.size:
            found.append(Field(name, values, float(known.min()), float(known.max())))
    return found


def paint(trace: Trace, looked: Looked, size: int) -> Image.Image:
    """The picture with its heat maps, ``size`` pixels on its longest side."""
    ground, _ = picture(trace, looked)
    image = Image.fromarray(ground)
    scale = size / max(image.size)
    target = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    image = image.resize(target, Image.Resampling.BICUBIC if scale < 8 else Image.Resampling.NEAREST)
    over = fields(trace, looked)
    if not over:
        return image
    pixels = np.asarray(image, dtype=np.float32)
    if len(over) == 1:
        one = over[0]
        colours, weight = coloured(_resized(one.values, target), one.lo, one.hi), np.float32(looked.opacity)
        mixed = pixels * (1 - weight) + colours * weight
        return Image.fromarray(np.rint(mixed).astype(np.uint8))
    # each word covers as much as its value says; where words meet, their colours mix by weight
    levels = [np.clip((_resized(one.values, target) - one.lo) / max(one.hi - one.lo, 1e-12), 0, 1) for one in over]
    shares = np.stack(levels) * looked.opacity
    total = shares.sum(axis=0)
    hues = np.array([HUES[index % len(HUES)] for index in range(len(over))], dtype=np.float32)
    colours = np.tensordot(shares, hues, axes=(0, 0)) / np.maximum(total, 1e-12)[..., None]
    cover = np.clip(total, 0, 1)[..., None]
    return Image.fromarray(np.rint(pixels * (1 - cover) + colours * cover).astype(np.uint8))


def _resized(values: Floats, size: tuple[int, int]) -> Floats:
    smooth = Image.fromarray(np.nan_to_num(values).astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(smooth, dtype=np.float32)


def figure(trace: Trace, looked: Looked, size: int, caption: str) -> Image.Image:
    """`paint` with a colour bar for each map, and a caption below."""
    image = paint(trace, looked, size)
    font, small = ImageFont.load_default(14), ImageFont.load_default(12)
    lines = _wrapped(caption, image.width, small)
    bars = _bars(trace, looked)
    height = _PAD + image.height + _PAD + len(bars) * _LINE + (6 if bars and lines else 0) + len(lines) * 17 + _PAD
    sheet = Image.new("RGB", (image.width + 2 * _PAD, height), _GROUND)
    sheet.paste(image, (_PAD, _PAD))
    draw = ImageDraw.Draw(sheet)
    top = 2 * _PAD + image.height
    for one, paints in bars:
        _bar(sheet, draw, one, paints, top, image.width, font, small)
        top += _LINE
    top += 6 if bars and lines else 0
    for line in lines:
        draw.text((_PAD, top), line, fill=_SOFT, font=small)
        top += 17
    return sheet


def _bars(trace: Trace, looked: Looked) -> list[tuple[Field, Images]]:
    over = fields(trace, looked)
    if not over:
        _, ground = picture(trace, looked)
        return [] if ground is None else [(ground, table("magma"))]
    if len(over) == 1:
        return [(over[0], table("viridis"))]
    ramp = np.linspace(0, 1, 256, dtype=np.float32)[:, None]
    white = np.array(_GROUND, dtype=np.float32)
    hues = [np.array(HUES[index % len(HUES)], dtype=np.float32) for index in range(len(over))]
    return [
        (one, np.rint(white * (1 - ramp) + hue * ramp).astype(np.uint8)) for one, hue in zip(over, hues, strict=True)
    ]


def _bar(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    one: Field,
    paints: Images,
    top: int,
    width: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    small: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    low, high = number(one.lo), number(one.hi)
    left, right = _PAD + width // 3, _PAD + width - 52
    name = one.name
    room = left - _PAD - 8 - draw.textlength(low, font=small)
    while len(name) > 1 and draw.textlength(name, font=font) > room:
        name = name[:-2] + "…"
    draw.text((_PAD, top), name, fill=_INK, font=font)
    draw.text((left - 6 - draw.textlength(low, font=small), top + 2), low, fill=_SOFT, font=small)
    strip = Image.fromarray(paints[None]).resize((max(1, right - left), _BAR), Image.Resampling.BILINEAR)
    sheet.paste(strip, (left, top + 4))
    draw.text((right + 6, top + 2), high, fill=_SOFT, font=small)


def _wrapped(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    columns = max(12, int(width / max(1.0, font.getlength("n"))))
    lines = [line for part in text.split("\n") for line in textwrap.wrap(part, columns)]
    return lines if len(lines) <= 6 else [*lines[:5], lines[5][: columns - 1] + "…"]


def number(value: float) -> str:
    """Two digits that mean something, as on the page."""
    if value == 0:
        return "0"
    size = abs(value)
    return f"{value:.0f}" if 100 <= size < 1e6 else f"{value:.2g}" if 1e-4 <= size < 100 else f"{value:.1e}"


def tiles(images: Sequence[Image.Image], labels: Sequence[str], columns: int) -> Image.Image:
    """Pictures of one size in rows, each with its label below."""
    width, height = images[0].size
    font = ImageFont.load_default(11)
    gap, label = 4, 16
    rows = -(-len(images) // columns)
    across = min(columns, len(images))
    sheet = Image.new("RGB", (across * (width + gap) + gap, rows * (height + gap + label) + gap), _GROUND)
    draw = ImageDraw.Draw(sheet)
    for index, (image, text) in enumerate(zip(images, labels, strict=True)):
        left = gap + index % columns * (width + gap)
        top = gap + index // columns * (height + gap + label)
        sheet.paste(image, (left, top))
        draw.text((left + width / 2, top + height + 2), text, fill=_SOFT, font=font, anchor="ma")
    return sheet
