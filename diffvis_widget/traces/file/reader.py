"""One file per trace: a safetensors file whose metadata carries one JSON text.

A file is data, never code, and is not believed: sizes, shapes, types and names are checked before anything is used.
Opening maps the file and reads its header; everything else is read, and its pictures are decoded, when asked for. So
opening takes little time and at most 128 MB, and a picture, once asked for, 12 bytes for each of at most 4096 x 4096
pixels, whatever is in the file. A file must not be changed while a trace that was opened from it is in use; `save`
never does so, it puts a new file into the place of the old one.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from diffvis_widget.traces.results.relevance import WordRelevance
from diffvis_widget.traces.results.saliency import Saliency
from diffvis_widget.traces.results.scores import ConceptScores

from .header import FORMAT, Header, read_header, write_header
from .image_codec import MAX_PIXELS, MAX_TOTAL, Pictures, encode_all
from .safetensors_reader import TraceFileError, read_container, strict_json
from .validation import check_additions

if TYPE_CHECKING:
    from diffvis_widget.traces.trace import Trace

KEY = "diffvis_trace"
# partly untyped in the library
_write = cast("Callable[..., None]", safetensors.numpy.save_file)  # pyright: ignore[reportUnknownMemberType]
_KINDS = ("prediction", "latents")

# The compact form is the widget's packed run. That room lies above this one, so nothing of it is imported here: it is
# looked up by name, and only for a file of that form.
_COMPACT = "diffvis_widget.wire.compact_file"
_COMPACT_MAGIC = b"DVR1"


class _Form(Protocol):
    def write(self, trace: Trace) -> bytes: ...
    def read(self, path: Path) -> Trace: ...


def save(trace: Trace, path: str | os.PathLike[str], *, frames: bool = True, compact: bool = False) -> Path:
    """Write a trace, whole or not at all; see `Trace.save`."""
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {target}: the folder {target.parent} does not exist")
    if target.is_dir():
        raise IsADirectoryError(f"cannot write {target}: it is a folder; name a file in it")
    if not trace.records:
        raise ValueError("cannot save a trace without a finished step")
    if trace.is_compact and not compact:
        raise ValueError(
            "this trace was opened from a compact file, which has no latents: save it with compact=True, or trace again"
        )
    check_additions(trace)
    if compact:
        data = _compact().write(trace)
        return write_whole(target, len(data), lambda name: _write_bytes(name, data))
    pictures = _pictures(trace) if frames else {}
    tensors = _tensors(trace, pictures)
    header = write_header(trace, pictures)
    size = sum(array.nbytes for array in tensors.values())
    return write_whole(target, size, lambda name: _write(tensors, name, metadata={KEY: header}))


def write_whole(target: Path, size: int, write: Callable[[str], None]) -> Path:
    """Write a file of about ``size`` bytes by way of a neighbour and one rename: readers see the old or the new one."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise type(error)(f"cannot write {target}: {error}") from error
    try:
        write(name)
        with open(name, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, target)
    except (OSError, SafetensorError) as error:
        raise OSError(f"cannot write {target} ({size / 2**20:.1f} MB): {error}") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
    return target


def _write_bytes(name: str, data: bytes) -> None:
    with open(name, "wb") as file:
        file.write(data)


def _compact() -> _Form:
    return cast(_Form, importlib.import_module(_COMPACT))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _pictures(trace: Trace) -> dict[str, Pictures]:
    """The pictures of every step, encoded; those that came from a file as they are."""
    found: dict[str, Pictures] = {}
    for kind in _KINDS:
        stored = trace.stored_pictures(kind)
        if stored is None:
            images = trace.frames(kind)
            if images.nbytes > MAX_TOTAL or images[0].size > 3 * MAX_PIXELS:
                raise ValueError(
                    f"the pictures of {len(images)} steps, {images.shape[2]} x {images.shape[1]} pixels, are more than "
                    "a file may hold: save it with frames=False"
                )
            height, width = images.shape[1:3]
            stored = Pictures(encode_all(images, exact=kind == "prediction"), (height, width))
        found[kind] = stored
    if found["prediction"].size != found["latents"].size:
        raise ValueError("the frames of predictions and of latents differ in size: save it with frames=False")
    return found


