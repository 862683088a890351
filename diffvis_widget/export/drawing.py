"""Draws what the page shows as a figure: picture, heat maps over it, colour bars, caption."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from .colormap import HUES, coloured, table
from .contours import INSIDE, WHITE, levels, lines, outlined

if TYPE_CHECKING:
    from diffvis_widget.traces import Trace

    from .view_options import Looked, Region

Floats = NDArray[np.float32]
Images = NDArray[np.uint8]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_INK, _SOFT, _GROUND = (29, 31, 35), (95, 100, 109), (255, 255, 255)
_BAR, _LINE, _PAD = 10, 20, 12
_SMALL = 160  # pixels; on smaller pictures three lines of each word would hide what is under them
_RASTER = 128  # cells on the longest side of a map whose contours are traced, as on the page
NOT_KEPT = "not kept"  # as on the page: the trace has no values of it here
_METHODS = {"df_rise": "DF-RISE", "df_cam": "DF-CAM", "df_lime": "DF-LIME"}


@dataclass(frozen=True)
class Field:
    """One map of values over the picture: its name, values (h, w), and the range that its colours span.

    The range is NaN where there is no value: the word was not in force.
    """

    name: str
    values: Floats
    lo: float
    hi: float

    @property
    def is_known(self) -> bool:
        return math.isfinite(self.lo) and bool(np.isfinite(self.values).any())


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
        found.append(Field(_METHODS.get(one.method, one.method), one.map, *_span(one.map)))
    for word in looked.words:
        values = trace.heat_map(word, step=looked.step, layer=looked.layer, head=looked.head)
        name = trace.words[word].text if isinstance(word, int) else word
        if looked.layer is not None:
            name += f", {looked.layer}" + ("" if looked.head is None else f" head {looked.head + 1}")
        found.append(Field(name, values, *(looked.scale or _span(values))))
    return found


def _span(values: Floats) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    return (float(known.min()), float(known.max())) if known.size else (math.nan, math.nan)


def paint(trace: Trace, looked: Looked, size: int) -> Image.Image:
    """The picture with what lies on it, ``size`` pixels on its longest side: heat maps, their contours, a place."""
    ground, _ = picture(trace, looked)
    image = Image.fromarray(ground)
    scale = size / max(image.size)
    target = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    image = image.resize(target, Image.Resampling.BICUBIC if scale < 8 else Image.Resampling.NEAREST)
    over = fields(trace, looked)
    image = _covered(image, over, looked.opacity)
    if looked.contours:
        for index, one in enumerate(over):
            image = _contoured(image, one, HUES[index % len(HUES)] if len(over) > 1 else WHITE)
    return image if looked.region is None else _framed(image, trace, looked.region)


def _covered(image: Image.Image, over: Sequence[Field], opacity: float) -> Image.Image:
    pixels = np.asarray(image, dtype=np.float32)
    if len(over) == 1 and over[0].is_known:
        one = over[0]
        colours, weight = coloured(_resized(one.values, image.size), one.lo, one.hi), np.float32(opacity)
        mixed = pixels * (1 - weight) + colours * weight
        return Image.fromarray(np.rint(mixed).astype(np.uint8))
    # each word covers as much as its value says; where words meet, their colours mix by weight
    known = [(index, one) for index, one in enumerate(over) if one.is_known]
    if not known:
        return image
    raised = [(_resized(one.values, image.size) - one.lo) / max(one.hi - one.lo, 1e-12) for _, one in known]
    shares = np.clip(np.stack(raised), 0, 1) * opacity
    total = shares.sum(axis=0)
    hues = np.array([HUES[index % len(HUES)] for index, _ in known], dtype=np.float32)
    colours = np.tensordot(shares, hues, axes=(0, 0)) / np.maximum(total, 1e-12)[..., None]
    cover = np.clip(total, 0, 1)[..., None]
    return Image.fromarray(np.rint(pixels * (1 - cover) + colours * cover).astype(np.uint8))


def _contoured(image: Image.Image, one: Field, colour: tuple[int, int, int]) -> Image.Image:
    if not one.is_known:
        return image
    scale = min(1.0, _RASTER / max(image.size))
    raster = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    field = _resized(one.values, raster)
    stretch = np.array(image.size) / raster
    inside = INSIDE if max(image.size) >= _SMALL else INSIDE[-1:]
    paths = [path * stretch for level in levels(field, inside) for path in lines(field, level)]
    return outlined(image, paths, max(1.0, image.width / 280), colour)


def _framed(image: Image.Image, trace: Trace, region: Region) -> Image.Image:
    """With a frame around the cells of the heat maps that a place touches; of a run without maps, around the place."""
    left, top, right, bottom = region
    if trace.layers:
        _, rows, columns = trace.heat_maps(step=0).shape

        def cell(at: float, count: int) -> int:
            return min(count - 1, int(at * count))

        left, right = cell(left, columns) / columns, (cell(right, columns) + 1) / columns
        top, bottom = cell(top, rows) / rows, (cell(bottom, rows) + 1) / rows
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]) * image.size
    return outlined(image, [corners], max(1.0, image.width / 200))


def _resized(values: Floats, size: tuple[int, int]) -> Floats:
    smooth = Image.fromarray(np.nan_to_num(values).astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(smooth, dtype=np.float32)


def figure(trace: Trace, looked: Looked, size: int, caption: str) -> Image.Image:
    """`paint` with a colour bar for each map, and a caption below."""
    image = paint(trace, looked, size)
    font, small = ImageFont.load_default(14), ImageFont.load_default(12)
    told = _wrapped(caption, image.width, small)
    bars = _bars(trace, looked)
    height = _PAD + image.height + _PAD + len(bars) * _LINE + (6 if bars and told else 0) + len(told) * 17 + _PAD
    sheet = Image.new("RGB", (image.width + 2 * _PAD, height), _GROUND)
    sheet.paste(image, (_PAD, _PAD))
    draw = ImageDraw.Draw(sheet)
    top = 2 * _PAD + image.height
    for one, paints in bars:
        _bar(sheet, draw, one, paints, top, image.width, font, small)
        top += _LINE
    top += 6 if bars and told else 0
    for line in told:
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
    font: Font,
    small: Font,
) -> None:
    low, high = (number(one.lo), number(one.hi)) if one.is_known else ("", "")
    left, right = _PAD + width // 3, _PAD + width - 52
    room = left - _PAD - 8 - draw.textlength(low, font=small)
    draw.text((_PAD, top), _fitting(draw, one.name, room, font), fill=_INK, font=font)
    if not one.is_known:
        draw.text((left, top + 2), NOT_KEPT, fill=_SOFT, font=small)
        return
    draw.text((left - 6 - draw.textlength(low, font=small), top + 2), low, fill=_SOFT, font=small)
    strip = Image.fromarray(paints[None]).resize((max(1, right - left), _BAR), Image.Resampling.BILINEAR)
    sheet.paste(strip, (left, top + 4))
    draw.text((right + 6, top + 2), high, fill=_SOFT, font=small)


def _fitting(draw: ImageDraw.ImageDraw, text: str, room: float, font: Font) -> str:
    while len(text) > 1 and draw.textlength(text, font=font) > room:
        text = text[:-2] + "…"
    return text


def _wrapped(text: str, width: int, font: Font) -> list[str]:
    columns = max(12, int(width / max(1.0, font.getlength("n"))))
    lines = [line for part in text.split("\n") for line in textwrap.wrap(part, columns)]
    return lines if len(lines) <= 6 else [*lines[:5], lines[5][: columns - 1] + "…"]


def number(value: float) -> str:
    """Two digits that mean something, as on the page."""
    if value == 0:
        return "0"
    size = abs(value)
    return f"{value:.0f}" if 100 <= size < 1e6 else f"{value:.2g}" if 1e-4 <= size < 100 else f"{value:.1e}"


def strip(trace: Trace, looked: Sequence[Looked], columns: int, size: int) -> Image.Image:
    """Steps in rows, each with its number, and below them what the colours mean."""
    images = [paint(trace, one, size) for one in looked]
    numbers = ["" if one.step is None else str(one.step + 1) for one in looked]
    sheet = tiles(images, numbers, columns)
    told = next((one for one in looked if one.saliency is not None), looked[0])
    entries = [(_named(one, told, len(looked)), paints) for one, paints in _bars(trace, told)]
    return _with_legend(sheet, entries)


def _named(one: Field, looked: Looked, count: int) -> str:
    """What a bar of several pictures says: numbers only where they hold for all of them."""
    if (count == 1 or looked.scale is not None) and one.is_known:
        return f"{one.name}, {number(one.lo)} to {number(one.hi)}"
    return f"{one.name}, each step on its own scale"


def _with_legend(sheet: Image.Image, entries: Sequence[tuple[str, Images]]) -> Image.Image:
    """The sheet with colours and what they mean below it, side by side as far as there is room."""
    if not entries:
        return sheet
    font, swatch, gap, line = ImageFont.load_default(12), 48, 6, 18
    placed: list[tuple[int, int, str, Images]] = []
    left, row = gap, 0
    for text, paints in entries:
        width = swatch + gap + math.ceil(font.getlength(text)) + 2 * gap
        if left > gap and left + width > sheet.width:
            left, row = gap, row + 1
        placed.append((left, row, text, paints))
        left += width
    whole = Image.new("RGB", (sheet.width, sheet.height + (row + 1) * line + gap), _GROUND)
    whole.paste(sheet, (0, 0))
    draw = ImageDraw.Draw(whole)
    for left, row, text, paints in placed:
        top = sheet.height + gap // 2 + row * line
        bar = Image.fromarray(paints[None]).resize((swatch, _BAR), Image.Resampling.BILINEAR)
        whole.paste(bar, (left, top + 2))
        at = left + swatch + gap
        draw.text((at, top), _fitting(draw, text, whole.width - at - 2, font), fill=_SOFT, font=font)
    return whole


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
