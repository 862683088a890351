"""Ideogram 4: joint attention in one sequence that is padded on the left; another model predicts without a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from diffvis_widget.traces.types import Size

from . import sequence_layouts
from .family import Family, modules_ending
from .flux2 import unpack_squares, without_batch_norm
from .token_streams import TokenStream, padded_in_front


def _lengths(results: Sequence[Any]) -> list[int]:
    """The text ends at the last row that is not zero, before the places of the image; without a text all are zero."""
    rows: Tensor = results[0][0]
    filled = [row.any(dim=1).nonzero() for row in rows]
    return [1 + int(places[-1]) if len(places) else len(row) for places, row in zip(filled, rows, strict=True)]


def _token_grid(pipe: Any, arguments: Mapping[str, Any], side: int) -> Size:
    """The size of the call: `prepare_latents` is given the number of tokens alone."""
    height, width = (int(arguments[name]) // (pipe.vae_scale_factor * pipe.patch_size) for name in ("height", "width"))
    return height, width


def _scale(vae: Any, latents: Tensor) -> Tensor:
    """As FLUX.2, but with the channels of a square's pixel next to one another."""
    squares = without_batch_norm(vae, latents, vae.config.batch_norm_eps).flatten(2).mT
    return unpack_squares(squares.unflatten(2, (4, -1)).transpose(2, 3).flatten(2), latents)


FAMILY = Family(
    name="Ideogram 4",
    denoisers=("Ideogram4Transformer2DModel",),
    attention_modules=modules_ending(".attention"),
    token_streams=(TokenStream(("tokenizer",), select=padded_in_front),),
    embedding_indices=(0, None),
    text_lengths=_lengths,
    sequence_layout=sequence_layouts.text_first,
    packing=1,
    packed_size=_token_grid,
    input_ends_with_image=True,
    output_ends_with_image=True,
    scale_for_vae=_scale,
)
