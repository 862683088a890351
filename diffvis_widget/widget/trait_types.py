"""The widget's trait types: each says in plain words what it was given and what would work."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import traitlets as t

MAX_TEXT = 10_000
MAX_SEED = 2**53 - 1  # the largest whole number that a page keeps exactly
MAX_CONCEPTS = 256
MAX_CONCEPT = 80
MAX_WEIGHT = 100


def _refuse(trait: t.TraitType[Any, Any], value: object, works: str) -> t.TraitError:
    return t.TraitError(f"{trait.name} must be {works}; got {shorten(value)}")


def shorten(value: object) -> str:
    """``value`` as it goes into a message: its repr, cut where it gets long, and its type unless that is plain."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - a broken __repr__ must not hide the message
        text = f"<{type(error).__name__} in repr>"
    text = text if len(text) <= 80 else text[:77] + "..."
    return text if isinstance(value, str | int | float | list) else f"{text} ({type(value).__name__})"


class Text(t.TraitType[str, Any]):
    """A text of at most MAX_TEXT characters."""

    default_value = ""

    def validate(self, obj: Any, value: Any) -> str:
        if not isinstance(value, str):
            raise _refuse(self, value, "a text (str)")
        if len(value) > MAX_TEXT:
            raise t.TraitError(f"{self.name} must be at most {MAX_TEXT} characters; got {len(value)}")
        # Lone surrogates (half an emoji cut by a caller) cannot be sent to a page or to a tokenizer.
        return value.encode("utf-8", "replace").decode("utf-8")


class Whole(t.TraitType[int, Any]):
    """A whole number from ``low`` to ``high``; numpy integers are welcome, booleans and 3.0 are not."""

    def __init__(self, default: int, low: int, high: int, example: str) -> None:
        super().__init__(default)
        self.low, self.high = low, high
        self.works = f"a whole number from {low} to {high}, such as {example}"

    def validate(self, obj: Any, value: Any) -> int:
        try:
            number = operator.index(value)
        except TypeError:
            raise _refuse(self, value, self.works) from None
        if type(value).__name__ in ("bool", "bool_") or not self.low <= number <= self.high:
            raise _refuse(self, value, self.works)
        return number


class Real(t.TraitType[float, Any]):
    """A finite number from ``low`` to ``high``."""

    def __init__(self, default: float, low: float, high: float, example: str) -> None:
        super().__init__(default)
        self.low, self.high = low, high
        self.works = f"a number from {low:g} to {high:g}, such as {example}"

    def validate(self, obj: Any, value: Any) -> float:
        try:
            number = math.nan if isinstance(value, bool | str | bytes) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not self.low <= number <= self.high:
            raise _refuse(self, value, self.works)
        return number


class Choice(t.TraitType[str, Any]):
    """One of a few names: fixed ones, or those that a function lists whenever the trait is set."""

    def __init__(self, names: Sequence[str] | Callable[[], Sequence[str]]) -> None:
        self.names: Callable[[], Sequence[str]] = names if callable(names) else lambda: names
        super().__init__(self.names()[0])

    def validate(self, obj: Any, value: Any) -> str:
        names = self.names()
        if not isinstance(value, str) or value not in names:
            raise _refuse(self, value, " or ".join(f'"{name}"' for name in names))
        return value


class Concepts(t.TraitType[list[str], Any]):
    """A list of different texts, blanks trimmed; a repeated one is kept once."""

    def make_dynamic_default(self) -> list[str]:
        return []

    def validate(self, obj: Any, value: Any) -> list[str]:
        if isinstance(value, str | bytes) or not isinstance(value, Iterable):
            raise _refuse(self, value, 'a list of texts, such as ["circle", "red"]')
        found: dict[str, None] = {}
        for concept in cast(Iterable[object], value):
            if not isinstance(concept, str) or not concept.strip() or len(concept) > MAX_CONCEPT:
                works = f"a list of texts of 1 to {MAX_CONCEPT} characters"
                raise t.TraitError(f"{self.name} must be {works}; one is {shorten(concept)}")
            found[" ".join(concept.encode("utf-8", "replace").decode("utf-8").split())] = None
        if len(found) > MAX_CONCEPTS:
            raise t.TraitError(f"{self.name} must be at most {MAX_CONCEPTS} texts; got {len(found)}")
        return list(found)


class Weights(t.TraitType[dict[str, float | None], Any]):
    """Factors of words by their text, kept in lower case; None leaves a word out."""

    def make_dynamic_default(self) -> dict[str, float | None]:
        return {}

    def validate(self, obj: Any, value: Any) -> dict[str, float | None]:
        works = f'a dict of words and factors from -{MAX_WEIGHT} to {MAX_WEIGHT}, such as {{"red": 1.5, "blue": None}}'
        if not isinstance(value, Mapping):
            raise _refuse(self, value, works)
        found: dict[str, float | None] = {}
        for word, factor in cast(Mapping[object, Any], value).items():
            if not isinstance(word, str) or not word.strip() or len(word) > MAX_CONCEPT:
                raise _refuse(self, value, works)
            try:
                number = math.nan if isinstance(factor, bool | str | bytes) else float(0 if factor is None else factor)
            except (TypeError, ValueError, OverflowError):
                number = math.nan
            if not abs(number) <= MAX_WEIGHT:
                raise _refuse(self, value, works)
            found[" ".join(word.lower().split())] = None if factor is None else number
        return found


class Indices(t.TraitType[list[int], Any]):
    """A list of different whole numbers from 0."""

    def make_dynamic_default(self) -> list[int]:
        return []

    def validate(self, obj: Any, value: Any) -> list[int]:
        works = "a list of indices into trace.words, such as [2, 5]"
        if isinstance(value, str | bytes) or not isinstance(value, Iterable):
            raise _refuse(self, value, works)
        found: dict[int, None] = {}
        for index in cast(Iterable[Any], value):
            try:
                number = operator.index(index)
            except TypeError:
                raise _refuse(self, value, works) from None
            if isinstance(index, bool) or not 0 <= number < 100_000:
                raise _refuse(self, value, works)
            found[number] = None
        return list(found)
