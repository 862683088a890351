"""Qwen-Image: joint attention to a chat template, an autoencoder for videos, guidance that keeps norms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffvis_widget.tracer.guidance import norm_preserving
from diffvis_widget.tracer.words import Token

from . import sequence_layouts
from .family import Family, modules_ending
from .token_streams import TokenStream, attended_tokens


def _after_template(pipe: Any, tokens: Sequence[Token], length: int) -> list[Token]:
    """Neither padding nor the beginning of the template, whose number of tokens the pipeline states."""
    return attended_tokens(pipe, tokens, length)[pipe.prompt_template_encode_start_idx :][:length]


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
)
