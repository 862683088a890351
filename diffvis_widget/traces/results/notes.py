"""Notes that a teacher pins to a run: a text, and what it is about."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

MAX_TEXT = 4000
Region = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Note:
    """A text about a place in a run.

    text: what to look at, at most 4000 characters. step: the step it is about, or None for the whole run. words: words
    of the prompt as `Trace.heat_map` takes them, texts or indices. region: (left, top, right, bottom) of a part of the
    picture, 0..1 from its left and its top.

    Raises TypeError or ValueError, naming the field, for anything else.
    """

    text: str
    step: int | None = None
    words: tuple[str | int, ...] = ()
    region: Region | None = None

    def __post_init__(self) -> None:
        text = cast(Any, self.text)
        if not isinstance(text, str) or not text.strip() or len(text) > MAX_TEXT:
            raise ValueError(f"text must be a text of 1 to {MAX_TEXT} characters, not {_short(text)}")
        if self.step is not None:
            object.__setattr__(self, "step", _whole("step", self.step))
        object.__setattr__(self, "words", _words(self.words))
        if self.region is not None:
            object.__setattr__(self, "region", _region(self.region))


def _whole(name: str, value: Any) -> int:
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = -1
    if number < 0:
        raise ValueError(f"{name} must be a whole number from 0, not {_short(value)}")
    return number


def _words(value: Any) -> tuple[str | int, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f'words must be a list of words, such as ["circle"], not {_short(value)}')
    return tuple(word if isinstance(word, str) else _whole("words", word) for word in cast("Iterable[Any]", value))


def _region(value: Any) -> Region:
    try:
        left, top, right, bottom = (float(edge) for edge in value)
    except (TypeError, ValueError, OverflowError):
        left = top = right = bottom = math.nan
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise ValueError(
            f"region must be (left, top, right, bottom) with 0 <= left < right <= 1 and 0 <= top < bottom <= 1, "
            f"not {_short(value)}"
        )
    return left, top, right, bottom


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