def _tensors(trace: Trace, pictures: Mapping[str, Pictures]) -> dict[str, NDArray[Any]]:
    records = trace.records
    tensors: dict[str, NDArray[Any]] = {"latents": trace.latents, "predictions": trace.predictions}
    guidance = trace.guidance
    if guidance is not None:
        tensors["guidance"] = guidance
    for index in range(len(records[0].maps)):
        tensors[f"maps.{index}"] = np.stack([record.maps[index] for record in records])
    if any(record.negative is not None for record in records):
        for index in range(len(records[0].maps)):
            # steps without guidance have none
            blank = next(record.negative[index] for record in records if record.negative is not None)
            rows = [np.full_like(blank, np.nan) if one.negative is None else one.negative[index] for one in records]
            tensors[f"negative.{index}"] = np.stack(rows)
    if (outputs := records[0].outputs) is not None:
        for index in range(len(outputs)):
            tensors[f"outputs.{index}"] = np.stack([one.outputs[index] for one in records if one.outputs is not None])
    if pictures:
        tensors["image"] = trace.image
    for kind, found in pictures.items():
        tensors[f"pictures.{kind}"] = np.frombuffer(b"".join(found.encoded), dtype=np.uint8)
    if (scores := trace.scores) is not None:
        tensors |= {f"scores.{part}": _floats(getattr(scores, name)) for name, part in _SCORES.items()}
    for index, one in enumerate(trace.saliency):
        tensors[f"saliency.{index}"] = _floats(one.map)
        if one.stderr is not None:
            tensors[f"saliency.{index}.stderr"] = _floats(one.stderr)
        for number, layer in enumerate(one.layers.values()):
            tensors[f"saliency.{index}.{number}"] = _floats(layer)
    for index, one in enumerate(trace.relevance):
        tensors[f"relevance.{index}"] = _floats(one.raw)
        tensors[f"relevance.{index}.timesteps"] = _floats(one.timesteps)
        if one.maps is not None:
            tensors[f"relevance.{index}.maps"] = _floats(one.maps)
    return {name: np.ascontiguousarray(array) for name, array in tensors.items()}


_SCORES = {"cosine": "cosine", "share": "share", "null_band": "null", "emergence": "emergence"}  # attribute: part


