"""Text of a file for terminals: error messages, warnings and plain representations."""

from __future__ import annotations

_JOINERS = "\u200c\u200d"


def printable(text: str) -> str:
    r"""Escapes the characters of a text that a terminal acts on: those move the cursor or turn the reading order.

    Args:
        text: the text.

    Returns:
        The text with escapes. The joiners of emoji and of Arabic letters stay.

    Example:
        >>> print(printable("a cat\x1b[2J"))
        a cat\x1b[2J
    """
    return "".join(
        character
        if character.isprintable() or character in _JOINERS
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )
