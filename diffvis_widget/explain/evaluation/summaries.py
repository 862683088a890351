"""Summaries of measurements over scenes, with intervals: the cells of the report's tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from diffvis_widget.intervals import mean_interval, median_interval

from .json_lines import Line

Value = Callable[[Line], tuple[float, float] | None]
"""Maps a line to the sum and the number of its measurements; None without any."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Format a Markdown table, followed by an empty line.

    Args:
        head: Texts of the header.
        rows: Texts of the rows.

    Returns:
        Lines of Markdown.
    """
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def shown(lines: Sequence[Line], value: Value, digits: int = 2, most: float = 1) -> str:
    """Format a mean with its interval.

    Args:
        lines: Measurements, a line a scene.
        value: What is averaged, from 0 to `most`.
        digits: Decimal places.
        most: The largest possible value.

    Returns:
        As "0.84 (0.79 to 0.88)".
    """
    means, counts = _means(lines, value)
    low, high = mean_interval(means, 0, most, counts)
    return f"{mean(lines, value):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def mean(lines: Sequence[Line], value: Value) -> float:
    """Average over all measurements.

    Args:
        lines: Measurements, a line a scene.
        value: What is averaged.

    Returns:
        The mean.
    """
    means, counts = _means(lines, value)
    return float(np.average(means, weights=counts))


def _means(lines: Sequence[Line], value: Value) -> tuple[list[float], list[float]]:
    """The mean of each line that has measurements, and their numbers."""
    pairs = [pair for pair in map(value, lines) if pair is not None]
    return [total / count for total, count in pairs], [count for _, count in pairs]


def median(lines: Sequence[Line], value: Value, form: str = ".2f") -> tuple[str, float, float]:
    """Format a median over the lines with its interval.

    Args:
        lines: Measurements, a line a scene.
        value: What is summarised.
        form: Format of a number.

    Returns:
        As "0.66 (0.63 to 0.70)", and the ends of the interval. Of too few lines for an interval, the text says how many
        of them are above 0: "0.66 (3 of 4 above 0)".
    """
    means = _means(lines, value)[0]
    low, high = median_interval(means)
    ends = f"{low:{form}} to {high:{form}}"
    if not np.isfinite(low):
        ends = f"{sum(mean > 0 for mean in means)} of {len(means)} above 0"
    return f"{np.median(means):{form}} ({ends})", low, high


def difference(lines: Sequence[Line], value: Value, other: Value, higher: bool = True) -> str:
    """Format the median of the paired differences with its interval, and a verdict.

    Args:
        lines: Measurements, a line a scene.
        value: What is compared.
        other: What it is compared with.
        higher: Whether a larger value is better.

    Returns:
        As "+0.81 (+0.75 to +0.83): better".
    """
    text, low, high = median(lines, minus(value, other), "+.2f")
    better, worse = (low > 0, high < 0) if higher else (high < 0, low > 0)
    return f"{text}: {'better' if better else 'worse' if worse else 'no better'}"


def minus(first: Value, other: Value) -> Value:
    """Subtract means.

    Args:
        first: A value.
        other: Another one.

    Returns:
        The difference, of lines that have both.
    """

    def value(line: Line) -> tuple[float, float] | None:
        pairs = first(line), other(line)
        if pairs[0] is None or pairs[1] is None:
            return None
        return pairs[0][0] / pairs[0][1] - pairs[1][0] / pairs[1][1], 1

    return value
