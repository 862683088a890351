"""Argument checks that all packages share: each error names the argument, the value and what would work."""

from __future__ import annotations

import difflib
import math
import numbers
import operator
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsIndex, TypeVar, cast

_Type = TypeVar("_Type")
MAX_SEED = 2**64 - 1
MAX_STEPS = 100_000
MAX_BATCH = 65_536


def shorten(value: object) -> str:
    """Format a value for an error message.

    Args:
        value: Any value.

    Returns:
        Its repr, truncated to 80 characters, followed by its type unless that is obvious.
    """
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - a broken __repr__ must not hide the message
        text = f"<{type(error).__name__} in repr>"
    text = " ".join(text.split())
    text = text if len(text) <= 80 else text[:77] + "..."
    return text if value is None or isinstance(value, str | int | float | list) else f"{text} ({type(value).__name__})"


def did_you_mean(name: object, names: Iterable[str]) -> str:
    """Suggest the nearest of several names.

    Args:
        name: What was written.
        names: The names that exist.

    Returns:
        "; did you mean 'x'?", or an empty string where no name is near.
    """
    by_lower_case = {candidate.lower(): candidate for candidate in names}
    near = difflib.get_close_matches(str(name).lower(), by_lower_case, n=1, cutoff=0.7)
    return f"; did you mean {by_lower_case[near[0]]!r}?" if near else ""


def check_names(owner: str, written: Iterable[str], names: Collection[str]) -> None:
    """Check the names of keyword arguments.

    Args:
        owner: What takes the arguments, for the error.
        written: Names that were written.
        names: Names that it takes.

    Raises:
        TypeError: If it does not take one; the message suggests the nearest name, or lists all.
    """
    for name in written:
        if name not in names:
            hint = did_you_mean(name, names) or f"; it takes {', '.join(names) or 'none'}"
            raise TypeError(f"{owner} takes no argument {name!r}{hint}")


