"""LongCat-Image: joint attention to a prompt whose quoted parts are tokenized by characters; padding counts."""

from __future__ import annotations

from diffvis_widget.tracer.guidance import norm_limiting

from . import sequence_layouts
from .family import Family, modules_ending
from .token_streams import TokenStream, padded_behind

FAMILY = Family(
    name="LongCat-Image",
    denoisers=("LongCatImageTransformer2DModel",),
    attention_modules=modules_ending(".attn"),
    token_streams=(TokenStream(("tokenizer",), select=padded_behind, in_pieces=True),),
    batch_axes={"img_ids": None, "txt_ids": None},
    embedding_indices=(0, None),
    guidance_candidates=norm_limiting(2),
    sequence_layout=sequence_layouts.text_first,
    patch_size=2,
    packing=2,
)
