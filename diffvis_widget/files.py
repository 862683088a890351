"""Opens trace files of every form."""

from __future__ import annotations

import os

from diffvis_widget.arguments import file_path
from diffvis_widget.traces import Trace, TraceFileError
from diffvis_widget.traces.file.reader import read_content
from diffvis_widget.wire import compact_file
from diffvis_widget.wire.packed_run import MAGIC


def open_trace(path: str | os.PathLike[str]) -> Trace:
    """Opens a trace file that `Trace.save` wrote, whole or compact.

    Args:
        path: of the file.

    Returns:
        The trace. Of a file of 256 MB or more its arrays are read on use; where the file was changed or truncated
        since, that raises `TraceFileError`.

    Raises:
        TypeError: the path is no path.
        FileNotFoundError: there is no such file.
        TraceFileError: the file is no trace, is damaged, contradicts itself, or was written by a newer version. A
            damaged image raises it when it is decoded.

    Example:
        >>> open_trace("missing.safetensors")
        Traceback (most recent call last):
        FileNotFoundError: there is no trace file missing.safetensors
    """
    source = file_path("path", path)
    if not source.is_file():
        raise FileNotFoundError(f"there is no trace file {source}")
    try:
        with open(source, "rb") as file:
            is_compact = file.read(len(MAGIC)) == MAGIC
        content = compact_file.read_content(source) if is_compact else read_content(source)
        return Trace.from_content(content)
    except (ValueError, KeyError, TypeError) as error:
        reason = error.args[0] if error.args else error
        raise TraceFileError(f"{source} is no trace file, or it is damaged: {reason}") from None
