"""Notes that a teacher pins to a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, cast

from numpy.typing import NDArray

from diffvis_widget.arguments import items, shorten, whole_number
from diffvis_widget.traces.errors import TraceFileError
from diffvis_widget.traces.expectations import (
    Expectation,
    Outcome,
    TracedRun,
    TraceFacts,
    evaluate,
    parse_expectation,
)
from diffvis_widget.traces.json_fields import read_items, read_text
from diffvis_widget.traces.selectors import pick_words

from .stored_result import DescribedRun, StoredResult, StoredTensors, register_result

MAX_TEXT = 4000
MAX_WORDS = 256
Region = tuple[float, float, float, float]
"""(left, top, right, bottom) as shares of width and height, 0..1."""


@register_result
@dataclass(frozen=True)
class Note(StoredResult):
    """A text about a run, a step, words or a region of the image.

    Attributes:
        kind: name of the kind in a trace file.
        text: what to look at, 1 to 4000 characters.
        step: index of the step, or None for the whole run.
        words: words of the prompt as `Trace.heat_map` takes them: texts or indices.
        region: (left, top, right, bottom) as shares of the image, 0..1, from its left and its top.
        expects: what a finished run must show, or None: conditions joined by "and", which `parse_expectation`
            describes. The page and the widget then show whether the run at hand meets them.

    Raises:
        TypeError: ``words`` is no sequence of words.
        ValueError: another field has a wrong type or range, or ``expects`` cannot be read.

    Example:
        >>> Note("The circle appears first", step=3, words=["circle"]).words
        ('circle',)
        >>> Note("Paint the moon", expects='prompt has "moon" and steps >= 10').expects
        'prompt has "moon" and steps >= 10'
    """

    kind: ClassVar[str] = "notes"

    text: str
    step: int | None = None
    words: tuple[str | int, ...] = ()
    region: Region | None = None
    expects: str | None = None

    def __post_init__(self) -> None:
        text = cast(Any, self.text)
        if not isinstance(text, str) or not text.strip() or len(text) > MAX_TEXT:
            raise ValueError(f"text must be a text of 1 to {MAX_TEXT} characters, not {shorten(text)}")
        if self.step is not None:
            object.__setattr__(self, "step", _whole("step", self.step))
        object.__setattr__(self, "words", _words(self.words))
        if len(self.words) > MAX_WORDS:
            raise ValueError(f"words must be at most {MAX_WORDS} words, not {len(self.words)}")
        if self.region is not None:
            object.__setattr__(self, "region", _region(self.region))
        if self.expects is not None:
            parse_expectation(self.expects)

    @property
    def expectation(self) -> Expectation | None:
        """What the note expects of a run, None where it expects nothing."""
        return None if self.expects is None else parse_expectation(self.expects)

    def outcome(self, trace: TracedRun, others: Sequence[TracedRun] = ()) -> Outcome:
        """Checks a run as the page does.

        Args:
            trace: the run. What the note says about concepts needs its scores: `diffvis_widget.concept_scores`.
            others: other finished runs, for ``runs`` and ``seeds``.

        Returns:
            Whether the run is what the note expects, and why.

        Raises:
            TypeError: ``trace`` or one of ``others`` is no trace.
            ValueError: the note expects nothing.

        Example:
            >>> import diffvis_widget as dv
            >>> trace = dv.trace(dv.load(), "a red circle", num_inference_steps=2)
            >>> Note("Paint a square", expects='prompt has "square"').outcome(trace)
            Outcome(met=False, reason='the prompt has no “square”')
        """
        if self.expects is None:
            raise ValueError(f"this note expects nothing: Note({shorten(self.text)}, expects=...) would")
        runs = [("trace", trace), *(("others", other) for other in items("others", others, "a list of traces"))]
        for name, run in runs:
            if not isinstance(run, TracedRun):
                raise TypeError(f"{name} must be a Trace, not {shorten(cast(object, run))}")
        return evaluate(parse_expectation(self.expects), TraceFacts(trace, others))

    def check(self, run: DescribedRun) -> None:
        """Checks that the step and the words of the note exist; see `StoredResult.check`.

        Args:
            run: the run.

        Raises:
            ValueError: there is no such step.
        """
        steps = len(run.steps)
        if self.step is not None and self.step >= steps:
            raise ValueError(
                f"notes: {self.text[:40]!r} is about the step with index {self.step}, and the indices are 0 "
                f"to {steps - 1}"
            )
        if self.words:
            pick_words(run.words, list(self.words))

    def header(self) -> dict[str, Any]:
        """Describes the note; see `StoredResult.header`.

        Returns:
            Its fields.
        """
        fields = {"text": self.text, "step": self.step, "words": self.words, "region": self.region}
        return fields if self.expects is None else {**fields, "expects": self.expects}

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Names the arrays; see `StoredResult.tensors`.

        Returns:
            Nothing: a note has none.
        """
        return {}

    @classmethod
    def read(cls, header: Mapping[str, Any], tensors: StoredTensors) -> Self:
        """Reads a note; see `StoredResult.read`.

        Args:
            header: its fields.
            tensors: none.

        Returns:
            The note.

        Raises:
            TraceFileError: a field has a wrong type or range.
        """
        words = read_items("words", header.get("words"), lambda word: word, least=0)
        try:
            return cls(
                read_text("text", header.get("text")),
                header.get("step"),
                tuple(words),
                header.get("region"),
                header.get("expects"),
            )
        except (TypeError, ValueError) as error:
            raise TraceFileError(f"one of its notes is invalid: {error}") from None


def _whole(name: str, value: Any) -> int:
    number = whole_number(value)
    if number is None or not 0 <= number <= 100_000:
        raise ValueError(f"{name} must be a whole number from 0 to 100000, not {shorten(value)}")
    return number


def _words(value: Any) -> tuple[str | int, ...]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise TypeError(f'words must be a list of words, such as ["circle"], not {shorten(cast(object, value))}')
    return tuple(word if isinstance(word, str) else _whole("words", word) for word in cast("Iterable[Any]", value))


def _region(value: Any) -> Region:
    try:
        left, top, right, bottom = (float(edge) for edge in value)
    except (TypeError, ValueError, OverflowError):
        left = top = right = bottom = math.nan
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise ValueError(
            f"region must be (left, top, right, bottom) with 0 <= left < right <= 1 and 0 <= top < bottom <= 1, "
            f"not {shorten(value)}"
        )
    return left, top, right, bottom
