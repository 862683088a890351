"""The log-sum-exp of each row of attention scores, without ever holding image x image scores.

The kernels behind scaled_dot_product_attention compute it, and some of torch's operators return it. Such an operator
takes the place of the public function only after its output was bit-equal for that device, dtype, shape, layout and
mask, and its log-sum-exp was correct. Elsewhere the log-sum-exp is computed in chunks of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from diffvis_widget._compat.float32_matmul import matmul_float32
from diffvis_widget._compat.torch_sdp import chosen_kernel, fused_attention

from .attention_calls import AttentionCall, apply_mask

_CHUNK = 2**22  # scores that are held at once
_trusted: dict[tuple[Any, ...], bool] = {}


def attend(call: AttentionCall, original: Callable[[], Tensor]) -> tuple[Tensor, Tensor | None]:
    """Compute attention and, where a kernel returns it, its log-sum-exp.

    Args:
        call: The call of scaled_dot_product_attention.
        original: Computes the call by the public function.

    Returns:
        The output, bit for bit that of `original()`, and the log-sum-exp, float32 (batch, heads, queries), or None.
    """
    needs_gradient = torch.is_grad_enabled() and any(
        tensor.requires_grad for tensor in (call.query, call.key, call.value)
    )
    if needs_gradient or call.dropout_p or call.is_causal:
        return original(), None
    kernel = chosen_kernel(call.query, call.key, call.value, call.attn_mask, call.scale, call.enable_gqa)
    device = call.query.device.type
    autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    signature = kernel, autocast, *_signature(call)
    if _trusted.get(signature) and (result := _fused(call, kernel)) is not None:
        return result
    output = original()
    if signature in _trusted:
        return output, None
    result = _fused(call, kernel)
    with without_autocast(call.query.device):
        trusted = result is not None and torch.equal(result[0], output) and _is_log_sum_exp(result[1], call)
    _trusted[signature] = trusted
    return output, result[1] if result is not None and trusted else None


def chunked_log_sum_exp(query: Tensor, key: Tensor, mask: Tensor | None, factor: float) -> Tensor:
    """Compute the log-sum-exp exactly, a chunk of queries at a time.

    Args:
        query: float32 (batch, heads, queries, width).
        key: float32 (batch, heads, keys, width).
        mask: Boolean or added to the scores; None: no mask.
        factor: Factor of the scores.

    Returns:
        float32 (batch, heads, queries).
    """
    batch, heads, rows, _ = query.shape
    size = max(1, _CHUNK // (batch * heads * key.shape[2]))
    parts: list[Tensor] = []
    for start in range(0, rows, size):
        chunk = slice(start, start + size)
        scores = matmul_float32(query[:, :, chunk], key.transpose(-1, -2), factor)
        part = mask if mask is None or mask.shape[-2] == 1 else mask[..., chunk, :]
        parts.append(apply_mask(scores, part).logsumexp(-1))
    return torch.cat(parts, dim=-1)


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Keep float32 products in float32 where the caller runs under autocast.

    Args:
        device: Where the products are computed.

    Returns:
        A context manager.
    """
    if not torch.is_autocast_enabled(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def _signature(call: AttentionCall) -> tuple[Any, ...]:
    tensors = (call.query, call.key, call.value, call.attn_mask)
    described = [
        None if tensor is None else (tensor.shape, tensor.stride(), tensor.dtype, tensor.device) for tensor in tensors
    ]
    return (*described, call.is_causal, call.scale, call.enable_gqa)


def _fused(call: AttentionCall, kernel: int | None) -> tuple[Tensor, Tensor] | None:
    if call.enable_gqa and call.query.shape[1] != call.key.shape[1]:
        return None
    return fused_attention(call.query, call.key, call.value, call.attn_mask, call.scale, kernel)


def _is_log_sum_exp(values: Tensor, call: AttentionCall) -> bool:
    """Whether a kernel returned the natural log-sum-exp of the scores: compared on some rows, once per kind of call."""
    if values.shape != call.query.shape[:3]:
        return False
    rows = slice(None, None, max(1, values.shape[2] // 8))
    mask = call.attn_mask
    part = mask[..., rows, :] if mask is not None and mask.shape[-2] > 1 else mask
    expected = chunked_log_sum_exp(call.query[:, :, rows].float(), call.key.float(), part, call.factor)
    finite = expected.isfinite()  # kernels differ on fully masked rows
    return torch.allclose(values[:, :, rows].float()[finite], expected[finite], rtol=1e-3, atol=1e-3)
