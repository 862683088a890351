"""Reads a trace file: a safetensors file whose metadata carries one JSON text.

A file is data, never code, and is not trusted: sizes, shapes, types and names are checked before anything is used.
Opening maps the file and reads its header; everything else is read, and its images are decoded, on first use. So
opening takes little time and at most 128 MB, and an image, once decoded, 12 bytes for each of at most 4096 x 4096
pixels, whatever the file contains. A file must not be changed while a trace opened from it is in use; saving a trace
replaces a file and does not change it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from diffvis_widget.traces.errors import TraceFileError
from diffvis_widget.traces.printable import printable
from diffvis_widget.traces.results import StoredResult
from diffvis_widget.traces.types import Images, Record

from .header import Header, read_header
from .image_codec import EncodedImages
from .safetensors_reader import read_container, strict_json
from .stored_results import read_results
from .validation import FRAME_KINDS, check_tensors

KEY = "diffvis_trace"


@dataclass(frozen=True)
class TraceContent:
    """The content of a trace file; `Trace.from_content` makes a trace of it.

    Attributes:
        header: prompt, words, layers, settings.
        records: the finished steps.
        image: the final image, None where the file has none.
        frames: the encoded frames by kind.
        results: the stored results by kind.
        decoded_image: the final latents decoded, None where that is the final image.
    """

    header: Header
    records: list[Record]
    image: Images | None
    frames: Mapping[str, EncodedImages]
    results: Mapping[str, Sequence[StoredResult]]
    decoded_image: Images | None = None


def read_content(path: Path) -> TraceContent:
    """Reads a trace file.

    Args:
        path: of the file.

    Returns:
        Its content; tensors are read-only views of the mapped file.

    Raises:
        TraceFileError: it is no trace, is damaged, contradicts itself, or was written by a newer version.
        ValueError: a stored result does not belong to the run.
        KeyError: a stored result names a word that the prompt does not have.
    """
    metadata, tensors = read_container(path)
    if KEY not in metadata:
        raise TraceFileError("it is a safetensors file but holds no trace")
    header = read_header(strict_json(metadata[KEY]))
    warn_of_unknown(header)
    checked = check_tensors(header, {name: (array.dtype.name, array.shape) for name, array in tensors.items()})
    results = read_results(header, {name: array for name, array in tensors.items() if name not in checked})
    image, decoded = (tensors[name].copy() if name in tensors else None for name in ("image", "decoded_image"))
    return TraceContent(header, _records(header, tensors), image, _frames(header, tensors), results, decoded)


def warn_of_unknown(header: Header) -> None:
    """Warns of stored results whose kinds are not registered.

    Args:
        header: the header of a file.
    """
    if header.unknown_results:
        names = ", ".join(printable(name[:40]) for name in header.unknown_results[:5])
        warnings.warn(
            f"the trace file stores results of unknown kinds, which are left out: {names}; import the package that "
            "registers them, then open the file again",
            UserWarning,
            stacklevel=4,
        )


def _records(header: Header, tensors: Mapping[str, NDArray[Any]]) -> list[Record]:
    latents, guidance = tensors["latents"], tensors.get("guidance")
    layers = range(min(1, len(header.layers)) if header.keep == "words" else len(header.layers))
    maps = [tensors[f"maps.{index}"] for index in layers]
    negative = [tensors[f"negative.{index}"] for index in layers] if "negative.0" in tensors else None
    outputs = [tensors[f"outputs.{index}"] for index in layers] if "outputs.0" in tensors else None
    return [
        Record(
            step=step,
            latents=latents[index],
            result=latents[index + 1],
            prediction=tensors["predictions"][index],
            guidance=None if guidance is None else guidance[index],
            visible=header.visible[index],
            maps=tuple(layer[index] for layer in maps),
            negative=None if negative is None else tuple(layer[index] for layer in negative),
            reused=header.reused[index],
            outputs=None if outputs is None else tuple(layer[index] for layer in outputs),
        )
        for index, step in enumerate(header.steps)
    ]


def _frames(header: Header, tensors: Mapping[str, NDArray[Any]]) -> dict[str, EncodedImages]:
    if header.images is None:
        return {}
    size, lengths = header.images.size, header.images.lengths
    return {kind: EncodedImages(list(_cut(tensors[f"pictures.{kind}"], lengths[kind])), size) for kind in FRAME_KINDS}


def _cut(data: NDArray[Any], lengths: Sequence[int]) -> Iterator[memoryview]:
    start, view = 0, data.data
    for length in lengths:
        yield view[start : start + length]
        start += length
