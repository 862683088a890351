"""Checks the tensors of a trace file against its header."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from diffvis_widget.traces.errors import TraceFileError
from diffvis_widget.traces.printable import printable

from .header import Header
from .image_codec import MAX_PIXELS, MAX_TOTAL

FRAME_KINDS = ("prediction", "latents")
Form = tuple[str, tuple[int, ...]]
"""Dtype and shape of a tensor."""


def check_tensors(header: Header, forms: Mapping[str, Form]) -> set[str]:
    """Checks the tensors of the run itself.

    Args:
        header: the header of the file.
        forms: dtype and shape of all tensors in the file, by name.

    Returns:
        The names of the tensors that were checked; the others must belong to stored results.

    Raises:
        TraceFileError: a tensor is missing, or contradicts the header.
    """
    tensors = _Tensors(forms)
    steps = len(header.steps)
    is_video = len(forms["latents"][1]) == 5 if "latents" in forms else False
    _, channels, *size = tensors.check("latents", ("float16", "float32"), steps + 1, *[None] * (4 if is_video else 3))
    frames = size[:-2]
    if frames == [1]:
        raise TraceFileError("its latents have an axis for a single frame")
    tensors.check("predictions", (forms["latents"][0],), steps, channels, *size)
    if "guidance" in forms:
        tensors.check("guidance", ("float32",), steps, *size)
    _check_maps(tensors, header, frames)
    _check_final_images(tensors, is_video)
    _check_step_images(tensors, header, is_video)
    return tensors.checked


class _Tensors:
    """The tensors of a file by name, and which of them were checked.

    Args:
        forms: dtype and shape of all tensors, by name.
    """

    def __init__(self, forms: Mapping[str, Form]) -> None:
        self._forms = forms
        self.checked: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._forms

    def check(self, name: str, dtypes: tuple[str, ...], *expected: int | None) -> tuple[int, ...]:
        """Checks that a tensor is there, has one of some dtypes, and the expected shape without a side of 0.

        Args:
            name: of the tensor.
            dtypes: those that are allowed.
            *expected: the length of each side; None for any.

        Returns:
            Its shape.

        Raises:
            TraceFileError: it is missing, or contradicts the header.
        """
        if name not in self._forms:
            raise TraceFileError(f"its part {name!r} is missing")
        dtype, shape = self._forms[name]
        fits = len(shape) == len(expected) and all(
            length is None or size == length for size, length in zip(shape, expected, strict=True)
        )
        if dtype not in dtypes or not fits or 0 in shape:
            raise TraceFileError(f"its part {name!r} is {dtype} {shape}, which contradicts its header")
        self.checked.add(name)
        return shape


def _check_maps(tensors: _Tensors, header: Header, frames: Sequence[int]) -> None:
    """Attention maps; frames: (F,) of a video, else empty."""
    steps, words = len(header.steps), len(header.words)
    counts = {"maps": words}
    if header.negative_words is not None and "negative.0" in tensors:
        counts["negative"] = len(header.negative_words)
    if "outputs.0" in tensors:
        counts["outputs"] = words
    for part, count in counts.items():
        if header.keep == "words":
            if header.layers:
                tensors.check(f"{part}.0", ("float16",), steps, 1, count, *frames, None, None)
            continue
        for index, layer in enumerate(header.layers):
            heads = layer.heads if header.keep == "heads" else 1
            tensors.check(f"{part}.{index}", ("float16",), steps, heads, count, *frames, *layer.grid)
    if header.layers and "refined" in tensors:
        tensors.check("refined", ("float16",), steps, words, *frames, None, None)


def _check_final_images(tensors: _Tensors, is_video: bool) -> None:
    for name in ("image", "decoded_image"):
        if name not in tensors:
            continue
        *count, rows, columns, _ = tensors.check(name, ("uint8",), *[None] * (3 if is_video else 2), 3)
        if rows * columns > MAX_PIXELS or (count and count[0] * rows * columns * 3 > MAX_TOTAL):
            shown = " x ".join(map(str, (*count, columns, rows)))
            raise TraceFileError(f"its part {name!r} is {shown} pixels, more than a trace may have")


def _check_step_images(tensors: _Tensors, header: Header, is_video: bool) -> None:
    if header.images is None:
        return
    steps = len(header.steps)
    height, width = header.images.size
    count = steps * (header.images.frames or 1)
    if (header.images.frames is not None) != is_video:
        raise TraceFileError("its images are not those of the latents: one is a video, the other is not")
    if height * width > MAX_PIXELS or count * height * width * 3 > MAX_TOTAL:
        raise TraceFileError(f"its {steps} images are {width} x {height} pixels, more than a trace may have")
    if sorted(header.images.lengths) != sorted(FRAME_KINDS):
        raise TraceFileError(f"its images are of the kinds {', '.join(map(printable, header.images.lengths))[:80]}")
    for kind, lengths in header.images.lengths.items():
        if len(lengths) != count:
            raise TraceFileError(f"it has {len(lengths)} images and {steps} steps")
        tensors.check(f"pictures.{kind}", ("uint8",), sum(lengths))
