"""One file per trace: a safetensors file whose metadata carries one JSON text.

A file is data, never code, and is not believed: sizes, shapes, types and names are checked before anything is used,
and pictures are stored as plain pixels, so that opening a file runs no image decoder.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from .header import FORMAT, Header, TraceFileError, read_header, write_header

if TYPE_CHECKING:
    from .model import Trace

KEY = "diffvis_trace"
# partly untyped in the library
_open = cast("Callable[..., Any]", safetensors.safe_open)  # pyright: ignore[reportUnknownMemberType]
_write = cast("Callable[..., None]", safetensors.numpy.save_file)  # pyright: ignore[reportUnknownMemberType]
_MAX_HEADER = 16 * 2**20


def save(trace: Trace, path: str | os.PathLike[str], *, frames: bool = True) -> Path:
    """Write a trace, whole or not at all; see `Trace.save`."""
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {target}: the folder {target.parent} does not exist")
    if target.is_dir():
        raise IsADirectoryError(f"cannot write {target}: it is a folder; name a file in it")
    tensors = _tensors(trace, frames)
    header = write_header(trace)
    # a neighbour of the target, so that the last act is one rename: readers see the old file or the whole new one
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    os.close(handle)
    try:
        _write(tensors, name, metadata={KEY: header})
        with open(name, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, target)
    except (OSError, SafetensorError) as error:
        needed = sum(array.nbytes for array in tensors.values()) / 2**20
        raise OSError(f"cannot write {target} ({needed:.1f} MB): {error}") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
    return target


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _tensors(trace: Trace, frames: bool) -> dict[str, NDArray[Any]]:
    records = trace.records
    if not records:
        raise ValueError("cannot save a trace without a finished step")
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
    if frames:
        tensors["image"] = trace.image
        tensors["frames.prediction"] = trace.frames("prediction")
        tensors["frames.latents"] = trace.frames("latents")
    return {name: np.ascontiguousarray(array) for name, array in tensors.items()}


def open_trace(path: str | os.PathLike[str]) -> Trace:
    """Read a trace written by `Trace.save`.

    Raises FileNotFoundError, and TraceFileError (a ValueError) for a file that is no trace, is damaged, contradicts
    itself, or was written by a newer version.
    """
    source = Path(path)
    if not source.is_file():
        raise FileNotFoundError(f"there is no trace file {source}")
    with open(source, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > _MAX_HEADER:
        raise TraceFileError(f"{source} is no trace file: its header claims {length} bytes")
    try:
        with _open(source, framework="numpy") as file:
            metadata: dict[str, str] = file.metadata() or {}
            text = metadata.get(KEY)
            if text is None:
                raise TraceFileError(f"{source} is a safetensors file but holds no trace")
            header = read_header(json.loads(text))
            names: list[str] = list(file.keys())
            _check(header, {name: _shape(file.get_slice(name)) for name in names})
            tensors: dict[str, NDArray[Any]] = {name: file.get_tensor(name) for name in names}
    except TraceFileError as error:
        raise TraceFileError(f"cannot open {source}: {error}") from None
    except (SafetensorError, ValueError, RecursionError) as error:
        raise TraceFileError(f"{source} is no trace file, or it is damaged: {error}") from error
    return _assemble(header, tensors)


def _shape(part: Any) -> tuple[str, tuple[int, ...]]:
    return str(part.get_dtype()), tuple(int(size) for size in part.get_shape())


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

    _, channels, height, width = shape("latents", ("F16", "F32"), steps + 1, None, None, None)
    shape("predictions", (found["latents"][0],), steps, channels, height, width)
    known = {"latents", "predictions"}
    if "guidance" in found:
        shape("guidance", ("F32",), steps, height, width)
        known.add("guidance")
    counts = {"maps": words}
    if others is not None and "negative.0" in found:
        counts["negative"] = others
    if "outputs.0" in found:
        counts["outputs"] = words
    for part, count in counts.items():
        if header.keep == "words":
            if header.layers:
                shape(f"{part}.0", ("F16",), steps, 1, count, None, None)
                known.add(f"{part}.0")
            continue
        for index, layer in enumerate(header.layers):
            heads = layer.heads if header.keep == "heads" else 1
            shape(f"{part}.{index}", ("F16",), steps, heads, count, *layer.grid)
            known.add(f"{part}.{index}")
    if "image" in found:
        rows, columns, _ = shape("image", ("U8",), None, None, 3)
        for name in ("frames.prediction", "frames.latents"):
            shape(name, ("U8",), steps, rows, columns, 3)
        known |= {"image", "frames.prediction", "frames.latents"}
    if extra := found.keys() - known:
        raise TraceFileError(f"it holds parts that no trace has: {', '.join(sorted(extra)[:5])}")


def _assemble(header: Header, tensors: dict[str, NDArray[Any]]) -> Trace:
    from .model import Record, Trace

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
    frames = {kind: tensors[f"frames.{kind}"] for kind in ("prediction", "latents") if f"frames.{kind}" in tensors}
    return Trace(
        prompt=header.prompt,
        negative_prompt=header.negative_prompt,
        words=header.words,
        negative_words=header.negative_words,
        layers=header.layers,
        keep=header.keep,
        meta=header.meta,
        records=records,
        image=tensors.get("image"),
        frames=frames,
    )


__all__ = ["FORMAT", "TraceFileError", "open_trace", "save"]
