"""Kandinsky 5 for images: cross-attention to Qwen's tokens; the loop keeps channels behind height and width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from diffvis_widget.tracer.words import Token

from .family import Family, modules_ending, pipelines_named
from .token_streams import TokenStream, attended_tokens


def _after_template(pipe: Any, tokens: Sequence[Token], length: int) -> list[Token]:
    """Neither padding nor the beginning of the template."""
    return attended_tokens(pipe, tokens, length)[int(pipe.prompt_template_encode_start_idx) :]


def _scale(vae: Any, latents: Tensor) -> Tensor:
    return latents / vae.config.scaling_factor


FAMILY = Family(
    name="Kandinsky 5",
    denoisers=("Kandinsky5Transformer3DModel",),
    accepts=pipelines_named("Kandinsky5T2IPipeline"),
    attention_kind="cross",
    attention_modules=modules_ending(".cross_attention"),
    self_attention=modules_ending(".self_attention", inside="visual_transformer_blocks"),
    token_streams=(TokenStream(("tokenizer",), select=_after_template),),
    batch_axes={"visual_rope_pos": None, "text_rope_pos": None, "scale_factor": None},
    embedding_indices=(0, None),
    patch_size=2,
    channels_last=True,
    scale_for_vae=_scale,
)
