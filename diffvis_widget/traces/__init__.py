"""One generation as data: the trace, its parts, what it stores, and its file. Needs numpy, safetensors and Pillow."""

from .comparison import Comparison, compare
from .errors import TraceFileError
from .expectations import Outcome
from .map_description import MapDescription
from .results import (
    ConceptScores,
    DescribedRun,
    ImageAttention,
    Note,
    ReferenceImages,
    Saliency,
    StoredResult,
    StoredTensors,
    WordRelevance,
    register_result,
)
from .trace import Trace
from .types import Layer, Record, Step, Word

__all__ = [
    "Comparison",
    "ConceptScores",
    "DescribedRun",
    "ImageAttention",
    "Layer",
    "MapDescription",
    "Note",
    "Outcome",
    "Record",
    "ReferenceImages",
    "Saliency",
    "Step",
    "StoredResult",
    "StoredTensors",
    "Trace",
    "TraceFileError",
    "Word",
    "WordRelevance",
    "compare",
    "register_result",
]
