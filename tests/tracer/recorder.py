"""Every attention that a model computes, noted module by module: what the tests of model families compare with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F


@dataclass
class Attention:
    """Arguments of one call of scaled_dot_product_attention, copied."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    mask: torch.Tensor | None
    scale: float

    def probabilities(self, row: int) -> np.ndarray:
        """float64 (heads, queries, keys) of one row of the batch: a plain softmax, all of it at once."""
        query, key = self.query[row].double().cpu().numpy(), self.key[row].double().cpu().numpy()
        key = np.repeat(key, len(query) // len(key), axis=0)
        scores = np.einsum("hqc,hkc->hqk", query, key) * self.scale
        if self.mask is not None:
            mask = self.mask.expand(*self.query.shape[:2], scores.shape[1], scores.shape[2])[row]
            if mask.dtype == torch.bool:
                mask = torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, -torch.inf)
            scores = scores + mask.double().cpu().numpy()
        with np.errstate(invalid="ignore"):  # a row that may look at nothing: its highest score is minus infinity
            shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
            return np.nan_to_num(shares / shares.sum(axis=-1, keepdims=True))

    def outputs(self, row: int) -> np.ndarray:
        """float64 (heads, queries, width) of one row of the batch: the values, weighted by the probabilities."""
        value = self.value[row].double().cpu().numpy()
        shares = self.probabilities(row)
        return np.einsum("hqk,hkc->hqc", shares, np.repeat(value, len(shares) // len(value), axis=0))


@contextmanager
def recording(denoiser: Any) -> Iterator[dict[str, list[Attention]]]:
    """Calls by the dotted path of the attention module they were made in, in the order of evaluations."""
    calls: dict[str, list[Attention]] = {}
    inside: list[str] = []
    handles: list[Any] = []
    original = F.scaled_dot_product_attention

    def enter(name: str) -> Any:
        return lambda module, args: inside.append(name)

    for name, module in denoiser.named_modules():
        if hasattr(module, "processor"):
            handles.append(module.register_forward_pre_hook(enter(name)))
            handles.append(module.register_forward_hook(lambda module, args, output: inside.pop() and None))

    def note(query: Any, key: Any, value: Any, attn_mask: Any = None, *rest: Any, **named: Any) -> Any:
        if inside:
            scale = named.get("scale") or query.shape[-1] ** -0.5
            mask = None if attn_mask is None else attn_mask.clone()
            calls.setdefault(inside[-1], []).append(Attention(query.clone(), key.clone(), value.clone(), mask, scale))
        return original(query, key, value, attn_mask, *rest, **named)

    F.scaled_dot_product_attention = note
    try:
        yield calls
    finally:
        F.scaled_dot_product_attention = original
        for handle in handles:
            handle.remove()
