"""Reads safetensors files without trusting any byte.

A file of less than 256 MB is read into memory. Of a larger one only the header is read, and tensors part by part on
use. No file is mapped into memory: see `file_arrays`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.traces.errors import TraceFileError

from .file_arrays import ArrayInFile, FileBytes

# A header of this size unpacks to 128 MB of Python objects at the worst: what opening a hostile file can cost.
MAX_HEADER = 4 * 2**20
MAX_PARTS = 20_000
IN_MEMORY = 256 * 2**20  # smaller files are read whole
_DTYPES: Mapping[str, np.dtype[Any]] = {
    "F16": np.dtype("<f2"), "F32": np.dtype("<f4"), "U8": np.dtype("u1")
}  # fmt: skip


def strict_json(text: str | bytes) -> Any:
    """Parses JSON without NaN and infinity.

    Args:
        text: the JSON.

    Returns:
        The parsed value.

    Raises:
        TraceFileError: it is no JSON.
    """

    def refuse(name: str) -> NoReturn:
        raise TraceFileError(f"its header holds {name}, which JSON does not have")

    try:
        return json.loads(text, parse_constant=refuse)
    except TraceFileError:
        raise
    except (ValueError, RecursionError) as error:
        raise TraceFileError(f"its header cannot be read: {error}") from None


def read_container(
    path: Path, in_memory: int = IN_MEMORY
) -> tuple[dict[str, str], dict[str, NDArray[Any] | ArrayInFile]]:
    """Reads a safetensors file.

    Args:
        path: of the file.
        in_memory: bytes; a smaller file is read into memory, and of a larger one the tensors on use.

    Returns:
        Its metadata, and its tensors by name: read-only arrays in memory, or arrays in the file.

    Raises:
        TraceFileError: the header does not describe exactly the bytes that follow it.
    """
    file = FileBytes(path)
    size = file.size
    length = int.from_bytes(file.read(0, 8), "little") if size >= 8 else 0
    if size < 8 or length > min(MAX_HEADER, size - 8):
        raise TraceFileError(f"its header claims {length} bytes, and the file has {size}")
    header = strict_json(bytes(file.read(8, length)))
    if not isinstance(header, dict):
        raise TraceFileError("its header is no mapping")
    entries = cast("dict[str, Any]", header)
    metadata = entries.pop("__metadata__", {})
    texts = cast("dict[str, Any]", metadata).values() if isinstance(metadata, dict) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise TraceFileError("its metadata is no mapping of texts")
    if len(entries) > MAX_PARTS:
        raise TraceFileError(f"it claims {len(entries)} parts")
    begin = 8 + length
    parts = {name: _entry(name, entry) for name, entry in entries.items()}
    offset = 0
    for name, (_, _, start, end) in sorted(parts.items(), key=lambda item: item[1][2:]):
        if start != offset:
            raise TraceFileError(f"its part {name!r} begins at byte {start}, not {offset}")
        offset = end
    if begin + offset != size:
        raise TraceFileError(f"its parts take {offset} bytes, and {size - begin} are there")
    tensors: dict[str, NDArray[Any] | ArrayInFile] = {
        name: ArrayInFile(file, dtype, shape, begin + start) for name, (dtype, shape, start, _) in parts.items()
    }
    if size < in_memory:
        data = memoryview(file.read(begin, offset)).toreadonly()
        for name, (dtype, shape, start, _) in parts.items():
            tensors[name] = np.frombuffer(data, dtype, count=math.prod(shape), offset=start).reshape(shape)
    return cast("dict[str, str]", metadata), tensors


def _entry(name: str, entry: Any) -> tuple[np.dtype[Any], tuple[int, ...], int, int]:
    fields = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
    dtype = _DTYPES.get(str(fields.get("dtype")))
    shape, offsets = _sizes(fields.get("shape")), _sizes(fields.get("data_offsets"))
    if dtype is None or shape is None or offsets is None or not 1 <= len(shape) <= 8 or 0 in shape or len(offsets) != 2:
        raise TraceFileError(f"its part {name!r} has an invalid description")
    start, end = offsets
    if end - start != math.prod(shape) * dtype.itemsize:
        raise TraceFileError(f"its part {name!r} has {end - start} bytes for the shape {shape}")
    return dtype, shape, start, end


def _sizes(value: Any) -> tuple[int, ...] | None:
    if not isinstance(value, list):
        return None
    sizes = cast("list[Any]", value)
    if not all(type(size) is int and 0 <= size < 2**48 for size in sizes):
        return None
    return tuple(sizes)
