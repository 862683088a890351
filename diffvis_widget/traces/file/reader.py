"""Reads a trace file: a safetensors file whose metadata carries one JSON text.

A file is data, never code, and is not trusted: sizes, shapes, types and names are checked before anything is used.
A file of less than 256 MB is read into memory. Of a larger one only the header, the final image and stored results of
at most 1 GiB are read; everything else is read on use. Reading a header takes at most 128 MB. Images are decoded on
first use; each takes 12 bytes for each of at most 4096 x 4096 pixels. A large file must not be changed while a trace
opened from it is in use: using it then raises an error. Saving a trace replaces a file and does not change it.
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
from diffvis_widget.traces.types import Images, Record, StepMaps

from .file_arrays import ArrayInFile, BytesInFile, RecordInFile
from .header import Header, read_header
from .image_codec import EncodedImages
from .safetensors_reader import IN_MEMORY, read_container, strict_json
from .stored_results import read_results
from .validation import FRAME_KINDS, check_tensors

KEY = "diffvis_trace"
MAX_RESULTS = 2**30  # bytes of the stored results of a file that is not read into memory as a whole
Tensor = NDArray[Any] | ArrayInFile


@dataclass(frozen=True)
class TraceContent:
    """The content of a trace file; `Trace.from_content` makes a trace of it.

    Attributes:
        header: prompt, words, layers, settings.
        records: the finished steps.
        image: the final image, or the frames of the final video; None where the file has none.
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


def read_content(path: Path, in_memory: int = IN_MEMORY) -> TraceContent:
    """Reads a trace file.

    Args:
        path: of the file.
        in_memory: bytes; a smaller file is read into memory, and of a larger one the steps on use.

    Returns:
        Its content.

    Raises:
        TraceFileError: it is no trace, is damaged, contradicts itself, or was written by a newer version.
        ValueError: a stored result does not belong to the run.
        KeyError: a stored result names a word that the prompt does not have.
    """
    metadata, tensors = read_container(path, in_memory)
    if KEY not in metadata:
        raise TraceFileError("it is a safetensors file but holds no trace")
    header = read_header(strict_json(metadata[KEY]))
    warn_of_unknown(header)
    checked = check_tensors(header, {name: (array.dtype.name, array.shape) for name, array in tensors.items()})
    others = {name: array for name, array in tensors.items() if name not in checked}
    total = sum(array.nbytes for array in others.values() if isinstance(array, ArrayInFile))
    if total > MAX_RESULTS:
        raise TraceFileError(f"its stored results take {total} bytes, more than the {MAX_RESULTS} that are read")
    results = read_results(header, {name: _in_memory(array) for name, array in others.items()})
    image, decoded = (
        _in_memory(tensors[name]).copy() if name in tensors else None for name in ("image", "decoded_image")
    )
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


def _in_memory(tensor: Tensor) -> NDArray[Any]:
    return tensor.read() if isinstance(tensor, ArrayInFile) else tensor


def _records(header: Header, tensors: Mapping[str, Tensor]) -> list[Record]:
    layers = range(min(1, len(header.layers)) if header.keep == "words" else len(header.layers))
    fields = {"latents": "latents", "prediction": "predictions", "guidance": "guidance", "refined": "refined"}
    arrays = {name: tensors[part] for name, part in fields.items() if part in tensors}
    maps = {
        part: [tensors[f"{part}.{index}"] for index in layers]
        for part in ("maps", "negative", "outputs")
        if part == "maps" or f"{part}.0" in tensors
    }
    if isinstance(tensors["latents"], ArrayInFile):
        lazy_arrays = {name: array for name, array in arrays.items() if isinstance(array, ArrayInFile)}
        lazy_maps = {part: [layer for layer in parts if isinstance(layer, ArrayInFile)] for part, parts in maps.items()}
        return [
            RecordInFile(step, header.visible[index], header.reused[index], lazy_arrays, lazy_maps)
            for index, step in enumerate(header.steps)
        ]
    guidance, refined = arrays.get("guidance"), arrays.get("refined")

    def at(part: str, index: int) -> StepMaps | None:
        return tuple(layer[index] for layer in maps[part]) if part in maps else None

    return [
        Record(
            step=step,
            latents=arrays["latents"][index],
            result=arrays["latents"][index + 1],
            prediction=arrays["prediction"][index],
            guidance=None if guidance is None else guidance[index],
            visible=header.visible[index],
            maps=at("maps", index) or (),
            negative=at("negative", index),
            reused=header.reused[index],
            outputs=at("outputs", index),
            refined=None if refined is None else refined[index],
        )
        for index, step in enumerate(header.steps)
    ]


def _frames(header: Header, tensors: Mapping[str, Tensor]) -> dict[str, EncodedImages]:
    if header.images is None:
        return {}
    size, lengths, frames = header.images.size, header.images.lengths, header.images.frames
    return {
        kind: EncodedImages(list(_cut(tensors[f"pictures.{kind}"], lengths[kind])), size, frames)
        for kind in FRAME_KINDS
    }


def _cut(data: Tensor, lengths: Sequence[int]) -> Iterator[memoryview | BytesInFile]:
    start = 0
    for length in lengths:
        if isinstance(data, ArrayInFile):
            yield BytesInFile(data.file, data.offset + start, length)
        else:
            yield data.data[start : start + length]
        start += length
