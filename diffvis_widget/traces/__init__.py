"""One generation, as data: Trace and its parts, and the file that keeps it. Needs numpy and safetensors only."""

from .file import TraceFileError, open_trace, save
from .model import Layer, Record, Step, Trace, Word

__all__ = ["Layer", "Record", "Step", "Trace", "TraceFileError", "Word", "open_trace", "save"]
