"""The trait types of the widget. Each error message says what was given and what would work."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

import traitlets as t

from diffvis_widget.arguments import shorten

Number = TypeVar("Number", int, float)

MAX_TEXT = 10_000
MAX_SEED = 2**53 - 1  # the largest integer that a page represents exactly
MAX_CONCEPTS = 256
MAX_CONCEPT = 80
MAX_WEIGHT = 100


def _refuse(trait: t.TraitType[Any, Any], value: object, expected: str) -> t.TraitError:
    return t.TraitError(f"{trait.name} must be {expected}; got {shorten(value)}")


class Text(t.TraitType[str, Any]):
    """A string of at most MAX_TEXT characters.

    Attributes:
        default_value: The empty string.
    """

    default_value = ""

    def validate(self, obj: Any, value: Any) -> str:
        """Validate a value.

        Args:
            obj: The widget.
            value: The value.

        Returns:
            The string, with lone surrogates replaced.

        Raises:
            TraitError: It is not a string, or too long.
        """
        if not isinstance(value, str):
            raise _refuse(self, value, "a text (str)")
        if len(value) > MAX_TEXT:
            raise t.TraitError(f"{self.name} must be at most {MAX_TEXT} characters; got {len(value)}")
        # Lone surrogates (half an emoji) cannot be sent to a page or to a tokenizer.
        return value.encode("utf-8", "replace").decode("utf-8")


class Whole(t.TraitType[int, Any]):
    """An integer in a range. numpy integers are accepted, booleans and 3.0 are not.

    Args:
        default: The default value.
        low: The lowest value.
        high: The highest value.
        example: An example for the error message.
    """

    def __init__(self, default: int, low: int, high: int, example: str) -> None:
        super().__init__(default)
        self.low, self.high = low, high
        self.expected = f"a whole number from {low} to {high}, such as {example}"

    def validate(self, obj: Any, value: Any) -> int:
        """Validate a value.

        Args:
            obj: The widget.
            value: The value.

        Returns:
            The integer.

        Raises:
            TraitError: It is not an integer, or out of range.
        """
        try:
            number = operator.index(value)
        except TypeError:
            raise _refuse(self, value, self.expected) from None
        if type(value).__name__ in ("bool", "bool_") or not self.low <= number <= self.high:
            raise _refuse(self, value, self.expected)
        return number


class Real(t.TraitType[float, Any]):
    """A finite number in a range.

    Args:
        default: The default value.
        low: The lowest value.
        high: The highest value.
        example: An example for the error message.
    """

    def __init__(self, default: float, low: float, high: float, example: str) -> None:
        super().__init__(default)
        self.low, self.high = low, high
        self.expected = f"a number from {low:g} to {high:g}, such as {example}"

    def validate(self, obj: Any, value: Any) -> float:
        """Validate a value.

        Args:
            obj: The widget.
            value: The value.

        Returns:
            The number.

        Raises:
            TraitError: It is not a number, or out of range.
        """
        try:
            number = math.nan if isinstance(value, bool | str | bytes) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not self.low <= number <= self.high:
            raise _refuse(self, value, self.expected)
        return number


class OrDefault(t.TraitType[Number | None, Any]):
    """A number, or None for the pipeline's own default, which is the default value.

    Args:
        number: The trait of the number.
    """

    def __init__(self, number: Whole | Real) -> None:
        super().__init__(None)
        self._number = number
        number.expected += ", or None for the pipeline's own"

    def validate(self, obj: Any, value: Any) -> Any:
        """Validate a value.

        Args:
            obj: The widget.
            value: The value.

        Returns:
            The number, or None.

        Raises:
            TraitError: It is not a number of that kind, or out of range.
        """
        self._number.name = self.name
        return None if value is None else self._number.validate(obj, value)


class Choice(t.TraitType[str, Any]):
    """A string out of a few.

    Args:
        names: The strings, the first of which is the default; or a function that returns them whenever the trait is
            set. It takes the widget, or None for the default.
    """

    def __init__(self, names: Sequence[str] | Callable[[Any], Sequence[str]]) -> None:
        self.names: Callable[[Any], Sequence[str]] = names if callable(names) else lambda _: names
        super().__init__(self.names(None)[0])

    def validate(self, obj: Any, value: Any) -> str:
        """Validate a value.

        Args:
            obj: The widget.
            value: The value.

        Returns:
            The string.

        Raises:
            TraitError: It is none of the names.
        """
        names = self.names(obj)
        if not isinstance(value, str) or value not in names:
            raise _refuse(self, value, " or ".join(f'"{name}"' for name in names))
        return value


class Concepts(t.TraitType[list[str], Any]):
    """A list of different strings, with surrounding whitespace removed; duplicates are dropped."""

    def make_dynamic_default(self) -> list[str]:
        """The default value.

        Returns:
            An empty list.
        """
        return []

    def validate(self, obj: Any, value: Any) -> list[str]:
        """Validate a value.

        Args:
            obj: The widget.
            value: The value.

        Returns:
            The list.

        Raises:
            TraitError: It is not a list of strings, or one is too long, or there are too many.
        """
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
            raise _refuse(self, value, 'a list of texts, such as ["circle", "red"]')
        concepts: dict[str, None] = {}
        for concept in cast(Iterable[object], value):
            if not isinstance(concept, str) or not concept.strip() or len(concept) > MAX_CONCEPT:
                expected = f"a list of texts of 1 to {MAX_CONCEPT} characters"
                raise t.TraitError(f"{self.name} must be {expected}; one is {shorten(concept)}")
            concepts[" ".join(concept.encode("utf-8", "replace").decode("utf-8").split())] = None
        if len(concepts) > MAX_CONCEPTS:
            raise t.TraitError(f"{self.name} must be at most {MAX_CONCEPTS} texts; got {len(concepts)}")
        return list(concepts)


class Weights(t.TraitType[dict[str, float | None], Any]):
    """Factors by word, in lower case; None drops a word."""

    def make_dynamic_default(self) -> dict[str, float | None]:
        """The default value.

        Returns:
            An empty dict.
        """
        return {}

    def validate(self, obj: Any, value: Any) -> dict[str, float | None]:
        """Validate a value.

        Args:
            obj: The widget.
            value: The value.

        Returns:
            The dict.

        Raises:
            TraitError: It is not a dict of strings and numbers, or a factor is out of range.
        """
        expected = (
            f'a dict of words and factors from -{MAX_WEIGHT} to {MAX_WEIGHT}, such as {{"red": 1.5, "blue": None}}'
        )
        if not isinstance(value, Mapping):
            raise _refuse(self, value, expected)
        weights: dict[str, float | None] = {}
        for word, factor in cast(Mapping[object, Any], value).items():
            if not isinstance(word, str) or not word.strip() or len(word) > MAX_CONCEPT:
                raise _refuse(self, value, expected)
            try:
                number = math.nan if isinstance(factor, bool | str | bytes) else float(0 if factor is None else factor)
            except (TypeError, ValueError, OverflowError):
                number = math.nan
            if not abs(number) <= MAX_WEIGHT:
                raise _refuse(self, value, expected)
            weights[" ".join(word.lower().split())] = None if factor is None else number
        return weights


class Indices(t.TraitType[list[int], Any]):
    """A list of different integers from 0."""

    def make_dynamic_default(self) -> list[int]:
        """The default value.

        Returns:
            An empty list.
        """
        return []

    def validate(self, obj: Any, value: Any) -> list[int]:
        """Validate a value.

        Args:
            obj: The widget.
            value: The value.

        Returns:
            The list.

        Raises:
            TraitError: It is not a list of integers, or one is out of range.
        """
        expected = "a list of indices into trace.words, such as [2, 5]"
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
            raise _refuse(self, value, expected)
        indices: dict[int, None] = {}
        for index in cast(Iterable[Any], value):
            try:
                number = operator.index(index)
            except TypeError:
                raise _refuse(self, value, expected) from None
            if isinstance(index, bool) or not 0 <= number < 100_000:
                raise _refuse(self, value, expected)
            indices[number] = None
        return list(indices)
