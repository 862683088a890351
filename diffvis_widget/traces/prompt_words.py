"""Splits a prompt into words as a reader sees them, in every script, without a tokenizer or a language model.

A word is a run of letters and digits with the marks that belong to them ("café", "don't"). Any other visible character
is a word of its own, but characters that are drawn as one (an emoji with its skin tone, a family joined by zero-width
joiners, a flag) stay together.
"""

from __future__ import annotations

import unicodedata

_JOINER = "\u200d"
_APOSTROPHES = "'’"


def split_words(text: str) -> list[tuple[int, int]]:
    """Finds the words and punctuation marks of a text.

    Args:
        text: the text.

    Returns:
        (start, end) of each, in order; white space belongs to none.
    """
    spans: list[tuple[int, int]] = []
    kinds: list[str] = []
    for index, character in enumerate(text):
        if character.isspace():
            continue
        kind = _kind(text, index)
        touching = bool(spans) and spans[-1][1] == index
        if touching and _continues(text, index, kind, kinds[-1], index - spans[-1][0]):
            spans[-1] = (spans[-1][0], index + 1)
        else:
            spans.append((index, index + 1))
            kinds.append(kind)
    return spans


def _kind(text: str, index: int) -> str:
    character = text[index]
    if character.isalnum() or character == "_":
        return "letter"
    inside = 0 < index < len(text) - 1 and text[index - 1].isalpha() and text[index + 1].isalpha()
    if character in _APOSTROPHES and inside:
        return "letter"
    if "\U0001f1e6" <= character <= "\U0001f1ff":
        return "flag"
    return "mark"


def _continues(text: str, index: int, kind: str, previous: str, length: int) -> bool:
    character = text[index]
    attaches = unicodedata.category(character) in {"Mn", "Mc", "Me", "Cf"} or "\U0001f3fb" <= character <= "\U0001f3ff"
    if attaches or text[index - 1] == _JOINER:
        return True
    if kind == "flag":  # two regional letters make one flag
        return previous == "flag" and length == 1
    return kind == previous == "letter"
