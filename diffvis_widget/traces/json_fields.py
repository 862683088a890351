"""Typed access to JSON that came from a file; each function raises a TraceFileError that names the field."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

from .errors import TraceFileError

_Item = TypeVar("_Item")


def read_mapping(name: str, value: Any) -> dict[str, Any]:
    """Reads a JSON object.

    Args:
        name: of the field.
        value: its value.

    Returns:
        The object.

    Raises:
        TraceFileError: it is something else.
    """
    if not isinstance(value, dict):
        raise TraceFileError(f"its field {name!r} is no mapping")
    return cast("dict[str, Any]", value)


def read_items(name: str, value: Any, read: Callable[[Any], _Item], least: int = 1) -> list[_Item]:
    """Reads a JSON array.

    Args:
        name: of the field.
        value: its value.
        read: reads one item.
        least: how many items there must be; the most is 100,000.

    Returns:
        The items.

    Raises:
        TraceFileError: it is something else, too short or too long.
    """
    if not isinstance(value, list) or not least <= len(cast("list[Any]", value)) <= 100_000:
        raise TraceFileError(f"its field {name!r} is no list of a sensible length")
    return [read(item) for item in cast("list[Any]", value)]


def read_text(name: str, value: Any) -> str:
    """Reads a string.

    Args:
        name: of the field.
        value: its value.

    Returns:
        The string.

    Raises:
        TraceFileError: it is something else.
    """
    if not isinstance(value, str):
        raise TraceFileError(f"its field {name!r} is no text")
    return value


def read_texts(name: str, value: Any, least: int = 1) -> list[str]:
    """Reads an array of strings.

    Args:
        name: of the field.
        value: its value.
        least: how many there must be.

    Returns:
        The strings.

    Raises:
        TraceFileError: it is something else, or too short.
    """
    return read_items(name, value, lambda item: read_text(name, item), least)


def read_integer(name: str, value: Any, low: int, high: int) -> int:
    """Reads an integer.

    Args:
        name: of the field.
        value: its value.
        low: the smallest allowed.
        high: the largest allowed.

    Returns:
        The integer.

    Raises:
        TraceFileError: it is something else, or out of range.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise TraceFileError(f"its field {name!r} holds no whole number from {low} to {high}")
    return value


def read_number(name: str, value: Any) -> float:
    """Reads a finite number.

    Args:
        name: of the field.
        value: its value.

    Returns:
        The number.

    Raises:
        TraceFileError: it is something else, or not finite.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # an integer may have thousands of digits
            if math.isfinite(number := float(value)):
                return number
    raise TraceFileError(f"its field {name!r} holds no number of a sensible size")
