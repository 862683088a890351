"""Chroma: FLUX.1's joint attention with classifier-free guidance."""

from __future__ import annotations

from . import sequence_layouts
from .family import Family, modules_ending
from .token_streams import TokenStream

FAMILY = Family(
    name="Chroma",
    denoisers=("ChromaTransformer2DModel",),
    attention_modules=modules_ending(".attn"),
    token_streams=(TokenStream(("tokenizer",)),),
    batch_axes={"img_ids": None, "txt_ids": None},
    embedding_indices=(0, 3),
    sequence_layout=sequence_layouts.text_first,
    patch_size=2,
    packing=2,
)