def whole_number(value: object) -> int | None:
    """Read an integer of any type, such as numpy's; a bool is none.

    Args:
        value: The value.

    Returns:
        The integer; None for any other value.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        return None
    try:
        return operator.index(cast(SupportsIndex, value))
    except TypeError:  # arrays and tensors have the method, and only some have an integer
        return None


def count(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """Check an integer.

    Args:
        name: Name of the argument, for the error.
        value: The value.
        least: Smallest value allowed.
        most: Largest value allowed; None for any.

    Returns:
        The integer.

    Raises:
        TypeError: If the value is not an integer.
        ValueError: If it is out of range.
    """
    allowed = f"an integer of {least} or more" if most is None else f"an integer from {least} to {most}"
    number = whole_number(value)
    if number is None:
        raise TypeError(f"{name} must be {allowed}, not {shorten(value)}")
    if number < least or (most is not None and number > most):
        raise ValueError(f"{name} must be {allowed}, not {shorten(number)}")
    return number


def optional_batch(value: Any) -> int | None:
    """Check a number of items to compute at once.

    Args:
        value: The argument ``batch``.

    Returns:
        The number; None where it is to be chosen.

    Raises:
        TypeError: If the value is neither an integer nor None.
        ValueError: If it is out of range.
    """
    return None if value is None else count("batch", value, 1, MAX_BATCH)


def step_index(value: Any, steps: int, name: str = "step") -> int:
    """Check the index of a step.

    Args:
        value: The index; negative ones count from the end.
        steps: Number of finished steps.
        name: Name of the argument, for the error.

    Returns:
        The index, from 0.

    Raises:
        TypeError: If it is not an integer.
        IndexError: If there is no such step.
    """
    index = whole_number(value)
    if index is None:
        raise TypeError(f"{name} must be an integer, the index of a step, not {shorten(value)}")
    if not -steps <= index < steps:
        valid = (
            f"the indices of this trace's steps are 0 to {steps - 1}"
            if steps
            else "no step of this trace is finished yet"
        )
        raise IndexError(f"{name} {shorten(index)} is out of range: {valid}")
    return index % steps


def row_index(name: str, value: Any, rows: int) -> int:
    """Check an index into something that is no step.

    Args:
        name: Name of the argument, for the error.
        value: The index, 0 or more.
        rows: Number of rows.

    Returns:
        The index.

    Raises:
        TypeError: If it is not an integer.
        IndexError: If there is no such row.
    """
    index = whole_number(value)
    if index is None:
        raise TypeError(f"{name} must be an integer from 0 to {rows - 1}, not {shorten(value)}")
    if not 0 <= index < rows:
        raise IndexError(f"{name} {shorten(index)} is out of range: there are {name}s 0 to {rows - 1}")
    return index


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
        ValueError: If it is outside the range, or not finite.
    """
    allowed = f"a number {'between' if open_ends else 'from'} {low:g} {'and' if open_ends else 'to'} {high:g}"
    allowed += ", both excluded" if open_ends else ""
    if math.isinf(high):
        allowed = "a finite number" if math.isinf(low) else f"a finite number of {low:g} or more"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be {allowed}, not {shorten(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    inside = low < number < high if open_ends else low <= number <= high
    if not (math.isfinite(number) and inside):
        raise ValueError(f"{name} must be {allowed}, not {shorten(value)}")
    return number


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
    if not isinstance(value, str) or value not in options:
        hint = did_you_mean(value, options) if isinstance(value, str) else ""
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, not {shorten(value)}{hint}")
    return value


def flag(name: str, value: Any) -> bool:
    """Check a truth value.

    Args:
        name: Name of the argument, for the error.
        value: True or False, of Python or numpy.

    Returns:
        The truth value.

    Raises:
        TypeError: If it is something else: any object would count as true or false.
    """
    if not isinstance(value, bool) and type(value).__name__ not in ("bool_", "bool"):
        raise TypeError(f"{name} must be True or False, not {shorten(value)}")
    return bool(value)


def text(name: str, value: Any) -> str:
    """Check a text.

    Args:
        name: Name of the argument, for the error.
        value: The value.

    Returns:
        The text.

    Raises:
        TypeError: If it is no text.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a text, not {shorten(value)}")
    return value


def instance(name: str, value: Any, kind: type[_Type] | tuple[type, ...], expected: str) -> _Type:
    """Check that a value is of a class.

    Args:
        name: Name of the argument, for the error.
        value: The value.
        kind: The class, or several.
        expected: What the value must be, with its article.

    Returns:
        The value.

    Raises:
        TypeError: If it is something else.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {expected}, not {shorten(value)}")
    return value


def items(name: str, value: Any, expected: str) -> list[Any]:
    """Check a list: any iterable that is finite and no text or mapping.

    Args:
        name: Name of the argument, for the error.
        value: The value.
        expected: What it must be, such as 'a list of words, such as ["circle", "red"]'.

    Returns:
        The items.

    Raises:
        TypeError: If it is no list.
    """
    if isinstance(value, str | bytes | Mapping) or not hasattr(value, "__len__") or not hasattr(value, "__iter__"):
        raise TypeError(f"{name} must be {expected}, not {shorten(value)}")
    try:
        return list(value)
    except TypeError:  # an array without axes has these methods and no items
        raise TypeError(f"{name} must be {expected}, not {shorten(value)}") from None


def function(name: str, value: Any, expected: str) -> Callable[..., Any]:
    """Check a function.

    Args:
        name: Name of the argument, for the error.
        value: The value.
        expected: What it must be, such as "a function of a Step".

    Returns:
        The function.

    Raises:
        TypeError: If it cannot be called.
    """
    if not callable(value):
        raise TypeError(f"{name} must be {expected}, not {shorten(value)}")
    return value


def file_path(name: str, value: Any, *suffixes: str) -> Path:
    """Check the path of a file.

    Args:
        name: Name of the argument, for the error.
        value: A text or a path.
        *suffixes: Allowed suffixes, such as ".png"; none allows any. A path without a suffix is always allowed.

    Returns:
        The path.

    Raises:
        TypeError: If it is no path.
        ValueError: If it is empty, contains a null character, or has another suffix.
    """
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be the path of a file, a text or a pathlib.Path, not {shorten(value)}")
    path = os.fspath(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if not isinstance(path, str):
        raise TypeError(f"{name} must be the path of a file as text, not {shorten(path)}")
    if not path.strip() or "\0" in path:
        raise ValueError(f"{name} must be the path of a file, not {shorten(path)}")
    suffix = Path(path).suffix
    if suffixes and suffix and suffix.lower() not in suffixes:
        raise ValueError(f"{name} must end in {' or '.join(suffixes)}, the format that is written, not {shorten(path)}")
    return Path(path)
