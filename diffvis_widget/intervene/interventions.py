"""The four interventions as immutable values.

Arguments are validated on construction; whatever depends on the run, when it starts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from diffvis_widget.arguments import MAX_STEPS, count, real, shorten, whole_number
from diffvis_widget.tracer import Intervention, StepRange
from diffvis_widget.traces import Trace

WordSelector = str | int | tuple[str | int, ...]
_WHOLE: StepRange = (0, None)
_MAX_FACTOR = 1_000_000
_MAX_WORDS = 1_000_000


@dataclass(frozen=True)
class Weight(Intervention):
    """Multiplies the value rows of a word. Make it with `weight`.

    Attributes:
        word: The word, as for `Trace.heat_map`; a list as a tuple.
        factor: Of the value rows; 1 changes nothing.
        steps: (first step, step after the last or None).

    Example:
        >>> dv.intervene.Weight("red", 2.0, (0, 10)).acts_at(10)
        False
    """

    word: WordSelector
    factor: float
    steps: StepRange = _WHOLE

    @property
    def step_range(self) -> StepRange:
        """The steps at which it may act."""
        return self.steps

    def acts_at(self, step: int) -> bool:
        """Whether it changes anything at a step: a factor of 1 does not.

        Args:
            step: Index of a denoising step, from 0.

        Returns:
            True within its steps, unless the factor is 1.
        """
        return self.factor != 1 and super().acts_at(step)

    def describe(self) -> dict[str, Any]:
        """Describe it for `trace.meta["interventions"]`.

        Returns:
            Plain JSON values.
        """
        return {"kind": "weight", "word": _plain(self.word), "factor": self.factor, "steps": list(self.steps)}


@dataclass(frozen=True)
class Drop(Intervention):
    """Masks the keys of a word. Make it with `drop`.

    Attributes:
        word: The word, as for `Trace.heat_map`; a list as a tuple.
        steps: (first step, step after the last or None).

    Example:
        >>> dv.intervene.Drop("square", (0, 10)).describe()
        {'kind': 'drop', 'word': 'square', 'steps': [0, 10]}
    """

    word: WordSelector
    steps: StepRange = _WHOLE

    @property
    def step_range(self) -> StepRange:
        """The steps at which it acts."""
        return self.steps

    def describe(self) -> dict[str, Any]:
        """Describe it for `trace.meta["interventions"]`.

        Returns:
            Plain JSON values.
        """
        return {"kind": "drop", "word": _plain(self.word), "steps": list(self.steps)}


@dataclass(frozen=True)
class Switch(Intervention):
    """Puts another prompt in force from a step on. Make it with `switch`.

    Attributes:
        prompt: The other prompt.
        step: The first step with it.

    Example:
        >>> dv.intervene.Switch("a blue circle", 12).step_range
        (12, None)
    """

    prompt: str
    step: int

    @property
    def step_range(self) -> StepRange:
        """The steps at which the other prompt is in force."""
        return self.step, None

    def describe(self) -> dict[str, Any]:
        """Describe it for `trace.meta["interventions"]`.

        Returns:
            Plain JSON values.
        """
        return {"kind": "switch", "prompt": self.prompt, "step": self.step}


@dataclass(frozen=True)
class Freeze(Intervention):
    """Replaces the cross-attention by that of another run. Make it with `freeze`.

    Attributes:
        trace: Of the other run.
        steps: Number of steps, from the first.

    Example:
        >>> trace = dv.trace(dv.load(), "a red circle", seed=7, num_inference_steps=2)
        >>> dv.intervene.Freeze(trace, 1).step_range
        (0, 1)
    """

    trace: Trace = field(repr=False)
    steps: int

    @property
    def step_range(self) -> StepRange:
        """The steps at which it acts."""
        return 0, self.steps

    def describe(self) -> dict[str, Any]:
        """Describe it for `trace.meta["interventions"]`.

        Returns:
            Plain JSON values.
        """
        seed = self.trace.meta.get("seed")
        return {"kind": "freeze", "prompt": self.trace.prompt, "seed": seed, "steps": [0, self.steps]}


def weight(word: str | int | list[str | int], factor: float, steps: StepRange | None = None) -> Weight:
    """Multiply the contribution of a word to the image.

    The word's value rows are multiplied in the conditional branch (Prompt-to-Prompt, arXiv 2208.01626, "attention
    re-weighting"); in joint attention for the image tokens alone. The attention probabilities, and with them the word's
    map, stay as they are.

    Args:
        word: The word, as for `Trace.heat_map`: a text of the prompt, an index into `trace.words`, or a list.
        factor: A number from -1,000,000 to 1,000,000; 1 changes nothing, 0 silences the word, a negative
            number pushes away from it.
        steps: (first step, step after the last), None in the second place for the end; None for the whole run. The run
            raises ValueError for steps that it does not have, and KeyError for a word that no prompt in force has.

    Returns:
        The intervention, for `on`, `dv.trace` and `dv.Tracer`.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: factor is out of range, word is empty, or steps are negative or end before they begin.

    Example:
        >>> import diffvis_widget as dv
        >>> dv.intervene.weight("red", 2.0, steps=(0, 10))
        Weight(word='red', factor=2.0, steps=(0, 10))
    """
    return Weight(_word(word), real("factor", factor, -_MAX_FACTOR, _MAX_FACTOR), _steps(steps))


def drop(word: str | int | list[str | int], steps: StepRange | None = None) -> Drop:
    """Remove a word from the attention: nothing attends to it, and the other words share its attention.

    The word's keys are masked in the conditional branch. What the other words took from it inside the text encoder
    stays.

    Args:
        word: The word, as for `weight`.
        steps: As for `weight`. The run raises ValueError where nothing would be left to attend to, and otherwise as for
            `weight`.

    Returns:
        The intervention, for `on`, `dv.trace` and `dv.Tracer`.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: word is empty, or steps are negative or end before they begin.

    Example:
        >>> import diffvis_widget as dv
        >>> dv.intervene.drop("square")
        Drop(word='square', steps=(0, None))
    """
    return Drop(_word(word), _steps(steps))


def switch(prompt: str, step: int) -> Switch:
    """Continue with another prompt from a step on, for all text encoders and all images of the call.

    The negative prompt stays, and a ControlNet keeps the first prompt.

    Args:
        prompt: The other prompt. The run raises ValueError where it takes another number of text tokens than the
            batch of a guided run can hold.
        step: The first step with it, 0 or more; at the number of steps of the run it changes nothing. The run raises
            ValueError for a step that it does not have.

    Returns:
        The intervention, for `on`, `dv.trace` and `dv.Tracer`.

    Raises:
        TypeError: prompt is no text, or step no integer.
        ValueError: step is negative.

    Example:
        >>> import diffvis_widget as dv
        >>> dv.intervene.switch("a blue circle", step=12)
        Switch(prompt='a blue circle', step=12)
    """
    if not isinstance(prompt, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"prompt must be a text, not {type(prompt).__name__}")
    return Switch(prompt, count("step", step, 0, MAX_STEPS))


def freeze(trace: Trace, steps: int) -> Freeze:
    """Replace the cross-attention of the first steps by that of another run.

    At each of these steps the other run's denoiser is evaluated again, and its attention probabilities, of every layer
    and head, are applied to this run's values in the conditional branch, as in Prompt-to-Prompt (arXiv 2208.01626). It
    costs one evaluation more per step and stores nothing. Tokens correspond by position: the third token is attended to
    where the other run's third token was.

    Args:
        trace: Made in this process by a cross-attention U-Net, the same that will run, with as many steps. The run
            raises ValueError for a trace that was opened from a file, belongs to another model, has another size or
            number of steps, or was itself made with interventions, and for a model with joint attention.
        steps: Number of steps, 0 or more.

    Returns:
        The intervention, for `on`, `dv.trace` and `dv.Tracer`.

    Raises:
        TypeError: trace is no Trace, or steps no integer.
        ValueError: steps is negative.

    Example:
        >>> import diffvis_widget as dv
        >>> first = dv.trace(dv.load(), "a red circle", seed=7, num_inference_steps=2)
        >>> dv.intervene.freeze(first, steps=1)
        Freeze(steps=1)
    """
    if not isinstance(trace, Trace):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"trace must be a Trace, as dv.trace returns it, not {type(trace).__name__}")
    return Freeze(trace, count("steps", steps, 0, MAX_STEPS))


def _word(word: Any) -> WordSelector:
    if isinstance(word, list | tuple):
        if not word:
            raise ValueError("word: the list is empty; name at least one word")
        return tuple(_single_word(item) for item in word)  # pyright: ignore[reportUnknownVariableType]
    return _single_word(word)


def _single_word(word: Any) -> str | int:
    if isinstance(word, str):
        if not word.strip():
            raise ValueError("word is empty; name a word of the prompt")
        return word
    index = whole_number(word)
    allowed = "a text of the prompt, an index into trace.words, or a list of these"
    if index is None:
        raise TypeError(f"word must be {allowed}, not {shorten(word)}")
    if not 0 <= index < _MAX_WORDS:
        raise ValueError(f"word must be {allowed}, from 0 to {_MAX_WORDS - 1}, not {shorten(index)}")
    return index


def _steps(steps: Any) -> StepRange:
    if steps is None:
        return _WHOLE
    try:
        first, last = steps
    except (TypeError, ValueError):
        allowed = "(first step, step after the last), or None for all"
        raise TypeError(f"steps must be {allowed}, not {shorten(steps)}") from None
    begin, end = count("steps", first, 0, MAX_STEPS), None if last is None else count("steps", last, 0, MAX_STEPS)
    if end is not None and end < begin:
        raise ValueError(
            f"steps must not end before they begin: {(begin, end)!r}; {(begin, begin)!r} is an empty range"
        )
    return begin, end


def _plain(word: WordSelector) -> Any:
    return list(word) if isinstance(word, tuple) else word
