"""Qwen-Image: joint attention to a chat template, an autoencoder for videos, guidance that keeps norms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffvis_widget.tracer.guidance import norm_preserving
from diffvis_widget.tracer.words import Token

from . import sequence_layouts
from .family import Family, modules_ending
from .reference_grids import from_image_shapes
from .token_streams import TokenStream, attended_tokens


def _template_tokens(pipe: Any) -> int:
    """How many tokens of the template's beginning are dropped: as the pipeline states it, or one of its blocks."""
    remaining = [pipe]
    while remaining:
        part = remaining.pop()
        number = getattr(part, "prompt_template_encode_start_idx", None)
        if number is not None:
            return int(number)
        blocks = getattr(part, "blocks" if part is pipe else "sub_blocks", None)
        remaining += [] if blocks is None else [blocks] if part is pipe else blocks.values()
    raise ValueError(f"{type(pipe).__name__} does not state prompt_template_encode_start_idx")


def _after_template(pipe: Any, tokens: Sequence[Token], length: int) -> list[Token]:
    """Neither padding nor the beginning of the template."""
    return attended_tokens(pipe, tokens, length)[_template_tokens(pipe) :][:length]


FAMILY = Family(
    name="Qwen-Image",
    denoisers=("QwenImageTransformer2DModel",),
    attention_modules=modules_ending(".attn"),
    token_streams=(TokenStream(("tokenizer",), select=_after_template),),
    embedding_indices=(0, None),
    guidance_candidates=norm_preserving(2),
    sequence_layout=sequence_layouts.text_first,
    patch_size=2,
    packing=2,
    reference_grids=from_image_shapes,
)
