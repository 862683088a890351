"""One generation, as data: Trace and its parts, and the file that keeps it. Needs numpy, safetensors and Pillow."""

from .container import TraceFileError
from .file import open_trace, save
from .model import Layer, Record, Step, Trace, Word
from .notes import Note
from .relevance import WordRelevance
from .saliency import Saliency
from .scores import ConceptScores

__all__ = [
    "ConceptScores",
    "Layer",
    "Note",
    "Record",
    "Saliency",
    "Step",
    "Trace",
    "TraceFileError",
    "Word",
    "WordRelevance",
    "open_trace",
    "save",
]
