"""What an expectation can ask about a run, read from its trace."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.traces.types import Floats, Layer, Step, Word

from .evaluation import ConceptFacts, Series


class _Scores(Protocol):
    """Concept scores; see `diffvis_widget.ConceptScores`."""

    @property
    def concepts(self) -> Sequence[str]: ...
    @property
    def cosine(self) -> Floats: ...
    @property
    def share(self) -> Floats: ...
    @property
    def emergence(self) -> Floats: ...


@runtime_checkable
class TracedRun(Protocol):
    """A trace, as far as expectations need it."""

    @property
    def prompt(self) -> str:
        """The prompt."""
        ...

    @property
    def words(self) -> Sequence[Word]:
        """The words of the prompt."""
        ...

    @property
    def steps(self) -> Sequence[Step]:
        """The finished steps."""
        ...

    @property
    def layers(self) -> Sequence[Layer]:
        """The layers whose maps are kept."""
        ...

    @property
    def meta(self) -> Mapping[str, Any]:
        """Seed and other settings."""
        ...

    @property
    def scores(self) -> _Scores | None:
        """Concept scores, None where there are none."""
        ...

    def heat_map(self, word: Any, step: Any = None) -> NDArray[np.float32]:
        """Computes a heat map; see `diffvis_widget.Trace.heat_map`.

        Args:
            word: a text, an index, or a list of these.
            step: index of a step.

        Returns:
            float32 (h, w).
        """
        ...


class TraceFacts:
    """The facts about one run; see `evaluation.RunFacts`.

    Args:
        trace: the run, finished or stopped.
        others: other finished runs.
    """

    def __init__(self, trace: TracedRun, others: Sequence[TracedRun] = ()) -> None:
        self._trace = trace
        self._others = others

    @property
    def is_finished(self) -> bool:
        """A trace is of a run that has ended."""
        return True

    @property
    def prompt(self) -> str:
        """The prompt."""
        return self._trace.prompt

    @property
    def seed(self) -> int | None:
        """The seed."""
        return _seed(self._trace)

    @property
    def steps(self) -> int:
        """The number of finished steps."""
        return len(self._trace.steps)

    @property
    def guidance(self) -> float | None:
        """The guidance scale."""
        guidance = self._trace.meta.get("guidance_scale")
        return float(guidance) if isinstance(guidance, int | float) else None

    @property
    def schedule(self) -> str:
        """Where the steps are spent."""
        return str(self._trace.meta.get("schedule", "uniform"))

    @property
    def weights(self) -> Mapping[str, float | None]:
        """Factors of weighted words."""
        return word_weights(self._trace.meta)

    @property
    def other_runs(self) -> Sequence[tuple[str, int | None]]:
        """Prompt and seed of the other runs."""
        return [(other.prompt, _seed(other)) for other in self._others]

    def concept(self, name: str) -> ConceptFacts | None:
        """What is known about a concept.

        Args:
            name: in lower case.

        Returns:
            Its scores, None where it was not measured.
        """
        scores = self._trace.scores
        names = [] if scores is None else [" ".join(concept.lower().split()) for concept in scores.concepts]
        if scores is None or name not in names:
            return None
        index = names.index(name)
        emergence = float(scores.emergence[index])
        return ConceptFacts(
            cosine=[float(value) for value in scores.cosine[:, index]],
            share=[float(value) for value in scores.share[:, index]] if len(names) > 1 else None,
            emergence=None if math.isnan(emergence) else int(emergence),
        )

    def half_of_map(self, word: str, half: str) -> Series | None:
        """How much of a word's heat map lies in a half of the image.

        Args:
            word: in lower case.
            half: "left", "right", "top" or "bottom".

        Returns:
            A share, 0..1, for each step; None where there is no such word or map.
        """
        words = [
            index
            for index, candidate in enumerate(self._trace.words)
            if candidate.kind == "word" and candidate.tokens and candidate.text.lower() == word
        ]
        if not words or not self._trace.layers:
            return None
        return [half_share(self._trace.heat_map(words, step=step), half) for step in range(self.steps)]


def _seed(trace: TracedRun) -> int | None:
    seed = trace.meta.get("seed")
    return seed if isinstance(seed, int) else None


def half_share(heat_map: NDArray[np.floating[Any]], half: str) -> float | None:
    """How much of a heat map lies in a half of the image.

    Args:
        heat_map: values of 0 or more, (h, w).
        half: "left", "right", "top" or "bottom".

    Returns:
        Its share, 0..1; a middle row or column counts half to each side. None for a map of zeros.

    Example:
        >>> half_share(np.array([[3.0, 1.0]]), "left")
        0.75
    """
    lines = heat_map.astype(np.float64).sum(axis=0 if half in ("left", "right") else 1)
    total = float(lines.sum())
    centres = (np.arange(len(lines)) + 0.5) / len(lines)
    first = float((lines * (centres < 0.5)).sum() + (lines * (centres == 0.5)).sum() / 2)
    if total <= 0:
        return None
    return first / total if half in ("left", "top") else 1 - first / total


def word_weights(meta: Mapping[str, Any]) -> dict[str, float | None]:
    """The weights of words that were in force over a whole run.

    Args:
        meta: the trace's `meta`.

    Returns:
        Factors by word in lower case; None for a dropped word.

    Example:
        >>> word_weights({"interventions": [{"kind": "weight", "word": "Red", "factor": 2.0, "steps": None}]})
        {'red': 2.0}
    """
    weights: dict[str, float | None] = {}
    interventions: Any = meta.get("interventions")
    for entry in cast("list[Any]", interventions if isinstance(interventions, list) else []):
        match entry:
            case {"kind": "weight" | "drop", "word": str(word)} if entry.get("steps") in (None, [0, None]):
                weights[word.lower()] = entry.get("factor")
            case _:
                pass
    return weights
