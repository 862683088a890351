"""Wan 2.1 and 2.2, from text or an image: cross-attention to UMT5; Wan 2.2 (A14B) has two transformers in turn."""

from __future__ import annotations

from .family import Family, modules_ending, pipelines_named
from .token_streams import TokenStream

FAMILY = Family(
    name="Wan",
    denoisers=("WanTransformer3DModel",),
    accepts=pipelines_named("WanPipeline", "WanImageToVideoPipeline"),
    attention_kind="cross",
    attention_modules=modules_ending(".attn2"),
    token_streams=(TokenStream(("tokenizer",)),),
    patch_size=2,
    traces_videos=True,
    second_denoiser="transformer_2",
)
