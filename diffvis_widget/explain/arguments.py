"""Argument checks shared by the methods: each error names the argument, the value and what would work."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any


def count(name: str, value: Any, least: int = 1) -> int:
    """Check an integer.

    Args:
        name: Name of the argument, for the error.
        value: The value.
        least: Smallest value allowed.

    Returns:
        The integer.

    Raises:
        TypeError: If the value is not an integer.
        ValueError: If it is below `least`.
    """
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
    """Check a real number.

    Args:
        name: Name of the argument, for the error.
        value: The value.
        low: Lower end of the range.
        high: Upper end of the range.
        open_ends: Whether the ends themselves are excluded.

    Returns:
        The number.

    Raises:
        TypeError: If the value is not a number.
        ValueError: If it is outside the range.
    """
    allowed = f"a number {'between' if open_ends else 'from'} {low:g} {'and' if open_ends else 'to'} {high:g}"
    allowed += ", both excluded" if open_ends else ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be {allowed}, not {value!r}")
    inside = low < value < high if open_ends else low <= value <= high
    if not (math.isfinite(value) and inside):
        raise ValueError(f"{name} must be {allowed}, not {value!r}")
    return float(value)


def choice(name: str, value: Any, options: Sequence[str]) -> str:
    """Check an option.

    Args:
        name: Name of the argument, for the error.
        value: The value.
        options: The options.

    Returns:
        The option.

    Raises:
        ValueError: If the value is none of the options.
    """
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, not {value!r}")
    return value
