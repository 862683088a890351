"""Curves of groups of rows, with their means and intervals over prompts, and their drawing as SVG."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from diffvis_widget.intervals import bootstrap_band

from .series import Doubles

# Okabe and Ito's colours, which colour-blind people tell apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 420, 190, 46, 28, 10


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


def chart(title: str, groups: Sequence[GroupCurve], colours: Mapping[str, str]) -> str:
    """Draw curves over steps.

    Args:
        title: Name of the measure.
        groups: The curves.
        colours: Colour by name of the group.

    Returns:
        An SVG element; all text is escaped.
    """
    ends = [end for group in groups for end in (group.mean, group.low, group.high)]
    values = np.concatenate(ends)
    values = values[np.isfinite(values)]
    low, high = float(values.min()), float(values.max())
    span = high - low or 1.0
    steps = max(len(group.mean) for group in groups)

    def points(curve: Doubles) -> list[str]:
        places = [
            (_LEFT + (_WIDTH - _LEFT - 10) * step / max(steps - 1, 1), value)
            for step, value in enumerate(curve.tolist())
        ]
        height = _HEIGHT - _BOTTOM - _TOP
        return [f"{x:.1f},{_TOP + height * (1 - (value - low) / span):.1f}" for x, value in places]

    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(title)} over the steps">',
        f'<text class="axis" x="{_LEFT - 6}" y="{_TOP + 6}" text-anchor="end">{high:.3g}</text>',
        f'<text class="axis" x="{_LEFT - 6}" y="{_HEIGHT - _BOTTOM}" text-anchor="end">{low:.3g}</text>',
        f'<text class="axis" x="{_LEFT}" y="{_HEIGHT - 10}">step 1</text>',
        f'<text class="axis" x="{_WIDTH - 10}" y="{_HEIGHT - 10}" text-anchor="end">step {steps}</text>',
        f'<path class="frame" d="M{_LEFT} {_TOP}V{_HEIGHT - _BOTTOM}H{_WIDTH - 10}"/>',
    ]
    for group in groups:
        colour = colours[group.name]
        if np.isfinite(group.low).all() and np.isfinite(group.high).all():
            band = [*points(group.high), *reversed(points(group.low))]
            parts.append(f'<polygon points="{" ".join(band)}" fill="{colour}" fill-opacity="0.18"/>')
        parts.append(
            f'<polyline points="{" ".join(points(group.mean))}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
    return "".join([*parts, "</svg>"])
