"""FLUX.1 dev, schnell and Kontext: joint attention; T5 gives the text tokens, CLIP only modulates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import sequence_layouts
from .concept_streams import (
    BlockCall,
    ConceptAttention,
    ConceptStream,
    attend_to_image,
    embed_context,
    limited,
    pass_context,
    split_heads,
)
from .family import Family, modules_ending
from .reference_grids import from_position_ids
from .token_streams import TokenStream


def _pass_block(call: BlockCall, tokens: Tensor) -> ConceptAttention:
    """Pass concept tokens through a block: a double one, or a single one, where text and image share the weights."""
    from diffusers.models.embeddings import apply_rotary_emb

    rotary = call.arguments.get("image_rotary_emb")

    def rotate(heads: Tensor) -> Tensor:
        if rotary is None:
            return heads
        # all text tokens have the position of the first one
        tables: Any = tuple(part[:1].expand(heads.shape[2], -1) for part in rotary)  # cosine, sine
        rotated: Any = apply_rotary_emb(heads, tables)
        return rotated

    if hasattr(call.block, "norm1_context"):
        return pass_context(call, tokens, rotate)
    block: Any = call.block
    attention, modulation = call.attention, call.arguments["temb"][call.rows]
    normed, gate = block.norm(tokens, emb=modulation)
    width = call.image_keys.shape[-1]
    queries, keys, values = (
        split_heads(project(normed), width) for project in (attention.to_q, attention.to_k, attention.to_v)
    )
    queries, keys = rotate(attention.norm_q(queries)), rotate(attention.norm_k(keys))
    outputs = attend_to_image(call, queries, keys, values)
    attended = outputs.transpose(1, 2).flatten(2).to(tokens.dtype)
    hidden = torch.cat([attended, block.act_mlp(block.proj_mlp(normed))], dim=2)
    return ConceptAttention(keys, outputs, limited(tokens + gate[:, None] * block.proj_out(hidden)))


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
    reference_grids=from_position_ids,
    concept_stream=ConceptStream(embed_context, _pass_block),
)
