"""Fused attention with its log-sum-exp, by operators that torch keeps private.

`scaled_dot_product_attention` does not return the log-sum-exp that its kernels compute
(https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html); the operators
`aten._scaled_dot_product_*` do, and `torch._fused_sdp_choice` returns which of them it would use. Where these names are
missing or have another signature, None is returned, and callers compute the log-sum-exp themselves.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend


def chosen_kernel(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None, enable_gqa: bool
) -> int | None:
    """The kernel that scaled_dot_product_attention would choose now; users may switch kernels off.

    Args:
        query: (batch, heads, queries, width).
        key: (batch, key heads, keys, width).
        value: (batch, key heads, keys, value width).
        mask: Attention mask, or None.
        scale: Factor of the scores, or None.
        enable_gqa: Whether several heads share one key head.

    Returns:
        A value of `torch.nn.attention.SDPBackend`, or None where torch does not tell.
    """
    try:
        return torch._fused_sdp_choice(
            query, key, value, attn_mask=mask, dropout_p=0.0, is_causal=False, scale=scale, enable_gqa=enable_gqa
        )
    except (AttributeError, TypeError):
        return None


def fused_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None, kernel: int | None
) -> tuple[Tensor, Tensor] | None:
    """Compute attention and its log-sum-exp by one kernel.

    Args:
        query: (batch, heads, queries, width).
        key: (batch, heads, keys, width).
        value: (batch, heads, keys, value width).
        mask: Boolean or added to the scores; None: no mask.
        scale: Factor of the scores; None: 1 / sqrt(width).
        kernel: Result of `chosen_kernel`.

    Returns:
        The output (batch, heads, queries, value width) and the log-sum-exp, float32 (batch, heads, queries); None
        where that kernel does not return it.
    """
    try:
        parts = _operator(query, key, value, mask, scale, kernel)
    except (AttributeError, TypeError):
        return None
    if parts is None:
        return None
    # some kernels pad the rows
    return parts[0], parts[1] if query.device.type == "cpu" else parts[1].flatten(2)[..., : query.shape[2]].float()


def _operator(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None, kernel: int | None
) -> Any:
    aten = torch.ops.aten
    if query.device.type == "cpu" and kernel == SDPBackend.FLASH_ATTENTION.value:
        if mask is not None and mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, -torch.inf)
        return aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, attn_mask=mask, scale=scale)
    if query.device.type != "cuda" or mask is not None or query.shape[-1] % 8:
        return None
    if kernel == SDPBackend.FLASH_ATTENTION.value:
        return aten._scaled_dot_product_flash_attention(query, key, value, scale=scale)
    if kernel == SDPBackend.EFFICIENT_ATTENTION.value:
        return aten._scaled_dot_product_efficient_attention(query, key, value, None, True, scale=scale)
    if kernel == SDPBackend.CUDNN_ATTENTION.value:
        return aten._scaled_dot_product_cudnn_attention(query, key, value, None, True, scale=scale)
    return None
