"""The row normaliser of joint attention: the fused kernel's own where its bits are the default's, exact elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from diffvis_widget.tracer import log_sum_exp
from diffvis_widget.tracer.attention_calls import AttentionCall
from diffvis_widget.tracer.log_sum_exp import attend, chunked_log_sum_exp


def tensors(dtype: torch.dtype = torch.float32, keys: int = 70, kv_heads: int = 4) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(3)
    shapes = [(2, 4, 50, 16), (2, kv_heads, keys, 16), (2, kv_heads, keys, 16)]
    return [(2 * torch.randn(shape, generator=random)).to(dtype) for shape in shapes]


def expected(query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, scale: float) -> torch.Tensor:
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    scores = query.double() @ key.double().mT * scale
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask.double()
    return scores.exp().sum(-1).log()


def masks() -> dict[str, torch.Tensor | None]:
    allowed = torch.rand(2, 1, 1, 70, generator=torch.Generator().manual_seed(1)) > 0.3
    allowed[..., 0] = True
    full = allowed.expand(2, 1, 50, 70).clone()
    return {"none": None, "boolean": allowed, "full": full, "added": torch.where(allowed, 0.5, -1e4)}


@pytest.mark.parametrize("mask", ["none", "boolean", "full", "added"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kernels_own_is_used_where_its_output_is_the_default_ones(mask: str, dtype: torch.dtype) -> None:
    query, key, value = tensors(dtype)
    attn_mask = masks()[mask]
    if attn_mask is not None and attn_mask.dtype != torch.bool:
        attn_mask = attn_mask.to(dtype)
    call = AttentionCall(query, key, value, attn_mask, scale=0.2)
    default = F.scaled_dot_product_attention(query, key, value, attn_mask, scale=0.2)
    original_calls: list[int] = []

    def original() -> torch.Tensor:
        original_calls.append(1)
        return F.scaled_dot_product_attention(query, key, value, attn_mask, scale=0.2)

    log_sum_exp._trusted.clear()
    for _ in range(3):
        output, lse = attend(call, original)
        assert torch.equal(output, default)
        assert lse is not None
        # a kernel rounds within what the rule allows half precision: 1e-3 of a probability
        allowed = 1e-5 if dtype == torch.float32 else 2e-4
        torch.testing.assert_close(lse.double(), expected(query, key, attn_mask, 0.2), rtol=0, atol=allowed)
    assert len(original_calls) == 1  # only compared once


def test_another_kernel_is_answered_by_itself() -> None:
    query, key, value = tensors()
    call = AttentionCall(query, key, value)
    with sdpa_kernel(SDPBackend.MATH):
        default = F.scaled_dot_product_attention(query, key, value)
        log_sum_exp._trusted.clear()
        output, lse = attend(call, lambda: F.scaled_dot_product_attention(query, key, value))
    assert torch.equal(output, default)
    assert lse is None


def test_a_kernel_that_answers_otherwise_is_never_used(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, value = tensors()
    honest = log_sum_exp._fused

    def nearly(call: AttentionCall, choice: int) -> Any:
        result = honest(call, choice)
        assert result is not None
        return torch.nextafter(result[0], result[0] + 1), result[1]

    def lying(call: AttentionCall, choice: int) -> Any:
        result = honest(call, choice)
        assert result is not None
        return result[0], result[1] / 0.6931  # as if it were to base 2

    for other in (nearly, lying):
        monkeypatch.setattr(log_sum_exp, "_fused", other)
        log_sum_exp._trusted.clear()
        for _ in range(2):
            default = F.scaled_dot_product_attention(query, key, value)
            output, lse = attend(
                AttentionCall(query, key, value), lambda: F.scaled_dot_product_attention(query, key, value)
            )
            assert torch.equal(output, default)
            assert lse is None
    log_sum_exp._trusted.clear()


def test_gradients_flow_as_without_us() -> None:
    query, key, value = (tensor.requires_grad_() for tensor in tensors())
    output, lse = attend(AttentionCall(query, key, value), lambda: F.scaled_dot_product_attention(query, key, value))
    assert lse is None
    output.sum().backward()
    assert query.grad is not None


@pytest.mark.parametrize("mask", ["none", "boolean", "full", "added"])
@pytest.mark.parametrize("chunk", [1, 4 * 2 * 70 * 7, 2**22])
def test_in_chunks_it_is_the_same(mask: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_sum_exp, "_CHUNK", chunk)
    query, key, _ = tensors()
    in_chunks = chunked_log_sum_exp(query, key, masks()[mask], 0.25)
    torch.testing.assert_close(in_chunks.double(), expected(query, key, masks()[mask], 0.25), rtol=0, atol=1e-5)


def test_never_image_by_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the sequence, what is held at a time stays below the chunk."""
    largest = 0
    multiply = torch.matmul

    def watched(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        nonlocal largest
        result = multiply(left, right)
        largest = max(largest, result.numel())
        return result

    monkeypatch.setattr(torch, "matmul", watched)
    query, key = torch.randn(1, 4, 3000, 8), torch.randn(1, 4, 3000, 8)
    chunked_log_sum_exp(query, key, None, 0.3)
    assert largest <= log_sum_exp._CHUNK
