"""Small static HTML of traces and results, which notebooks show as the output of a cell.

No scripts and no style sheets: colours are those of the notebook, all text is escaped, and every list, text and image
is cut to a size that keeps the whole under 100 kB.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .colormap import apply_colormap
from .printable import printable
from .types import Images, Word

MAX_PNG = 56_000  # bytes of the images of a summary
MAX_ROWS = 24
MAX_COLUMNS = 8
MAX_WORDS = 48
_SIDES = (256, 192, 128, 96)  # pixels; even noise of the last two sizes fits into all or half of MAX_PNG
_SHOWN_SIDE = 160  # pixels on the screen
_MAX_POINTS = 96
_WIDTH, _HEIGHT, _MARGIN = 120, 22, 3  # of a sparkline
_LINE = "1px solid rgba(128,128,128,.45)"
_CELL = "text-align:left;padding:1px 12px 1px 0"


class CurveRow(NamedTuple):
    """A row of a table of curves.

    Attributes:
        name: what the curve is of.
        values: (n,), any numbers; what is not finite is a gap.
        cells: texts after the curve.
    """

    name: str
    values: NDArray[Any]
    cells: Sequence[str]


class HasImage(Protocol):
    """A trace, of which this needs the image only."""

    @property
    def image(self) -> Images:
        """uint8 (H, W, 3); ValueError where there is none."""
        ...


def card(title: str, facts: Sequence[str], *parts: str) -> str:
    """Puts a summary together.

    Args:
        title: what it is a summary of.
        facts: texts beside the title; empty ones are left out.
        *parts: HTML of the content; empty ones are left out.

    Returns:
        HTML of one element.
    """
    heading = f"<b>{text(title)}</b> " + " · ".join(text(fact) for fact in facts if fact)
    content = "".join(f'<div style="margin-top:6px">{part}</div>' for part in parts if part)
    style = "font:13px/1.5 system-ui,sans-serif;color:inherit;max-width:720px"
    return f'<div style="{style}"><div>{heading}</div>{content}</div>'


def side_by_side(*parts: str) -> str:
    """Puts parts beside each other, as far as there is room.

    Args:
        *parts: HTML; empty parts are left out.

    Returns:
        HTML.
    """
    items = "".join(f'<div style="flex:0 1 auto;min-width:0">{part}</div>' for part in parts if part)
    return f'<div style="display:flex;flex-wrap:wrap;gap:12px;align-items:flex-start">{items}</div>'


def text(value: str, longest: int = 80) -> str:
    """Escapes a text for HTML.

    Args:
        value: any text.
        longest: number of characters after which it is cut.

    Returns:
        HTML, which sets the reading direction of the text apart from what is around it.
    """
    return f"<bdi>{_escaped(value, longest)}</bdi>"


def word_list(words: Sequence[Word]) -> str:
    """Lists the words of a prompt; those that were truncated are struck through.

    Args:
        words: of a trace.

    Returns:
        HTML; "" without typed words.
    """
    typed = [word for word in words if word.kind in ("word", "truncated")]
    items = [
        f'<span style="display:inline-block;border:{_LINE};border-radius:4px;padding:0 5px;margin:0 4px 4px 0">'
        f"{f'<s>{text(word.text, 30)}</s>' if word.kind == 'truncated' else text(word.text, 30)}</span>"
        for word in typed[:MAX_WORDS]
    ]
    more = [f"and {len(typed) - MAX_WORDS} more"] if len(typed) > MAX_WORDS else []
    return "".join([*items, *more])


def thumbnail(image: Images, label: str, max_bytes: int = MAX_PNG) -> str:
    """Shows an image, in full where it is small, and reduced where it is not.

    Args:
        image: uint8 (H, W, 3).
        label: what it shows, for those who do not see it.
        max_bytes: of the PNG file.

    Returns:
        HTML with the image as PNG; "" for an empty image.
    """
    if not image.size:
        return ""
    encoded = _png(image, max_bytes)
    height, width = image.shape[:2]
    scale = _SHOWN_SIDE / max(height, width)
    shown = [max(1, round(side * scale)) for side in (width, height)]
    rendering = "image-rendering:pixelated;" if scale > 1 else ""
    return (
        f'<img alt="{_escaped(label, 80)}" width="{shown[0]}" height="{shown[1]}" '
        f'style="{rendering}display:block;max-width:100%;border-radius:4px;margin:0" '
        f'src="data:image/png;base64,{base64.b64encode(encoded).decode("ascii")}">'
    )


def prompt_lines(
    prompt: str, negative_prompt: str | None, words: Sequence[Word], typed_prompt: str | None = None
) -> str:
    """Shows the prompts and the words of a run.

    Args:
        prompt: the prompt.
        negative_prompt: the negative prompt, None without.
        words: the words of the prompt.
        typed_prompt: what was typed, where a model rewrote it; else None.

    Returns:
        HTML.
    """
    parts = [text(f"typed: {typed_prompt}", 300)] if typed_prompt else []
    parts += [text(prompt, 300), word_list(words)]
    parts += [text(f"negative: {negative_prompt}", 300)] if negative_prompt else []
    return "".join(f"<div>{part}</div>" for part in parts)


def final_thumbnail(trace: HasImage, label: str, max_bytes: int = MAX_PNG) -> str:
    """Shows the final image of a trace.

    Args:
        trace: the trace.
        label: what the image is.
        max_bytes: of the PNG file.

    Returns:
        HTML; "" where the trace has no image: no step is finished, or nothing can decode its latents.
    """
    try:
        image = trace.image
    except ValueError:
        return ""
    return thumbnail(image, label, max_bytes)


def map_thumbnail(values: NDArray[np.floating[Any]], label: str) -> str:
    """Shows a map in colour, from its least to its largest finite value.

    Args:
        values: (h, w); what is not finite is drawn as the least value.
        label: what it shows.

    Returns:
        HTML; "" for an empty map.
    """
    low, high = value_range([values])
    if np.isnan(low):
        low, high = 0.0, 1.0
    finite = np.where(np.isfinite(values), values, low).astype(np.float64)
    return thumbnail(apply_colormap(finite, low, high, "magma"), label)


def curve_table(heads: Sequence[str], rows: Sequence[CurveRow]) -> str:
    """Makes a table with a sparkline in each row; all have one scale.

    Args:
        heads: names of the columns: of the names, of the curves, and of the cells after them.
        rows: the rows.

    Returns:
        HTML; "" without rows.
    """
    if not rows:
        return ""
    shown = rows[:MAX_ROWS]
    low, high = value_range([row.values for row in shown])
    first, second, *others = heads[: 2 + MAX_COLUMNS]
    titles = [first, f"{second}, {number(low)} to {number(high)}", *others]
    lines = ["".join(f'<th style="{_CELL};font-weight:normal;opacity:.75">{text(title, 40)}</th>' for title in titles)]
    for row in shown:
        cells = [text(row.name, 40), sparkline(row.values, low, high), *(text(cell, 40) for cell in row.cells)]
        lines.append("".join(f'<td style="{_CELL}">{cell}</td>' for cell in cells[: 2 + MAX_COLUMNS]))
    table = "".join(f"<tr>{line}</tr>" for line in lines)
    left_out = [f"{len(rows) - MAX_ROWS} more rows"] if len(rows) > MAX_ROWS else []
    left_out += [f"{len(heads) - 2 - MAX_COLUMNS} more columns"] if len(heads) > 2 + MAX_COLUMNS else []
    more = f"<div>and {', '.join(left_out)}</div>" if left_out else ""
    return f'<table style="border-collapse:collapse;margin:0;font:inherit;color:inherit">{table}</table>{more}'


def sparkline(values: NDArray[Any], low: float, high: float) -> str:
    """Draws a curve without axes; the last value has a dot.

    Args:
        values: (n,); what is not finite is a gap.
        low: the value at the lower edge.
        high: the value at the upper edge.

    Returns:
        An SVG element.
    """
    chosen = np.unique(np.linspace(0, max(len(values) - 1, 0), _MAX_POINTS).round().astype(np.int64))
    heights = np.asarray(values, dtype=np.float64)[chosen] if len(values) else np.zeros(0)
    x = _MARGIN + (_WIDTH - 2 * _MARGIN) * chosen / max(len(values) - 1, 1)
    level = np.clip((heights - low) / (high - low), 0, 1) if high > low else np.where(np.isfinite(heights), 0.5, np.nan)
    y = _HEIGHT - _MARGIN - (_HEIGHT - 2 * _MARGIN) * level
    drawn = np.isfinite(heights)
    breaks = np.flatnonzero(np.diff(drawn)) + 1
    lines = [
        f'<polyline points="{" ".join(f"{x[i]:.1f},{y[i]:.1f}" for i in part)}"/>'
        for part in np.split(np.arange(len(heights)), breaks)
        if len(part) and drawn[part[0]]
    ]
    ends = np.flatnonzero(drawn)[-1:]
    dots = [f'<circle cx="{x[i]:.1f}" cy="{y[i]:.1f}" r="2.2" fill="currentColor" stroke="none"/>' for i in ends]
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" fill="none" stroke="currentColor" '
        f'stroke-width="1.3" aria-hidden="true" style="vertical-align:middle">{"".join([*lines, *dots])}</svg>'
    )


def value_range(arrays: Sequence[NDArray[Any]]) -> tuple[float, float]:
    """Finds the range of the finite values of arrays.

    Args:
        arrays: of any shapes.

    Returns:
        The least and the largest value; (nan, nan) without finite values.
    """
    finite = [array[np.isfinite(array)] for array in arrays]
    values = np.concatenate([np.zeros(0), *(part.ravel() for part in finite)])
    return (float(values.min()), float(values.max())) if values.size else (float("nan"), float("nan"))


def number(value: float) -> str:
    """Formats a number.

    Args:
        value: any number.

    Returns:
        Three significant digits; a dash for NaN.
    """
    return "–" if np.isnan(value) else f"{value:.3g}"


def last(values: NDArray[Any]) -> str:
    """Formats the last value of a curve.

    Args:
        values: (n,).

    Returns:
        Its text; a dash where it is NaN or there is none.
    """
    return number(float(values[-1])) if len(values) else "–"


def _escaped(value: str, longest: int) -> str:
    line = " ".join(value[: longest + 1].split())
    line = line if len(value) <= longest else f"{line[:longest].rstrip()}…"
    return html.escape(printable(line))


def _png(image: Images, max_bytes: int) -> bytes:
    encoded = b""
    for side in _SIDES:
        reduced = Image.fromarray(image)
        reduced.thumbnail((side, side))
        buffer = io.BytesIO()
        reduced.save(buffer, "PNG")
        encoded = buffer.getvalue()
        if len(encoded) <= max_bytes:
            break
    return encoded
