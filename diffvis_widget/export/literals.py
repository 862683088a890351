"""Writes values as Python literals.

All text and numbers in generated Python come from here. So a value of a trace file can end neither the literal nor the
line that it stands in.
"""

from __future__ import annotations

import math
from typing import Any, cast

MAX_INTEGER = 2**64  # Python refuses to write integers of thousands of digits, and no setting needs them
MAX_COMMENT = 80  # characters of a value in a comment


def literal(name: str, value: object) -> str:
    r"""Write a value as a Python literal.

    Args:
        name: What the value is, for the error.
        value: None, a bool, an integer, a finite float, a text, or a list or tuple of these.

    Returns:
        Python source on one line: printable characters only, and `ast.literal_eval` gives the value back.

    Raises:
        ValueError: The value has another type, or is a number that has no literal.

    Example:
        >>> print(literal("prompt", "a cat\nimport os"))
        'a cat\nimport os'
        >>> literal("size", [1, 2.5, None])
        '[1, 2.5, None]'
    """
    # The methods of the built-in types: a subclass may have another repr.
    if value is None or isinstance(value, bool):
        return repr(value)
    if isinstance(value, str):
        return str.__repr__(value)
    if isinstance(value, int) and abs(value) <= MAX_INTEGER:
        return int.__repr__(value)
    if isinstance(value, float) and math.isfinite(value):
        return float.__repr__(value)
    if isinstance(value, list):
        return f"[{', '.join(literal(name, item) for item in cast('list[Any]', value))}]"
    if isinstance(value, tuple):
        items = [literal(name, item) for item in cast("tuple[Any, ...]", value)]
        return f"({', '.join(items)}{',' if len(items) == 1 else ''})"
    raise ValueError(f"{name} is {_shorten(value)}, which cannot be written as Python: give file=, where it is saved")


def call(function: str, *arguments: object, **named: object) -> str:
    """Write the call of a function with literals.

    Args:
        function: Name of the function, as the code refers to it.
        *arguments: Positional arguments.
        **named: Keyword arguments.

    Returns:
        Python source.

    Raises:
        ValueError: An argument has no literal.

    Example:
        >>> call("dv.intervene.drop", "red", steps=(0, 3))
        "dv.intervene.drop('red', steps=(0, 3))"
    """
    positional = [literal(f"an argument of {function}", value) for value in arguments]
    return (
        f"{function}({', '.join([*positional, *(f'{name}={literal(name, value)}' for name, value in named.items())])})"
    )


def comment(value: object) -> str:
    """Write a value for a comment in Python.

    Args:
        value: Any value of a file's metadata.

    Returns:
        Its text as a literal of at most 80 characters.

    Example:
        >>> comment("StableDiffusionPipeline")
        "'StableDiffusionPipeline'"
    """
    text = value if isinstance(value, str) else _shorten(value)
    return literal("a comment", text[:MAX_COMMENT])


def _shorten(value: object) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits
        text = f"a {type(value).__name__}"
    return text if len(text) <= MAX_COMMENT else text[: MAX_COMMENT - 3] + "..."