def _floats(values: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(values, dtype=np.float32)


def open_trace(path: str | os.PathLike[str]) -> Trace:
    """Read a trace written by `Trace.save`, compact or not.

    Raises FileNotFoundError, and TraceFileError (a ValueError) for a file that is no trace, is damaged, contradicts
    itself, or was written by a newer version; a damaged picture is found when it is asked for.
    """
    source = Path(path)
    if not source.is_file():
        raise FileNotFoundError(f"there is no trace file {source}")
    try:
        with open(source, "rb") as file:
            compact = file.read(len(_COMPACT_MAGIC)) == _COMPACT_MAGIC
        if compact:
            return _compact().read(source)
        metadata, tensors = read_container(source)
        if KEY not in metadata:
            raise TraceFileError("it is a safetensors file but holds no trace")
        header = read_header(strict_json(metadata[KEY]))
        _check(header, {name: (array.dtype.name, array.shape) for name, array in tensors.items()})
        trace = _assemble(header, tensors)
        check_additions(trace)
    except (ValueError, KeyError) as error:  # KeyError: a note about a word that is not there
        raise TraceFileError(f"{source} is no trace file, or it is damaged: {_said(error)}") from None
    return trace


def _said(error: Exception) -> str:
    return str(error.args[0] if error.args else error)


def _check(header: Header, found: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    """Raise TraceFileError unless the tensors are exactly those that the header describes."""
    steps, words = len(header.steps), len(header.words)
    others = None if header.negative_words is None else len(header.negative_words)

    def shape(name: str, dtypes: tuple[str, ...], *expected: int | None) -> tuple[int, ...]:
        if name not in found:
            raise TraceFileError(f"its part {name!r} is missing")
        dtype, actual = found[name]
        fits = len(actual) == len(expected) and all(
            want is None or size == want for size, want in zip(actual, expected, strict=True)
        )
        if dtype not in dtypes or not fits or 0 in actual:
            raise TraceFileError(f"its part {name!r} is {dtype} {actual}, which contradicts its header")
        return actual

    _, channels, height, width = shape("latents", ("float16", "float32"), steps + 1, None, None, None)
    shape("predictions", (found["latents"][0],), steps, channels, height, width)
    known = {"latents", "predictions"}
    if "guidance" in found:
        shape("guidance", ("float32",), steps, height, width)
        known.add("guidance")
    counts = {"maps": words}
    if others is not None and "negative.0" in found:
        counts["negative"] = others
    if "outputs.0" in found:
        counts["outputs"] = words
    for part, count in counts.items():
        if header.keep == "words":
            if header.layers:
                shape(f"{part}.0", ("float16",), steps, 1, count, None, None)
                known.add(f"{part}.0")
            continue
        for index, layer in enumerate(header.layers):
            heads = layer.heads if header.keep == "heads" else 1
            shape(f"{part}.{index}", ("float16",), steps, heads, count, *layer.grid)
            known.add(f"{part}.{index}")
    if "image" in found:
        rows, columns, _ = shape("image", ("uint8",), None, None, 3)
        if rows * columns > MAX_PIXELS:
            raise TraceFileError(f"its picture is {columns} x {rows} pixels, more than a trace may have")
        known.add("image")
    if (pictures := header.pictures) is not None:
        height, width = pictures.size
        if height * width > MAX_PIXELS or steps * height * width * 3 > MAX_TOTAL:
            raise TraceFileError(f"its {steps} pictures are {width} x {height} pixels, more than a trace may have")
        if sorted(pictures.lengths) != sorted(_KINDS):
            raise TraceFileError(f"its pictures are of {', '.join(pictures.lengths)[:80]}")
        for kind, lengths in pictures.lengths.items():
            if len(lengths) != steps:
                raise TraceFileError(f"it has {len(lengths)} pictures and {steps} steps")
            shape(f"pictures.{kind}", ("uint8",), sum(lengths))
            known.add(f"pictures.{kind}")
    if header.scores is not None:
        count = len(header.scores.concepts)
        expected = {"cosine": (steps, count), "share": (steps, count), "null": (steps, 2), "emergence": (count,)}
        for name, sizes in expected.items():
            shape(f"scores.{name}", ("float32",), *sizes)
            known.add(f"scores.{name}")
    for index, one in enumerate(header.saliency):
        parts = [f"saliency.{index}", *(f"saliency.{index}.{number}" for number in range(len(one.layers)))]
        for name in [*parts, f"saliency.{index}.stderr"]:
            if name in parts or name in found:
                shape(name, ("float32",), None, None)
                known.add(name)
    for index in range(len(header.relevance)):
        part = f"relevance.{index}"
        length, _ = shape(part, ("float32",), None, words)
        shape(f"{part}.timesteps", ("float32",), length)
        known |= {part, f"{part}.timesteps"}
        if f"{part}.maps" in found:
            shape(f"{part}.maps", ("float32",), length, words, None, None)
            known.add(f"{part}.maps")
    if extra := found.keys() - known:
        raise TraceFileError(f"it holds parts that no trace has: {', '.join(sorted(extra)[:5])}")


def _assemble(header: Header, tensors: dict[str, NDArray[Any]]) -> Trace:
    from diffvis_widget.traces.trace import Record, Trace

    latents, guidance = tensors["latents"], tensors.get("guidance")
    kept = range(min(1, len(header.layers)) if header.keep == "words" else len(header.layers))
    maps = [tensors[f"maps.{index}"] for index in kept]
    negative = [tensors[f"negative.{index}"] for index in kept] if "negative.0" in tensors else None
    outputs = [tensors[f"outputs.{index}"] for index in kept] if "outputs.0" in tensors else None
    records = [
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
    return Trace(
        prompt=header.prompt,
        negative_prompt=header.negative_prompt,
        words=header.words,
        negative_words=header.negative_words,
        layers=header.layers,
        keep=header.keep,
        meta=header.meta,
        records=records,
        image=None if "image" not in tensors else tensors["image"].copy(),
        pictures=_stored(header, tensors),
        notes=header.notes,
        scores=_scores(header, tensors),
        saliency=[_saliency(header, index, tensors) for index in range(len(header.saliency))],
        relevance=[_relevance(header, index, tensors) for index in range(len(header.relevance))],
    )


def _stored(header: Header, tensors: Mapping[str, NDArray[Any]]) -> dict[str, Pictures]:
    if header.pictures is None:
        return {}
    size, lengths = header.pictures.size, header.pictures.lengths
    return {kind: Pictures(list(_cut(tensors[f"pictures.{kind}"], lengths[kind])), size) for kind in _KINDS}


def _cut(data: NDArray[Any], lengths: Sequence[int]) -> Iterator[memoryview]:
    at, view = 0, data.data
    for length in lengths:
        yield view[at : at + length]
        at += length


def _scores(header: Header, tensors: Mapping[str, NDArray[Any]]) -> ConceptScores | None:
    if header.scores is None:
        return None
    cosine, share, null_band, emergence = (tensors[f"scores.{part}"] for part in _SCORES.values())
    return ConceptScores(header.scores.concepts, cosine, share, null_band, emergence, header.scores.meter)


def _saliency(header: Header, index: int, tensors: Mapping[str, NDArray[Any]]) -> Saliency:
    one = header.saliency[index]
    return Saliency(
        one.method,
        one.step,
        tensors[f"saliency.{index}"],
        tensors.get(f"saliency.{index}.stderr"),
        one.masks_used,
        {name: tensors[f"saliency.{index}.{number}"] for number, name in enumerate(one.layers)},
    )


def _relevance(header: Header, index: int, tensors: Mapping[str, NDArray[Any]]) -> WordRelevance:
    part = f"relevance.{index}"
    timesteps, maps = tensors[f"{part}.timesteps"], tensors.get(f"{part}.maps")
    return WordRelevance(header.relevance[index].schedule, timesteps, tensors[part], maps)


__all__ = ["FORMAT", "TraceFileError", "open_trace", "save"]
