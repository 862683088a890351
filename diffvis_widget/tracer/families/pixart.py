"""PixArt-α and PixArt-Σ: cross-attention to T5."""

from __future__ import annotations

from .family import Family, modules_ending
from .token_streams import TokenStream

FAMILY = Family(
    name="PixArt",
    denoisers=("PixArtTransformer2DModel",),
    attention_kind="cross",
    attention_modules=modules_ending(".attn2"),
    self_attention=modules_ending(".attn1"),
    token_streams=(TokenStream(("tokenizer",)),),
    embedding_indices=(0, 2),
    patch_size=2,
)
