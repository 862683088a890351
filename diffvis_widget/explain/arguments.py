"""Checks that several methods share: each error names the argument, what was given and what would work."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any


def count(name: str, value: Any, least: int = 1) -> int:
    """An integer of `least` or more. Raises TypeError or ValueError."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer of {least} or more, not {value!r}")
    if number < least:
        raise ValueError(f"{name} must be an integer of {least} or more, not {number}")
    return number


def real(name: str, value: Any, low: float, high: float, *, open_ends: bool = False) -> float:
    """A number in low..high, or strictly between them. Raises TypeError or ValueError."""
    allowed = f"a number {'between' if open_ends else 'from'} {low:g} {'and' if open_ends else 'to'} {high:g}"
    allowed += ", both excluded" if open_ends else ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be {allowed}, not {value!r}")
    inside = low < value < high if open_ends else low <= value <= high
    if not (math.isfinite(value) and inside):
        raise ValueError(f"{name} must be {allowed}, not {value!r}")
    return float(value)


def choice(name: str, value: Any, options: Sequence[str]) -> str:
    """One of the options. Raises ValueError that lists them."""
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, not {value!r}")
    return value
