"""Qwen-Image 2.1: image tokens attend to text and image; the text's keys are computed once and stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diffvis_widget.tracer.words import Token
from diffvis_widget.traces.types import Size

from . import sequence_layouts
from .family import Family, modules_ending
from .token_streams import TokenStream, attended_tokens


def _after_system_message(pipe: Any, tokens: Sequence[Token], length: int) -> list[Token]:
    """Neither padding, which stands on the left, nor the system message."""
    return attended_tokens(pipe, tokens, length)[-length:]


def _latent_size(pipe: Any, arguments: Mapping[str, Any], side: int) -> Size:
    """The pipeline rounds to pairs of latent pixels, and packs each by itself."""
    height, width = (2 * (int(arguments[name]) // (2 * pipe.vae_scale_factor)) for name in ("height", "width"))
    return height, width


FAMILY = Family(
    name="Qwen-Image 2.1",
    denoisers=("QwenImage21Transformer2DModel",),
    attention_modules=modules_ending(".attn"),
    token_streams=(TokenStream(("processor",), select=_after_system_message),),
    embedding_indices=(0, None),
    sequence_layout=sequence_layouts.text_first,
    text_queries=False,
    packing=1,
    packed_size=_latent_size,
    output_ends_with_image=True,
)
