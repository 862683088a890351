"""Checks the tensors of a trace file against its header."""

from __future__ import annotations

from collections.abc import Mapping

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
    steps, words = len(header.steps), len(header.words)
    checked: set[str] = set()

    def check(name: str, dtypes: tuple[str, ...], *expected: int | None) -> tuple[int, ...]:
        if name not in forms:
            raise TraceFileError(f"its part {name!r} is missing")
        dtype, shape = forms[name]
        fits = len(shape) == len(expected) and all(
            length is None or size == length for size, length in zip(shape, expected, strict=True)
        )
        if dtype not in dtypes or not fits or 0 in shape:
            raise TraceFileError(f"its part {name!r} is {dtype} {shape}, which contradicts its header")
        checked.add(name)
        return shape

    _, channels, height, width = check("latents", ("float16", "float32"), steps + 1, None, None, None)
    check("predictions", (forms["latents"][0],), steps, channels, height, width)
    if "guidance" in forms:
        check("guidance", ("float32",), steps, height, width)
    counts = {"maps": words}
    if header.negative_words is not None and "negative.0" in forms:
        counts["negative"] = len(header.negative_words)
    if "outputs.0" in forms:
        counts["outputs"] = words
    for part, count in counts.items():
        if header.keep == "words":
            if header.layers:
                check(f"{part}.0", ("float16",), steps, 1, count, None, None)
            continue
        for index, layer in enumerate(header.layers):
            heads = layer.heads if header.keep == "heads" else 1
            check(f"{part}.{index}", ("float16",), steps, heads, count, *layer.grid)
    if header.layers and "refined" in forms:
        check("refined", ("float16",), steps, words, None, None)
    for name in ("image", "decoded_image"):
        if name not in forms:
            continue
        rows, columns, _ = check(name, ("uint8",), None, None, 3)
        if rows * columns > MAX_PIXELS:
            raise TraceFileError(f"its part {name!r} is {columns} x {rows} pixels, more than a trace may have")
    if header.images is not None:
        height, width = header.images.size
        if height * width > MAX_PIXELS or steps * height * width * 3 > MAX_TOTAL:
            raise TraceFileError(f"its {steps} images are {width} x {height} pixels, more than a trace may have")
        if sorted(header.images.lengths) != sorted(FRAME_KINDS):
            raise TraceFileError(f"its images are of the kinds {', '.join(map(printable, header.images.lengths))[:80]}")
        for kind, lengths in header.images.lengths.items():
            if len(lengths) != steps:
                raise TraceFileError(f"it has {len(lengths)} images and {steps} steps")
            check(f"pictures.{kind}", ("uint8",), sum(lengths))
    return checked
