"""Lumina 2: joint attention without padding, guidance that keeps the norm of each row of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from diffvis_widget.tracer.guidance import norm_preserving

from . import sequence_layouts
from .family import Family, modules_ending
from .token_streams import TokenStream, attended_tokens


def _masked_lengths(results: Sequence[Any]) -> list[int]:
    """The denoiser leaves out the padding of each row."""
    mask: Tensor = results[0][1]
    return [int(length) for length in mask.sum(dim=1).tolist()]


FAMILY = Family(
    name="Lumina 2",
    denoisers=("Lumina2Transformer2DModel",),
    attention_modules=modules_ending(".attn"),
    token_streams=(TokenStream(("tokenizer",), select=attended_tokens),),
    embedding_indices=(0, 2),
    text_lengths=_masked_lengths,
    guidance_candidates=norm_preserving(0),
    sequence_layout=sequence_layouts.text_first,
    patch_size=2,
)
