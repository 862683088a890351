"""The stored results of one trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

from .notes import Note
from .relevance import WordRelevance
from .saliency import Saliency
from .scores import ConceptScores
from .stored_result import StoredResult, result_kinds

_Result = TypeVar("_Result", bound=StoredResult)


class ResultStore:
    """The part of a trace that keeps what was computed about its run.

    Args:
        results: results to begin with, by kind.
    """

    def __init__(self, results: Mapping[str, Sequence[StoredResult]] | None) -> None:
        self._results: dict[str, list[Any]] = {kind: list(stored) for kind, stored in (results or {}).items()}

    def results(self, kind: type[_Result]) -> list[_Result]:
        """Lists the stored results of a kind; the list may be changed.

        Args:
            kind: a class registered by `register_result`.

        Returns:
            The list that the trace keeps and saves. A kind that is single has one result at most.

        Raises:
            ValueError: the class is not registered.

        Example:
            >>> store = ResultStore(None)
            >>> store.results(Note).append(Note("Look at the circle"))
            >>> store.notes
            [Note(text='Look at the circle', step=None, words=(), region=None)]
        """
        if result_kinds().get(kind.kind) is not kind:
            raise ValueError(f"{kind.__name__} is not registered: decorate it with register_result")
        return cast("list[_Result]", self._results.setdefault(kind.kind, []))

    @property
    def stored_results(self) -> dict[str, list[StoredResult]]:
        """The stored results by kind, in the order of registration; kinds without results are left out."""
        return {kind: list(stored) for kind in result_kinds() if (stored := self._results.get(kind))}

    @property
    def notes(self) -> list[Note]:
        """The notes."""
        return self.results(Note)

    @notes.setter
    def notes(self, notes: Sequence[Note]) -> None:
        self._results[Note.kind] = list(notes)

    @property
    def saliency(self) -> list[Saliency]:
        """The saliency maps that methods of `dv.explain` computed."""
        return self.results(Saliency)

    @saliency.setter
    def saliency(self, saliency: Sequence[Saliency]) -> None:
        self._results[Saliency.kind] = list(saliency)

    @property
    def relevance(self) -> list[WordRelevance]:
        """The relevance of words that `dv.explain.relevance` computed; the newest of each schedule last."""
        return self.results(WordRelevance)

    @relevance.setter
    def relevance(self, relevance: Sequence[WordRelevance]) -> None:
        self._results[WordRelevance.kind] = list(relevance)

    @property
    def scores(self) -> ConceptScores | None:
        """The concept scores that `dv.concept_scores` computed, or None."""
        scores = self.results(ConceptScores)
        return scores[-1] if scores else None

    @scores.setter
    def scores(self, scores: ConceptScores | None) -> None:
        self._results[ConceptScores.kind] = [] if scores is None else [scores]
