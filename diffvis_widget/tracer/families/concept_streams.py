"""How a family computes the keys of words outside the prompt, which its denoiser never sees.

In cross-attention a layer's own projection makes keys of any text embeddings. In joint attention the keys of a layer
depend on all blocks before it, so concept tokens go through the blocks as the text tokens do, with one difference: they
attend to the image and to each other, and nothing attends to them (ConceptAttention, arXiv 2502.04320).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diffvis_widget._compat.float32_matmul import matmul_float32
from diffvis_widget.tracer.log_sum_exp import without_autocast

_HALF_LIMIT = torch.finfo(torch.float16).max

ConceptKeys = Callable[[nn.Module, Tensor], Tensor]
"""(cross-attention module, text embeddings (n, width)) -> their keys in that layer, (heads, n, head width)."""


@dataclass(frozen=True)
class BlockCall:
    """A block of a transformer while it runs, and the image tokens in its attention.

    Attributes:
        block: The block, or the module whose argument names the tokens' modulation.
        attention: Its attention module.
        arguments: Arguments of the block by name, all rows of the batch.
        rows: Rows of the conditional branch, one per image.
        image_keys: (images, heads, image tokens, head width), as the attention received them.
        image_values: Of the same shape.
        factor: Factor of the attention scores.
    """

    block: nn.Module
    attention: Any
    arguments: Mapping[str, Any]
    rows: slice
    image_keys: Tensor
    image_values: Tensor
    factor: float


@dataclass(frozen=True)
class ConceptAttention:
    """Concept tokens in one layer of joint attention.

    Attributes:
        keys: (images, heads, n, head width), what image tokens would attend to.
        outputs: float32 (images, heads, n, head width), their attention outputs before the projection.
        tokens: (images, n, channels) behind the block; None where no block follows that needs them.
    """

    keys: Tensor
    outputs: Tensor
    tokens: Tensor | None


@dataclass(frozen=True)
class ConceptStream:
    """How concept tokens pass through the blocks of a transformer.

    Attributes:
        embed: (denoiser, text embeddings (n, width)) -> the tokens that enter the first block, (n, channels).
        attend: (block, concept tokens (images, n, channels)) -> their attention and the tokens behind the block.
    """

    embed: Callable[[nn.Module, Tensor], Tensor]
    attend: Callable[[BlockCall, Tensor], ConceptAttention]


def embed_context(denoiser: nn.Module, embeddings: Tensor) -> Tensor:
    """Project text embeddings as SD3 and FLUX.1 do.

    Args:
        denoiser: A transformer with a `context_embedder`.
        embeddings: (n, width).

    Returns:
        (n, channels).
    """
    project: Any = getattr(denoiser, "context_embedder")  # noqa: B009 - a module of the denoiser, which torch types loosely
    return project(embeddings)


def split_heads(tokens: Tensor, head_width: int) -> Tensor:
    """Lay out the channels of tokens by head.

    Args:
        tokens: (images, n, heads * head width).
        head_width: Channels of a head.

    Returns:
        (images, heads, n, head width).
    """
    return tokens.unflatten(-1, (-1, head_width)).transpose(1, 2)


def attend_to_image(call: BlockCall, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention of concept tokens to themselves and to the image, by a softmax in float32.

    There are few of them, so that their scores with all image tokens are held at once.

    Args:
        call: The block.
        queries: (images, heads, n, head width) of the concept tokens, as the other two.
        keys: Their keys.
        values: Their values.

    Returns:
        float32 (images, heads, n, head width).
    """
    all_keys = torch.cat([keys, call.image_keys.to(keys.dtype)], dim=2).float()
    all_values = torch.cat([values, call.image_values.to(values.dtype)], dim=2).float()
    with without_autocast(keys.device):
        scores = matmul_float32(queries.float(), all_keys.transpose(-1, -2), call.factor)
        return matmul_float32(scores.softmax(dim=-1), all_values)


def pass_context(call: BlockCall, tokens: Tensor, rotate: Callable[[Tensor], Tensor] | None = None) -> ConceptAttention:
    """Pass concept tokens through a block that keeps text and image apart (MMDiT, arXiv 2403.03206), as text.

    Args:
        call: The block, `JointTransformerBlock` or `FluxTransformerBlock` of diffusers.
        tokens: (images, n, channels).
        rotate: Applies the rotary embedding of a text token to (images, heads, n, head width); None: there is none.

    Returns:
        Their attention, and the tokens behind the block.
    """
    block: Any = call.block
    attention, modulation = call.attention, call.arguments["temb"][call.rows]
    is_last = bool(getattr(block, "context_pre_only", False))
    if is_last:
        normed = block.norm1_context(tokens, modulation)
        gate = shift = scale = feed_forward_gate = modulation  # not used: no block follows
    else:
        normed, gate, shift, scale, feed_forward_gate = block.norm1_context(tokens, emb=modulation)
    width = call.image_keys.shape[-1]
    queries, keys, values = (
        split_heads(project(normed), width)
        for project in (attention.add_q_proj, attention.add_k_proj, attention.add_v_proj)
    )
    if attention.norm_added_q is not None:
        queries = attention.norm_added_q(queries)
    if attention.norm_added_k is not None:
        keys = attention.norm_added_k(keys)
    if rotate is not None:
        queries, keys = rotate(queries), rotate(keys)
    outputs = attend_to_image(call, queries, keys, values)
    if is_last:
        return ConceptAttention(keys, outputs, None)
    attended = attention.to_add_out(outputs.transpose(1, 2).flatten(2).to(tokens.dtype))
    tokens = tokens + gate[:, None] * attended
    normed = block.norm2_context(tokens) * (1 + scale[:, None]) + shift[:, None]
    tokens = tokens + feed_forward_gate[:, None] * block.ff_context(normed)
    return ConceptAttention(keys, outputs, limited(tokens))


def limited(tokens: Tensor) -> Tensor:
    """Limit half-precision tokens to finite numbers, as the blocks of diffusers do.

    Args:
        tokens: Of any shape.

    Returns:
        The tokens.
    """
    return tokens.clip(-_HALF_LIMIT, _HALF_LIMIT) if tokens.dtype == torch.float16 else tokens
