"""What one place of the image attends to, as the fields of a reply to the page."""

from __future__ import annotations

from collections.abc import Sequence

from diffvis_widget.traces import Trace
from diffvis_widget.traces.attended_positions import token_at
from diffvis_widget.traces.types import Floats

from . import images
from .packed_run import Json, json_number, quantise

REFERENCE_SIZE = 256  # pixels of the longest side of a reference image


def attention_content(trace: Trace, step: int, position: tuple[float, float]) -> tuple[Json, tuple[bytes, ...]]:
    """Computes what a place attends to, in the default layers.

    Args:
        trace: the trace.
        step: index of the step.
        position: (y, x) as shares of the image, 0..1.

    Returns:
        The fields of the reply, and its buffers: the quantised maps one after the other, of the image and of each
        reference image; then the reference images that the trace has, as WebP.

    Raises:
        ValueError: the model cannot be evaluated again.
    """
    joint = bool(trace.layers) and trace.layers[0].kind == "joint"
    maps = trace.attention_maps(position, step)
    grid = int(maps[0].shape[0]), int(maps[0].shape[1])
    row, column = token_at(position, grid)
    place = [row / grid[0], column / grid[1], (row + 1) / grid[0], (column + 1) / grid[1]]
    # the rest of the row is the text's: its words, and padding, which has no value of its own
    text = 1 - sum(float(part.sum()) for part in maps)
    fields: Json = {
        "maps": _entries(maps, joint),
        "place": place,
        "words": json_number(max(text, 0.0)) if joint else None,
        "references": len(trace.references),
    }
    data = b"".join(quantise(part[None])[0].tobytes() for part in maps)
    return fields, (data, *(images.webp(image, REFERENCE_SIZE) for image in trace.references))


def _entries(maps: Sequence[Floats], joint: bool) -> list[Json]:
    return [
        {
            "grid": [int(side) for side in part.shape],
            "scale": quantise(part[None])[1][0],
            "share": json_number(float(part.sum())) if joint else None,
        }
        for part in maps
    ]
