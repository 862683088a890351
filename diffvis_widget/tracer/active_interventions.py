"""The interventions on a denoiser, as far as a tracer knows them: which there are, and which prompt is in force.

How they act is known to `diffvis_widget.intervene`, a package above this one. It registers its executor here, so that
`Tracer(interventions=...)` needs no import of it.
"""

from __future__ import annotations

import difflib
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Protocol

from torch import Tensor, nn

from diffvis_widget.traces import Word

from .prompt_encoding import PromptBatch

StepRange = tuple[int, int | None]
"""(first step, step after the last); None in the second place is the end of the run."""


class Intervention(ABC):
    """A change of a run, as an immutable value. Steps are indices into `trace.steps`; ranges are half open.

    Example:
        >>> isinstance(dv.intervene.drop("square", steps=(0, 10)), dv.intervene.Intervention)
        True
    """

    @property
    @abstractmethod
    def step_range(self) -> StepRange:
        """The steps at which it may act."""

    def acts_at(self, step: int) -> bool:
        """Whether it changes anything at a step.

        Args:
            step: Index of a denoising step, from 0.

        Returns:
            True within `step_range`.
        """
        begin, end = self.step_range
        return begin <= step and (end is None or step < end)

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Describe it for `trace.meta["interventions"]`.

        Returns:
            Plain JSON values.
        """


class ActiveInterventions(Protocol):
    """All interventions that act on one denoiser."""

    def following(self, pipe: Any) -> AbstractContextManager[object]:
        """Let them act on the calls of another pipeline with the same denoiser.

        Args:
            pipe: The pipeline.

        Returns:
            A context in which they act on them.
        """
        ...

    @property
    def original_text(self) -> Any:
        """The text embeddings that the pipeline gave its denoiser at the latest evaluation, before any change."""
        ...

    def later_prompts(self) -> Sequence[tuple[int, PromptBatch]]:
        """List the other prompts of the call under way.

        Returns:
            Each with the step from which it is in force, in order.
        """
        ...

    def describe(self) -> list[dict[str, Any]]:
        """Describe them for `trace.meta["interventions"]`.

        Returns:
            Plain JSON values, one dictionary for each intervention.
        """
        ...


Executor = Callable[[Any, Sequence[Intervention]], AbstractContextManager[object]]
"""Called with a pipeline and all interventions of a tracer; they act inside the context."""

_executors: list[Executor] = []
_active: weakref.WeakKeyDictionary[nn.Module, ActiveInterventions] = weakref.WeakKeyDictionary()


def register_executor(executor: Executor) -> None:
    """Register the function that lets interventions act on a pipeline's calls.

    Args:
        executor: Replaces the one registered before.
    """
    _executors[:] = [executor]


def intervening(pipe: Any, interventions: Sequence[Intervention]) -> AbstractContextManager[object]:
    """Let interventions act on a pipeline's calls.

    Args:
        pipe: The pipeline.
        interventions: All of them at once, at least one.

    Returns:
        A context in which they act.

    Raises:
        RuntimeError: No executor is registered.
    """
    if not _executors:
        raise RuntimeError("no executor of interventions is registered: import diffvis_widget.intervene")
    return _executors[0](pipe, interventions)


def set_active(denoiser: nn.Module, interventions: ActiveInterventions | None) -> None:
    """Register the interventions on a denoiser. Hold its lock.

    Args:
        denoiser: The denoiser.
        interventions: What acts on it from now on; None for nothing.
    """
    if interventions is None:
        _active.pop(denoiser, None)
    else:
        _active[denoiser] = interventions


def active_on(denoiser: nn.Module) -> ActiveInterventions | None:
    """Look up the interventions on a denoiser.

    Args:
        denoiser: The denoiser.

    Returns:
        What acts on it, or None.
    """
    return _active.get(denoiser)


class PromptSchedule:
    """The prompts of one call by the step from which each is in force.

    Args:
        first: The prompt at the beginning.
        later: The other prompts, each with the step from which it is in force, in order.

    Attributes:
        words: Of each image, the words of all prompts: those of the first prompt, then those that only a later one has.
    """

    words: list[list[Word]]

    def __init__(self, first: PromptBatch, later: Sequence[tuple[int, PromptBatch]]) -> None:
        self._prompts = [(0, first), *later]
        self.words = [list(words) for words in first.words]
        # of each prompt and each image: index into `words` of every word of that prompt
        self._columns: list[list[list[int]]] = []
        for _, prompt in self._prompts:
            self._columns.append(
                [_merge(all_words, new) for all_words, new in zip(self.words, prompt.words, strict=True)]
            )

    def _index(self, step: int) -> int:
        return max(index for index, (begin, _) in enumerate(self._prompts) if begin <= step)

    def at(self, step: int) -> PromptBatch:
        """Look up the prompt in force at a step.

        Args:
            step: Index of a denoising step, from 0.

        Returns:
            The prompt of every image.
        """
        return self._prompts[self._index(step)][1]

    def spread(self, maps: Tensor, step: int) -> Tensor:
        """Give maps a column for every word in `words`.

        Args:
            maps: (images, heads, positions, words of the prompt in force).
            step: Index of the denoising step, from 0.

        Returns:
            (images, heads, positions, W). Words that are not in force have NaN.
        """
        if len(self._prompts) == 1:
            return maps
        wide = maps.new_full((*maps.shape[:3], max(len(words) for words in self.words)), float("nan"))
        for image, columns in enumerate(self._columns[self._index(step)]):
            wide[image, :, :, columns] = maps[image, :, :, : len(columns)]
        return wide


def _merge(words: list[Word], new: Sequence[Word]) -> list[int]:
    """Find the index of each new word in `words`; words that are not there are added at the end."""
    keys = [[(word.text.casefold(), word.kind, word.encoder) for word in part] for part in (words, new)]
    indices = [-1] * len(new)
    for first, second, size in difflib.SequenceMatcher(None, *keys, autojunk=False).get_matching_blocks():
        indices[second : second + size] = range(first, first + size)
    for position, index in enumerate(indices):
        if index < 0:
            indices[position] = len(words)
            words.append(replace(new[position]))
    return indices
