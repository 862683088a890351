"""Anima: cross-attention of Cosmos to the tokens of T5, which a text conditioner fills from Qwen."""

from __future__ import annotations

from .family import Family, modules_ending, pipelines_named
from .token_streams import TokenStream, padded_behind

FAMILY = Family(
    name="Anima",
    denoisers=("CosmosTransformer3DModel",),
    accepts=pipelines_named("AnimaModularPipeline"),
    attention_kind="cross",
    attention_modules=modules_ending(".attn2"),
    self_attention=modules_ending(".attn1"),
    token_streams=(TokenStream(("t5_tokenizer",), select=padded_behind),),
    embedding_indices=(0, None),
    patch_size=2,
)
