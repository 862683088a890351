"""Curves of groups of rows, with their means and intervals over prompts, and their drawing as SVG."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from diffvis_widget.intervals import bootstrap_band

from .series import Doubles

# Okabe and Ito's colours, which colour-blind people tell apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
_MARGIN = 0.04  # of the range of values, above and below
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _BOTTOM, _TOP = 320, 180, 46, 10, 26, 10


@dataclass(frozen=True)
class GroupCurve:
    """The mean curve of a group of rows.

    Attributes:
        name: Name of the group.
        mean: float64 (T,).
        low: float64 (T,), lower end of its 95 % interval over prompts; -inf where there is none.
        high: float64 (T,), upper end.
        prompts: Number of prompts.
    """

    name: str
    mean: Doubles
    low: Doubles
    high: Doubles
    prompts: int


def group_curves(curves: Sequence[Doubles | None], groups: Sequence[str], prompts: Sequence[str]) -> list[GroupCurve]:
    """Average the curves of each group: over the rows of a prompt first, then over prompts.

    Args:
        curves: One curve of each row, (T,); None is left out, and so is a curve that is not finite.
        groups: Name of each row's group.
        prompts: Prompt of each row.

    Returns:
        The groups in order of their first appearance; those without a curve, and curves of another length than the
        first of their group, are left out.
    """
    by_group: dict[str, dict[str, list[Doubles]]] = {}
    for curve, group, prompt in zip(curves, groups, prompts, strict=True):
        if curve is not None and np.isfinite(curve).all():
            by_group.setdefault(group, {}).setdefault(prompt, []).append(curve)
    result: list[GroupCurve] = []
    for name, by_prompt in by_group.items():
        steps = len(next(iter(by_prompt.values()))[0])
        fitting = [[curve for curve in rows if len(curve) == steps] for rows in by_prompt.values()]
        means = np.array([np.mean(rows, axis=0) for rows in fitting if rows])
        ends = bootstrap_band(means)
        result.append(GroupCurve(name, means.mean(axis=0), ends[:, 0], ends[:, 1], len(means)))
    return result


def chart(
    title: str,
    groups: Sequence[GroupCurve],
    colours: Mapping[str, str],
    unrelated: tuple[Doubles, Doubles] | None = None,
) -> str:
    """Draw curves over steps.

    Args:
        title: Name of the measure.
        groups: The curves.
        colours: Colour by name of the group.
        unrelated: float64 (T,) twice, lower and upper end of a grey band behind them; None for none.

    Returns:
        An SVG element; all text is escaped.
    """
    ends = [end for group in groups for end in (group.mean, group.low, group.high)] + list(unrelated or ())
    values = np.concatenate(ends)
    values = values[np.isfinite(values)]
    low, high = float(values.min()), float(values.max())
    ticks = round_ticks(low, high)
    margin = (high - low) * _MARGIN or 0.5
    low, span = low - margin, high - low + 2 * margin
    steps = max(len(group.mean) for group in groups)
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def across(step: float) -> float:
        return _LEFT + (right - _LEFT) * step / max(steps - 1, 1)

    def down(value: float) -> float:
        return _TOP + (bottom - _TOP) * (1 - (value - low) / span)

    def points(curve: Doubles) -> list[str]:
        return [f"{across(step):.1f},{down(value):.1f}" for step, value in enumerate(curve.tolist())]

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(title)} over the steps">']
    for tick in ticks:
        y = down(tick)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{right}"/>')
        parts.append(f'<text class="axis" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:.6g}</text>')
    for step in sorted({0, (steps - 1) // 2, steps - 1}):
        name = f"step {step + 1}" if step == 0 else str(step + 1)
        anchor = "middle" if step else "start"
        parts.append(
            f'<text class="axis" x="{across(step):.1f}" y="{_HEIGHT - 8}" text-anchor="{anchor}">{name}</text>'
        )
    if unrelated is not None:
        band = [*points(unrelated[1]), *reversed(points(unrelated[0]))]
        parts.append(f'<polygon class="unrelated" points="{" ".join(band)}"/>')
    for group in groups:
        colour = colours[group.name]
        if np.isfinite(group.low).all() and np.isfinite(group.high).all():
            band = [*points(group.high), *reversed(points(group.low))]
            parts.append(f'<polygon points="{" ".join(band)}" fill="{colour}" fill-opacity="0.18"/>')
        parts.append(
            f'<polyline points="{" ".join(points(group.mean))}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
    return "".join([*parts, "</svg>"])


def round_ticks(low: float, high: float) -> list[float]:
    """Choose round numbers for an axis.

    Args:
        low: The least value.
        high: The largest one.

    Returns:
        Multiples of 1, 2 or 5 times a power of ten between the two; of equal values that value.

    Example:
        >>> round_ticks(0.13, 0.48)
        [0.2, 0.3, 0.4]
    """
    if high == low:
        return [low]
    power = 10.0 ** math.floor(math.log10((high - low) / 4))
    width = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= (high - low) / 4 * (1 - 1e-9))
    first, last = math.ceil(low / width - 1e-9), math.floor(high / width + 1e-9)
    return [float(f"{number * width:.12g}") for number in range(first, last + 1)]
