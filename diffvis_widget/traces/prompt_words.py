"""Splits a prompt into words as a reader sees them, in every script, without a tokenizer or a language model.

A word is a run of letters and digits with the marks that belong to them ("café", "don't"). In scripts that put no space
between words, such as Chinese, Japanese and Thai, every letter is a word of its own. Any other visible character is one
too, but characters that are drawn together (an emoji with its skin tone, a family joined by zero-width joiners, a flag)
stay together.
"""

from __future__ import annotations

import re
import unicodedata

_JOINER = "\u200d"
_STACKERS = "\u1039\u17d2\u1a60"  # the letter behind them is drawn below the one before: Burmese, Khmer, Tai Tham
_APOSTROPHES = "'’"
_LETTERS_DRAWN_WITH_THE_LAST = "\u0e33\u0eb3\uff9e\uff9f"  # am of Thai and Lao, voicing marks of half-width kana
_WITHOUT_SPACES = (
    (0x0E00, 0x0FFF),  # Thai, Lao, Tibetan
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x1B00, 0x1B7F),  # Balinese
    (0x2E80, 0x312F),  # Chinese radicals, kana, Bopomofo
    (0x31A0, 0x31FF),
    (0x3400, 0x4DBF),  # Chinese characters
    (0x4E00, 0x9FFF),
    (0xA980, 0xA9FF),  # Javanese
    (0xAA60, 0xAADF),  # Burmese, Tai Viet
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9D),  # half-width kana
    (0x16FE0, 0x1B2FF),  # Tangut, old kana, Nushu
    (0x20000, 0x3FFFF),
)


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


def is_written_without_spaces(character: str) -> bool:
    """Whether a character is a letter of a script that puts no space between words.

    Args:
        character: one character.

    Returns:
        True for letters of Chinese, Japanese, Thai, Lao, Khmer, Burmese and the like.
    """
    code = ord(character)
    if code < _WITHOUT_SPACES[0][0] or not character.isalnum() or character.isdigit():
        return False
    return any(first <= code <= last for first, last in _WITHOUT_SPACES)


def occurs(text: str, prompt: str) -> bool:
    """Whether a prompt has a word, or several that follow one another.

    Args:
        text: the word or words.
        prompt: the prompt.

    Returns:
        True where it has them as whole words, in any case.

    Example:
        >>> occurs("Red star", "a red star"), occurs("star", "a starfish")
        (True, False)
    """
    return re.search(rf"(?<!\w){re.escape(text)}(?!\w)", prompt, re.IGNORECASE) is not None


def fold_word(text: str) -> str:
    """Folds differences that do not count when a word is typed: case, composed letters, widths, apostrophes.

    Args:
        text: a word.

    Returns:
        The folded word.

    Example:
        >>> fold_word("CAFE\u0301") == fold_word("caf\u00e9")
        True
    """
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return folded.replace("’", "'")


def _kind(text: str, index: int) -> str:
    character = text[index]
    if is_written_without_spaces(character):
        return "letter without spaces"
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
    if attaches or character in _LETTERS_DRAWN_WITH_THE_LAST or text[index - 1] in (_JOINER, *_STACKERS):
        return True
    if kind == "flag":  # two regional letters make one flag
        return previous == "flag" and length == 1
    return kind == previous == "letter"
