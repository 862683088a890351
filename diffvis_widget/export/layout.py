"""Arranges views into figures and filmstrips: colour bars, captions, labels, legends."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from diffvis_widget.step_numbers import step_number
from diffvis_widget.traces.colormap import colour_table, fade
from diffvis_widget.traces.types import Images

from .contours import Rgb
from .drawing import ColouredMap, base_image, contour_colours, draw_view, overlay_maps

if TYPE_CHECKING:
    from diffvis_widget.traces import Trace

    from .view_options import StepView

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_INK, _GREY, _BACKGROUND = (29, 31, 35), (95, 100, 109), (255, 255, 255)
_BAR_HEIGHT, _BAR_SPACING, _PADDING = 10, 20, 12
NO_VALUES = "no values"  # in place of a colour bar, where the word was not in the prompt


def draw_figure(trace: Trace, view: StepView, size: int, caption: str) -> Image.Image:
    """Draw the view of a step with a colour bar for each map, and a caption below.

    Args:
        trace: The trace.
        view: The view.
        size: Pixels on the longest side of the image, without the margins.
        caption: Text of any length; wrapped, and cut after six lines.

    Returns:
        An RGB image.
    """
    image = draw_view(trace, view, size)
    font, small = ImageFont.load_default(14), ImageFont.load_default(12)
    lines = _wrap(caption, image.width, small)
    bars = _colour_bars(trace, view)
    gap = 6 if bars and lines else 0
    height = _PADDING + image.height + _PADDING + len(bars) * _BAR_SPACING + gap + len(lines) * 17 + _PADDING
    sheet = Image.new("RGB", (image.width + 2 * _PADDING, height), _BACKGROUND)
    sheet.paste(image, (_PADDING, _PADDING))
    draw = ImageDraw.Draw(sheet)
    top = 2 * _PADDING + image.height
    for bar in bars:
        _draw_bar(sheet, draw, bar, top, image.width, font, small)
        top += _BAR_SPACING
    top += gap
    for line in lines:
        draw.text((_PADDING, top), line, fill=_GREY, font=small)
        top += 17
    return sheet


class _ColourBar(NamedTuple):
    map: ColouredMap
    colours: Images  # (256, 3), or one for all
    contour: Rgb | None  # the colour of the map's contour


def _colour_bars(trace: Trace, view: StepView) -> list[_ColourBar]:
    overlays = overlay_maps(trace, view)
    if not overlays:
        _, base_map = base_image(trace, view)
        return [] if base_map is None else [_ColourBar(base_map, colour_table("magma"), None)]
    ramp = np.linspace(0, 1, 256, dtype=np.float32)
    cover, background = fade(ramp)[:, None], np.array(_BACKGROUND, dtype=np.float32)
    hues = contour_colours(overlays)
    tables = [colour_table("viridis")] if len(overlays) == 1 else [np.array([hue], dtype=np.uint8) for hue in hues]
    return [
        _ColourBar(
            overlay,
            np.rint(background * (1 - cover) + table * cover).astype(np.uint8),
            hue if view.contours else None,
        )
        for overlay, table, hue in zip(overlays, tables, hues, strict=True)
    ]


def _draw_bar(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    colour_bar: _ColourBar,
    top: int,
    width: int,
    font: Font,
    small: Font,
) -> None:
    coloured_map = colour_bar.map
    low, high = ("", "")
    if coloured_map.has_values:
        low, high = format_number(coloured_map.low), format_number(coloured_map.high)
    left, right = _PADDING + width // 3, _PADDING + width - 52
    room = left - _PADDING - 8 - draw.textlength(low, font=small)
    draw.text((_PADDING, top), _shorten(draw, coloured_map.name, room, font), fill=_INK, font=font)
    if not coloured_map.has_values:
        draw.text((left, top + 2), NO_VALUES, fill=_GREY, font=small)
        return
    draw.text((left - 6 - draw.textlength(low, font=small), top + 2), low, fill=_GREY, font=small)
    size = max(1, right - left), _BAR_HEIGHT
    sheet.paste(Image.fromarray(colour_bar.colours[None]).resize(size, Image.Resampling.BILINEAR), (left, top + 4))
    if colour_bar.contour:  # a mark at its value
        middle, bottom = (left + right) // 2, top + 3 + _BAR_HEIGHT
        draw.rectangle((middle - 2, top + 4, middle + 1, bottom), fill=_INK)
        draw.rectangle((middle - 1, top + 4, middle, bottom), fill=colour_bar.contour)
    draw.text((right + 6, top + 2), high, fill=_GREY, font=small)


def _shorten(draw: ImageDraw.ImageDraw, text: str, room: float, font: Font) -> str:
    while len(text) > 1 and draw.textlength(text, font=font) > room:
        text = text[:-2] + "…"
    return text


def _wrap(text: str, width: int, font: Font) -> list[str]:
    columns = max(12, int(width / max(1.0, font.getlength("n"))))
    lines = [line for part in text.split("\n") for line in textwrap.wrap(part, columns)]
    return lines if len(lines) <= 6 else [*lines[:5], lines[5][: columns - 1] + "…"]


def format_number(value: float) -> str:
    """Format a number with two significant digits, as on the page.

    Args:
        value: The number.

    Returns:
        Its text.

    Example:
        >>> format_number(0.01234), format_number(1234.5), format_number(0.0000123)
        ('0.012', '1234', '1.2e-05')
    """
    if value == 0:
        return "0"
    size = abs(value)
    return f"{value:.0f}" if 100 <= size < 1e6 else f"{value:.2g}" if 1e-4 <= size < 100 else f"{value:.1e}"


def draw_filmstrip(trace: Trace, views: Sequence[StepView], columns: int, size: int) -> Image.Image:
    """Draw several views in rows, each with the number of its step, and a legend of the colours below.

    Args:
        trace: The trace.
        views: The views.
        columns: Images in a row.
        size: Pixels on the longest side of each image.

    Returns:
        An RGB image.
    """
    images = [draw_view(trace, view, size) for view in views]
    numbers = ["" if view.step is None else str(step_number(view.step)) for view in views]
    sheet = draw_tiles(images, numbers, columns)
    example = next((view for view in views if view.saliency is not None), views[0])
    entries = [(_legend_text(bar.map, example, len(views)), bar.colours) for bar in _colour_bars(trace, example)]
    return _add_legend(sheet, entries)


def _legend_text(coloured_map: ColouredMap, view: StepView, count: int) -> str:
    """The legend of several images: with numbers only where they hold for all of them."""
    if (count == 1 or view.value_range is not None) and coloured_map.has_values:
        return f"{coloured_map.name}, {format_number(coloured_map.low)} to {format_number(coloured_map.high)}"
    return f"{coloured_map.name}, each step on its own scale"


def _add_legend(sheet: Image.Image, entries: Sequence[tuple[str, Images]]) -> Image.Image:
    """The sheet with a legend below, in as many rows as it needs."""
    if not entries:
        return sheet
    font, swatch, gap, line = ImageFont.load_default(12), 48, 6, 18
    placed: list[tuple[int, int, str, Images]] = []
    left, row = gap, 0
    for text, colours in entries:
        width = swatch + gap + math.ceil(font.getlength(text)) + 2 * gap
        if left > gap and left + width > sheet.width:
            left, row = gap, row + 1
        placed.append((left, row, text, colours))
        left += width
    result = Image.new("RGB", (sheet.width, sheet.height + (row + 1) * line + gap), _BACKGROUND)
    result.paste(sheet, (0, 0))
    draw = ImageDraw.Draw(result)
    for left, row, text, colours in placed:
        top = sheet.height + gap // 2 + row * line
        bar = Image.fromarray(colours[None]).resize((swatch, _BAR_HEIGHT), Image.Resampling.BILINEAR)
        result.paste(bar, (left, top + 2))
        start = left + swatch + gap
        draw.text((start, top), _shorten(draw, text, result.width - start - 2, font), fill=_GREY, font=font)
    return result


def draw_tiles(images: Sequence[Image.Image], labels: Sequence[str], columns: int, caption: str = "") -> Image.Image:
    """Draw images in rows, each with a label below.

    Args:
        images: Images of one size.
        labels: A label per image.
        columns: Images in a row.
        caption: Text below all of them.

    Returns:
        An RGB image.
    """
    width, height = images[0].size
    font = ImageFont.load_default(11)
    gap, label_height = 4, 16
    rows = -(-len(images) // columns)
    used_columns = min(columns, len(images))
    size = (used_columns * (width + gap) + gap, rows * (height + gap + label_height) + gap)
    lines = _wrapped(caption, font, size[0] - 2 * gap)
    caption_top, size = size[1], (size[0], size[1] + label_height * len(lines))
    sheet = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        left = gap + index % columns * (width + gap)
        top = gap + index // columns * (height + gap + label_height)
        sheet.paste(image, (left, top))
        draw.text((left + width / 2, top + height + 2), label, fill=_GREY, font=font, anchor="ma")
    for index, line in enumerate(lines):
        draw.text((gap, caption_top + index * label_height), line, fill=_GREY, font=font)
    return sheet


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> list[str]:
    """The words of a text as lines of at most this width, as far as single words fit."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
