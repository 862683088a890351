"""Writes a trace file, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from diffvis_widget.arguments import file_path
from diffvis_widget.traces.results import check_results
from diffvis_widget.traces.types import Floats, FrameKind, Images, Step

from .header import HeaderSource, write_header
from .image_codec import MAX_PIXELS, MAX_TOTAL, EncodedImages, encode_all
from .reader import KEY
from .stored_results import result_tensors
from .validation import FRAME_KINDS
from .whole_file import check_destination, write_bytes_whole, write_whole

# partly untyped in the library
_save_file = cast("Callable[..., None]", safetensors.numpy.save_file)  # pyright: ignore[reportUnknownMemberType]


class SavableTrace(HeaderSource, Protocol):
    """What the writer needs of a trace."""

    @property
    def steps(self) -> list[Step]:
        """The finished steps."""
        ...

    @property
    def is_compact(self) -> bool:
        """Whether it was opened from a compact file."""
        ...

    @property
    def latents(self) -> NDArray[Any]:
        """(T + 1, C, h, w)."""
        ...

    @property
    def predictions(self) -> NDArray[Any]:
        """(T, C, h, w)."""
        ...

    @property
    def guidance(self) -> Floats | None:
        """(T, h, w), None without guidance."""
        ...

    @property
    def image(self) -> Images:
        """(H, W, 3)."""
        ...

    @property
    def decoded_image(self) -> Images:
        """(h, w, 3)."""
        ...

    @property
    def video(self) -> Images | None:
        """(frames, H, W, 3), None for an image."""
        ...

    @property
    def decoded_video(self) -> Images | None:
        """(frames, h, w, 3), None for an image."""
        ...

    def frames(self, kind: FrameKind) -> Images:
        """Decodes the frames of a kind.

        Args:
            kind: of frames.

        Returns:
            uint8 (T, H, W, 3).
        """
        ...

    def encoded_frames(self, kind: str) -> EncodedImages | None:
        """Takes the frames as the file has them that the trace was opened from.

        Args:
            kind: of frames.

        Returns:
            The encoded frames, None where there are none.
        """
        ...


def save(
    trace: SavableTrace,
    path: str | os.PathLike[str],
    *,
    frames: bool = True,
    compact: Callable[[], bytes] | None = None,
) -> Path:
    """Writes a trace; see `Trace.save`.

    Args:
        trace: the trace.
        path: of the file.
        frames: whether to store the decoded frames.
        compact: makes the compact form; None writes the whole form.

    Returns:
        The path.

    Raises:
        OSError: the file cannot be written.
        ValueError: the trace has no finished step, has no latents and ``compact`` is None, or a stored result does not
            belong to it.
        KeyError: a stored result names a word that the prompt does not have.
    """
    target = file_path("path", path)
    check_destination(target)
    if not trace.records:
        raise ValueError("cannot save a trace without a finished step: wait for its run, or run it again")
    if trace.is_compact and compact is None:
        raise ValueError(
            "this trace was opened from a compact file, which has no latents: save it with compact=True, or trace again"
        )
    check_results(trace, trace.stored_results)
    if compact is not None:
        return write_bytes_whole(target, compact())
    images = _encode_frames(trace) if frames else {}
    tensors = _tensors(trace, images)
    header = write_header(trace, images)
    size = sum(array.nbytes for array in tensors.values())
    return write_whole(target, size, lambda name: _save_file(tensors, name, metadata={KEY: header}))


def _encode_frames(trace: SavableTrace) -> dict[str, EncodedImages]:
    """The frames of every step, encoded; those that came from a file are taken as they are."""
    images: dict[str, EncodedImages] = {}
    for kind in FRAME_KINDS:
        encoded = trace.encoded_frames(kind)
        if encoded is None:
            frames = trace.frames(kind)
            height, width = frames.shape[-3:-1]
            if frames.nbytes > MAX_TOTAL or height * width > MAX_PIXELS:
                raise ValueError(
                    f"the images of {len(frames)} steps, {width} x {height} pixels, are more than "
                    "a file may hold: save it with frames=False"
                )
            is_video = frames.ndim == 5  # whose frames without loss would take gigabytes
            flat = encode_all(frames.reshape(-1, height, width, 3), exact=kind == "prediction" and not is_video)
            encoded = EncodedImages(flat, (height, width), frames.shape[1] if is_video else None)
        images[kind] = encoded
    if images["prediction"].size != images["latents"].size:
        raise ValueError("the frames of predictions and of latents differ in size: save it with frames=False")
    return images


def _final_image(trace: SavableTrace) -> Images | None:
    """The final image, or video; None where there is none and nothing to decode it with, or no file may hold it."""
    try:
        image = trace.image if trace.video is None else trace.video
    except ValueError:  # opened from a file without images
        return None
    return image if image.size <= (3 * MAX_PIXELS if image.ndim == 3 else MAX_TOTAL) else None


def _tensors(trace: SavableTrace, images: Mapping[str, EncodedImages]) -> dict[str, NDArray[Any]]:
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
            rows = [
                np.full_like(blank, np.nan) if record.negative is None else record.negative[index] for record in records
            ]
            tensors[f"negative.{index}"] = np.stack(rows)
    if (outputs := records[0].outputs) is not None:
        for index in range(len(outputs)):
            rows = [record.outputs[index] for record in records if record.outputs is not None]
            tensors[f"outputs.{index}"] = np.stack(rows)
    refined = [record.refined for record in records]
    if refined[0] is not None:
        tensors["refined"] = np.stack([maps for maps in refined if maps is not None])
    if (image := _final_image(trace)) is not None:
        tensors["image"] = image
        decoded = trace.decoded_image if image.ndim == 3 else trace.decoded_video
        if decoded is not None and not np.array_equal(decoded, image):
            tensors["decoded_image"] = decoded
    for kind, encoded in images.items():
        tensors[f"pictures.{kind}"] = np.frombuffer(b"".join(map(bytes, encoded.encoded)), dtype=np.uint8)
    tensors |= result_tensors(trace.stored_results)
    return {name: np.ascontiguousarray(array) for name, array in tensors.items()}
