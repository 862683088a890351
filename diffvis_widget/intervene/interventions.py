"""The four interventions, as values: what is wrong in itself is said when they are made, the rest when a run begins."""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, SupportsIndex, cast

from diffvis_widget.traces import Trace

Wanted = str | int | tuple[str | int, ...]
Steps = tuple[int, int | None]
_WHOLE: Steps = (0, None)


class Intervention(ABC):
    """What all of them can do. Steps are indices into `trace.steps`; ranges are half open."""

    def on(self, pipe: Any) -> AbstractContextManager[None]:
        """A block in which calls of this pipeline, made in this thread, are changed; blocks may be nested.

        It holds the denoiser's lock. Raises TypeError and ValueError for a pipeline that cannot be changed so.
        """
        from .engine import on

        return on(pipe, self)

    @property
    @abstractmethod
    def span(self) -> Steps:
        """The steps that were asked for: (first, one after the last or None for the end)."""

    def is_at_work(self, step: int) -> bool:
        """Whether it changes anything at a step."""
        begin, end = self.span
        return begin <= step and (end is None or step < end)

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What it is, as plain JSON values: what `trace.meta["interventions"]` holds."""


@dataclass(frozen=True)
class Weight(Intervention):
    """See `weight`."""

    word: Wanted
    factor: float
    steps: Steps = _WHOLE

    @property
    def span(self) -> Steps:
        return self.steps

    def is_at_work(self, step: int) -> bool:
        return self.factor != 1 and super().is_at_work(step)

    def describe(self) -> dict[str, Any]:
        return {"kind": "weight", "word": _plain(self.word), "factor": self.factor, "steps": list(self.steps)}


@dataclass(frozen=True)
class Drop(Intervention):
    """See `drop`."""

    word: Wanted
    steps: Steps = _WHOLE

    @property
    def span(self) -> Steps:
        return self.steps

    def describe(self) -> dict[str, Any]:
        return {"kind": "drop", "word": _plain(self.word), "steps": list(self.steps)}


@dataclass(frozen=True)
class Switch(Intervention):
    """See `switch`."""

    prompt: str
    step: int

    @property
    def span(self) -> Steps:
        return self.step, None

    def describe(self) -> dict[str, Any]:
        return {"kind": "switch", "prompt": self.prompt, "step": self.step}


@dataclass(frozen=True)
class Freeze(Intervention):
    """See `freeze`."""

    trace: Trace = field(repr=False)
    steps: int

    @property
    def span(self) -> Steps:
        return 0, self.steps

    def describe(self) -> dict[str, Any]:
        seed = self.trace.meta.get("seed")
        return {"kind": "freeze", "prompt": self.trace.prompt, "seed": seed, "steps": [0, self.steps]}


def weight(word: str | int | list[str | int], factor: float, steps: Steps | None = None) -> Weight:
    """Make a word count `factor` times as much where the image reads it.

    Its value rows are multiplied in the half of the computation that sees the prompt (Prompt-to-Prompt, arXiv
    2208.01626, "attention re-weighting"); in joint attention for the image's own rows alone. Where it is read stays:
    its map is the probability, without the factor. word: as for `Trace.heat_map`. factor: any finite number; 1 changes
    nothing, 0 silences, below 0 pushes away. steps: (first, one after the last), None in the second place for the end;
    None is the whole run.

    Raises TypeError and ValueError for other arguments. The run raises KeyError for a word that no prompt in force has,
    and ValueError for steps that it does not have.
    """
    if isinstance(factor, bool) or not isinstance(factor, int | float):
        raise TypeError(f"factor must be a finite number, not {factor!r}")
    if not math.isfinite(factor):
        raise ValueError(f"factor must be a finite number, not {factor!r}: 0 silences a word, 2 doubles it")
    return Weight(_word(word), float(factor), _steps(steps))


def drop(word: str | int | list[str | int], steps: Steps | None = None) -> Drop:
    """Take a word away: nothing attends to it, and the other words share its attention.

    Its keys are masked in the half of the computation that sees the prompt. What the other words took from it inside
    the text encoder stays. word, steps: as for `weight`, and the same errors; the run raises ValueError where nothing
    would be left to attend to.
    """
    return Drop(_word(word), _steps(steps))


def switch(prompt: str, step: int) -> Switch:
    """Go on with another prompt from a step on, for all text encoders and all images of the call.

    The negative prompt stays, and a ControlNet keeps reading the first prompt. step: 0 or more; at the number of steps
    of the run it changes nothing.

    Raises TypeError and ValueError for other arguments. The run raises ValueError for a step that it does not have,
    and for a prompt that takes another number of text positions where the model's batch cannot hold it.
    """
    if not isinstance(prompt, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"prompt must be a text, not {type(prompt).__name__}")
    return Switch(prompt, _count("step", step))


def freeze(trace: Trace, steps: int) -> Freeze:
    """Look, for the first steps, where another run looked: its cross-attention in place of this run's own.

    At each of these steps the other run's denoiser is asked again, and its attention probabilities, of every layer and
    head, meet this run's values; in the half that sees the prompt, as in Prompt-to-Prompt (arXiv 2208.01626). It costs
    one evaluation more per step and keeps nothing. Positions stand for positions: the third token reads where the other
    run's third token read. trace: made in this process by a cross-attention U-Net, the same that will run, with as many
    steps. steps: how many, 0 or more.

    Raises TypeError and ValueError for other arguments. The run raises ValueError for a trace that was opened from a
    file, is of another model, another size or another number of steps, or was itself made with interventions, and for
    a model with joint attention, whose attention would be gigabytes a step.
    """
    if not isinstance(trace, Trace):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"trace must be a Trace, as dv.trace returns it, not {type(trace).__name__}")
    return Freeze(trace, _count("steps", steps))


def _word(word: Any) -> Wanted:
    if isinstance(word, list | tuple):
        if not word:
            raise ValueError("word: the list is empty; name at least one word")
        return tuple(_one_word(one) for one in word)  # pyright: ignore[reportUnknownVariableType]
    return _one_word(word)


def _one_word(word: Any) -> str | int:
    if isinstance(word, str):
        if not word.strip():
            raise ValueError("word is empty; name a word of the prompt")
        return word
    try:
        index = operator.index(cast(SupportsIndex, word))
    except TypeError:
        index = None
    if index is None or isinstance(word, bool):
        allowed = "a text of the prompt, an index into trace.words, or a list of these"
        raise TypeError(f"word must be {allowed}, not {word!r}")
    return index


def _steps(steps: Any) -> Steps:
    if steps is None:
        return _WHOLE
    try:
        first, last = steps
    except (TypeError, ValueError):
        raise TypeError(f"steps must be (first, one after the last), or None for all, not {steps!r}") from None
    begin, end = _count("steps", first), None if last is None else _count("steps", last)
    if end is not None and end < begin:
        raise ValueError(
            f"steps must not end before they begin: {(begin, end)!r}; {(begin, begin)!r} is an empty range"
        )
    return begin, end


def _count(name: str, value: Any) -> int:
    try:
        number = operator.index(cast(SupportsIndex, value))
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer of 0 or more, not {value!r}")
    if number < 0:
        raise ValueError(f"{name} must be 0 or more, counted from the first step, not {number}")
    return number


def _plain(word: Wanted) -> Any:
    return list(word) if isinstance(word, tuple) else word
