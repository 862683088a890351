"""What interventions on a denoiser tell those who watch it: the prompts that come into force during a run.

The interventions themselves live in a room above; a Tracer only asks whether there are any, lets them see the pipeline
that it watches, and reads the words of the prompt that is in force.
"""

from __future__ import annotations

import difflib
import weakref
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Protocol

from torch import Tensor, nn

from diffvis_widget.traces import Word

from .prompt_encoding import Side


class Intervention(Protocol):
    """What `Tracer(interventions=...)` takes: see diffvis_widget.intervene."""

    def on(self, pipe: Any) -> AbstractContextManager[object]:
        """Change the calls of this pipeline inside a with block, in this thread."""
        ...


class Changes(Protocol):
    """All interventions that are on a denoiser."""

    def watching(self, pipe: Any) -> AbstractContextManager[object]:
        """Let them act on this pipeline's calls too: it has the same denoiser."""
        ...

    @property
    def given(self) -> Any:
        """The text that the pipeline itself gave the denoiser at the latest evaluation, before any change."""
        ...

    def later(self) -> Sequence[tuple[int, Side]]:
        """Of the call under way: from which step on which other prompt is in force, in order."""
        ...

    def describe(self) -> list[dict[str, Any]]:
        """What they are, as plain JSON values."""
        ...


_changes: weakref.WeakKeyDictionary[nn.Module, Changes] = weakref.WeakKeyDictionary()


def announce(denoiser: nn.Module, changes: Changes | None) -> None:
    """Say what is on a denoiser from now on; None for nothing. Hold its lock."""
    if changes is None:
        _changes.pop(denoiser, None)
    else:
        _changes[denoiser] = changes


def changes_of(denoiser: nn.Module) -> Changes | None:
    """The interventions that are on a denoiser."""
    return _changes.get(denoiser)


class Prompts:
    """The prompts of one call, by the step from which they are in force, and all their words in one list per image.

    words: of each image, those of the first prompt, then those that only a later one has.
    """

    def __init__(self, first: Side, later: Sequence[tuple[int, Side]]) -> None:
        self._sides = [(0, first), *later]
        self.words = [list(words) for words in first.words]
        self._places: list[list[list[int]]] = []
        for _, side in self._sides:
            self._places.append([_merged(own, words) for own, words in zip(self.words, side.words, strict=True)])

    def _index(self, step: int) -> int:
        return max(index for index, (begin, _) in enumerate(self._sides) if begin <= step)

    def at(self, step: int) -> Side:
        """The prompt that is in force at a step."""
        return self._sides[self._index(step)][1]

    def spread(self, maps: Tensor, step: int) -> Tensor:
        """Maps (images, heads, positions, words of the prompt in force) with a column for every word in `words`.

        Words that are not in force have NaN.
        """
        if len(self._sides) == 1:
            return maps
        wide = maps.new_full((*maps.shape[:3], max(len(words) for words in self.words)), float("nan"))
        for image, places in enumerate(self._places[self._index(step)]):
            wide[image, :, :, places] = maps[image, :, :, : len(places)]
        return wide


def _merged(words: list[Word], own: Sequence[Word]) -> list[int]:
    """Where each of `own` stands in `words`; those that are not there are added at the end."""
    keys = [[(word.text.casefold(), word.kind, word.encoder) for word in part] for part in (words, own)]
    places = [-1] * len(own)
    for first, second, size in difflib.SequenceMatcher(None, *keys, autojunk=False).get_matching_blocks():
        places[second : second + size] = range(first, first + size)
    for index, place in enumerate(places):
        if place < 0:
            places[index] = len(words)
            words.append(replace(own[index]))
    return places
