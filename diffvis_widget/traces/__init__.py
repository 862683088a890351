"""One generation, as data: Trace and its parts, and the file that keeps it. Needs numpy, safetensors and Pillow."""

from diffvis_widget.traces.file.reader import open_trace, save
from diffvis_widget.traces.file.safetensors_reader import TraceFileError
from diffvis_widget.traces.results.notes import Note
from diffvis_widget.traces.results.relevance import WordRelevance
from diffvis_widget.traces.results.saliency import Saliency
from diffvis_widget.traces.results.scores import ConceptScores

from .trace import Layer, Record, Step, Trace, Word

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
