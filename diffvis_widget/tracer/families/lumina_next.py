"""Lumina-Next: cross-attention to Gemma; the conditional branch comes first in the batch."""

from __future__ import annotations

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
    patch_size=2,
)
