"""How steps are counted: people read step 1 to T, Python's indices run from 0 to T - 1."""

from __future__ import annotations

from typing import Any

from diffvis_widget.arguments import MAX_STEPS, count


def step_number(index: Any) -> int:
    """Converts the index of a step to the number that people read, on the page, in charts and in figures.

    Args:
        index: Index of a step, 0 to 99,999; a float, as in ``ConceptScores.emergence``, must be a whole number.

    Returns:
        The number of the step, from 1.

    Raises:
        TypeError: ``index`` is no whole number; NaN, a concept that does not emerge, is none.
        ValueError: ``index`` is out of range.

    Example:
        >>> step_number(0)
        1
    """
    return count("index", _whole(index), 0, MAX_STEPS - 1) + 1


def index_of_step(number: Any) -> int:
    """Converts the number of a step, as people read it, to its index.

    Args:
        number: Number of a step, 1 or more; a float must be a whole number.

    Returns:
        The index of the step, from 0.

    Raises:
        TypeError: ``number`` is no whole number.
        ValueError: ``number`` is less than 1.

    Example:
        >>> index_of_step(30)
        29
    """
    return count("number", _whole(number), 1) - 1


def _whole(value: Any) -> Any:
    """A float without a fraction as an integer, else the value itself."""
    is_whole = getattr(value, "is_integer", None)
    return int(value) if is_whole is not None and is_whole() else value
