"""The tokens of tokenizers that report no offsets, such as the one of Kolors: located piece by piece.

The pieces that a tokenizer cuts a text into are its characters in their order, with "▁" for a space and "<0xE7>" for a
byte of a character that is not in the vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from diffvis_widget.traces.prompt_words import fold_word

from .words import Token

Span = tuple[int, int]
"""Start and end of a run of characters."""

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def read_slow_tokens(tokenizer: Any, text: str, ids: Sequence[int], attended: Sequence[int]) -> list[Token] | None:
    """Read the tokens of one text.

    Args:
        tokenizer: A tokenizer of transformers that is written in Python.
        text: The text.
        ids: The ids of its tokens, special ones and padding included.
        attended: The attention mask.

    Returns:
        The tokens in order; None where the pieces are not the characters of the text.
    """
    pieces = tokenizer.tokenize(text)
    spans = locate_pieces(text, pieces)
    if spans is None:
        return None
    first, count = _place(ids, attended, tokenizer.convert_tokens_to_ids(pieces))
    names = tokenizer.convert_ids_to_tokens(list(ids))
    tokens: list[Token] = []
    for position, (name, mask) in enumerate(zip(names, attended, strict=True)):
        inside = first <= position < first + count
        start, end = spans[position - first] if inside else (0, 0)
        tokens.append(Token(name, start, end, special=not inside, attended=bool(mask)))
    return tokens


def locate_pieces(text: str, pieces: Sequence[str]) -> list[Span] | None:
    """Locate the pieces that a tokenizer cut a text into.

    Args:
        text: The text.
        pieces: Its pieces in order, of all of the text.

    Returns:
        Start and end in the text of each; both are the same for a piece that the tokenizer put in. None where the
        pieces are not the characters of the text.
    """
    characters = [(part, index) for index, character in enumerate(text) for part in fold_word(character)]
    spans: list[Span] = []
    place, pending = 0, bytearray()
    for piece in pieces:
        byte = _BYTE.fullmatch(piece)
        if byte is not None:
            pending.append(int(byte[1], 16))
            written = _decoded(pending)
        else:
            written = None if pending else piece.replace("▁", " ")
        if written is None and byte is None:
            return None  # a character that is not complete
        begin = place
        for part in fold_word(written or ""):
            following = place
            while following < len(characters) and characters[following][0].isspace() and not part.isspace():
                following += 1
            if following < len(characters) and _same(characters[following][0], part):
                place = following + 1
            elif not part.isspace():
                return None
        if byte is None:
            spans.append(_span(characters, begin, place, len(text)))
            continue
        spans.append((-1, -1))
        if written is not None:  # all bytes of a character cover it
            spans[-len(pending) :] = [_span(characters, begin, place, len(text))] * len(pending)
            pending.clear()
    return None if pending or any(not part.isspace() for part, _ in characters[place:]) else spans


def _decoded(pending: bytearray) -> str | None:
    try:
        return pending.decode()
    except UnicodeDecodeError:
        return None


def _same(first: str, second: str) -> bool:
    return first == second or (first.isspace() and second.isspace())


def _span(characters: Sequence[tuple[str, int]], begin: int, end: int, length: int) -> Span:
    """Where characters stand in the text; those of one character count once."""
    if begin == end:
        start = characters[begin][1] if begin < len(characters) else length
        return start, start
    return characters[begin][1], characters[end - 1][1] + 1


def _place(ids: Sequence[int], attended: Sequence[int], pieces: Sequence[int]) -> tuple[int, int]:
    """Where the pieces stand among the ids, and how many of them: a long text is cut."""
    best = (0, 0)
    for first in range(len(ids)):
        if not attended[first]:
            continue
        count = 0
        while count < len(pieces) and first + count < len(ids) and ids[first + count] == pieces[count]:
            count += 1
        best = max(best, (first, count), key=lambda place: place[1])
    return best
