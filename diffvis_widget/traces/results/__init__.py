"""The kinds of results that a trace stores: notes, concept scores, saliency maps, word relevance; more can be added."""

from .image_attention import ImageAttention
from .notes import Note, Region
from .references import ReferenceImages
from .relevance import WordRelevance
from .result_store import ResultStore
from .saliency import Saliency
from .scores import ConceptScores
from .stored_result import (
    DescribedRun,
    StoredResult,
    StoredTensors,
    check_results,
    register_result,
    result_kinds,
)

__all__ = [
    "ConceptScores",
    "DescribedRun",
    "ImageAttention",
    "Note",
    "ReferenceImages",
    "Region",
    "ResultStore",
    "Saliency",
    "StoredResult",
    "StoredTensors",
    "WordRelevance",
    "check_results",
    "register_result",
    "result_kinds",
]
