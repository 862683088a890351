"""The stored results of one trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

from diffvis_widget.arguments import instance, items, shorten
from diffvis_widget.traces.types import Images

from .notes import Note
from .references import ReferenceImages
from .relevance import WordRelevance
from .saliency import Saliency
from .scores import ConceptScores
from .stored_result import StoredResult, result_kinds

_Result = TypeVar("_Result", bound=StoredResult)


def _checked(name: str, results: Any, kind: type[StoredResult]) -> list[Any]:
    """A list of results of one kind. TypeError for anything else."""
    expected = f"a list of {kind.__name__}" if not kind.single else f"a {kind.__name__} or None"
    return [instance(name, result, kind, expected) for result in items(name, results, expected)]


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
            [Note(text='Look at the circle', step=None, words=(), region=None, expects=None)]
        """
        name = getattr(kind, "kind", None)
        if not isinstance(name, str) or result_kinds().get(name) is not kind:
            label = getattr(kind, "__name__", shorten(kind))
            raise ValueError(f"kind: {label} is not registered: decorate the class with register_result")
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
        self._results[Note.kind] = _checked("notes", notes, Note)

    @property
    def saliency(self) -> list[Saliency]:
        """The saliency maps that methods of `dv.explain` computed."""
        return self.results(Saliency)

    @saliency.setter
    def saliency(self, saliency: Sequence[Saliency]) -> None:
        self._results[Saliency.kind] = _checked("saliency", saliency, Saliency)

    @property
    def relevance(self) -> list[WordRelevance]:
        """The relevance of words that `dv.explain.relevance` computed; the newest of each schedule last."""
        return self.results(WordRelevance)

    @relevance.setter
    def relevance(self, relevance: Sequence[WordRelevance]) -> None:
        self._results[WordRelevance.kind] = _checked("relevance", relevance, WordRelevance)

    @property
    def references(self) -> list[Images]:
        """The reference images of an editing model as its autoencoder saw them, uint8 (H, W, 3) each, in order.

        Empty for a model without. The tokens of reference k lie on the grid `layers[0].reference_grids[k]`.
        """
        return [image for stored in self.results(ReferenceImages) for image in stored.images]

    @property
    def scores(self) -> ConceptScores | None:
        """The concept scores that `dv.concept_scores` computed, or None."""
        scores = self.results(ConceptScores)
        return scores[-1] if scores else None

    @scores.setter
    def scores(self, scores: ConceptScores | None) -> None:
        stored = [] if scores is None else [scores]
        self._results[ConceptScores.kind] = _checked("scores", stored, ConceptScores)
