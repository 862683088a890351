"""FLUX.3: text and image each pass through blocks of their own, then attend together; padding counts."""

from __future__ import annotations

from . import sequence_layouts
from .family import Family, modules_ending
from .flux2 import scale_by_batch_norm
from .token_streams import TokenStream

FAMILY = Family(
    name="FLUX.3",
    denoisers=("Flux3Transformer2DModel",),
    attention_modules=modules_ending(".attn", inside="single_transformer_blocks"),
    token_streams=(TokenStream(("tokenizer",)),),
    batch_axes={"img_ids": None, "txt_ids": None, "image_cond_ids": None},
    embedding_indices=(0, None),
    sequence_layout=sequence_layouts.text_first,
    packing=1,
    scale_for_vae=scale_by_batch_norm,
)
