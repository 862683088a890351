"""Lumina-Next: cross-attention to Gemma; the conditional branch comes first in the batch."""

from __future__ import annotations

from diffvis_widget.tracer.guidance import first_channels

from .family import Family, modules_ending
from .token_streams import TokenStream

FAMILY = Family(
    name="Lumina-Next",
    denoisers=("LuminaNextDiT2DModel",),
    attention_kind="cross",
    attention_modules=modules_ending(".attn2"),
    self_attention=modules_ending(".attn1"),
    token_streams=(TokenStream(("tokenizer",)),),
    embedding_indices=(0, 2),
    negative_first=False,
    guidance_candidates=first_channels(3),
    patch_size=2,
)
