"""Bounds on what one message of the page may carry, so that it costs the kernel little time and memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

MAX_VALUES = 20_000  # texts, numbers, lists and mappings in a message
MAX_CHARACTERS = 1_000_000  # of all texts together: a run's notes, and much more than any other message
MAX_DEPTH = 12  # lists and mappings inside each other
MAX_DIGITS = 64  # bits of an integer


def check_message(content: object, buffers: object = ()) -> None:
    """Check that a message of the page is of a sensible size, in time bounded by the limits.

    Args:
        content: the message, or a part of it: JSON data.
        buffers: its binary buffers; no message of the page has any.

    Raises:
        ValueError: it has too many values, too much text, too many levels, a longer integer, or buffers.
    """
    if isinstance(buffers, list | tuple) and buffers:
        raise ValueError("a message of the page has no binary buffers")
    values, characters = 0, 0
    level: list[object] = [content]
    for _ in range(MAX_DEPTH):
        below: list[object] = []
        for value in level:
            parts: Iterable[Any] = ()
            if isinstance(value, str):
                characters += len(value)
            elif isinstance(value, int) and value.bit_length() > MAX_DIGITS:
                raise ValueError(f"a message of the page has integers of at most {MAX_DIGITS} bits")
            elif isinstance(value, Mapping):
                mapping = cast("Mapping[Any, Any]", value)
                values += 2 * len(mapping)
                parts = (part for item in mapping.items() for part in item) if values <= MAX_VALUES else ()
            elif isinstance(value, list | tuple):
                sequence = cast("list[Any]", value)
                values += len(sequence)
                parts = sequence if values <= MAX_VALUES else ()
            if values > MAX_VALUES or characters > MAX_CHARACTERS:
                raise ValueError(
                    f"a message of the page has at most {MAX_VALUES} values and {MAX_CHARACTERS} characters"
                )
            below.extend(parts)
        if not below:
            return
        level = below
    raise ValueError(f"a message of the page has at most {MAX_DEPTH} levels of lists and mappings")
