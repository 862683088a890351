"""FLUX.1 dev, schnell and Kontext: joint attention; T5 gives the text tokens, CLIP only modulates."""

from __future__ import annotations

from . import sequence_layouts
from .family import Family, modules_ending
from .token_streams import TokenStream

FAMILY = Family(
    name="FLUX.1",
    denoisers=("FluxTransformer2DModel",),
    attention_modules=modules_ending(".attn"),
    token_streams=(TokenStream(("tokenizer_2",)),),
    batch_axes={"img_ids": None, "txt_ids": None},
    embedding_indices=(0, None),
    sequence_layout=sequence_layouts.text_first,
    patch_size=2,
    packing=2,
)
