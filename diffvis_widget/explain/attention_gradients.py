"""Gradient times attention, exactly and without ever storing an attention matrix of the model in its graph.

A layer computes out = P v with P = softmax(q k^T scale). So dy/dP = (dy/dout) v^T: from q, k, v and the gradient of the
layer's output both factors follow, a few rows at a time, while the model runs its usual fused kernels.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffvis_widget.tracer.hooks import watch

_CHUNK = 2**24  # elements of an attention matrix that are held at once


@dataclass(frozen=True)
class Attended:
    """One call of attention: q (b, heads, n, d), k and v (b, heads, m, d), output (b, heads, n, d), part of a graph."""

    site: str
    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    causal: bool
    scale: float
    output: Tensor

    def cam(
        self, gradient: Tensor | None, fold: Callable[[Tensor], Tensor] = lambda rows: rows, *, row: int = 0
    ) -> Tensor:
        """Mean over heads of max(0, dy/dP * P): float32 (n, m), or (n, m') where `fold` brings rows (k, m) to (k, m').

        gradient: dy/dout; None where y does not depend on it. row: of the batch.
        """
        heads, count, keys = self.query.shape[1], self.query.shape[2], self.key.shape[2]
        if gradient is None:
            return fold(torch.zeros(count, keys, dtype=torch.float32, device=self.query.device))
        size = max(1, _CHUNK // (heads * keys))
        query, key, value = (part[row].detach().float() for part in (self.query, self.key, self.value))
        if len(key) != heads:  # grouped queries
            key, value = (part.repeat_interleave(heads // len(part), dim=0) for part in (key, value))
        slopes = gradient[row].float()
        rows: list[Tensor] = []
        with torch.autocast(query.device.type, enabled=False):
            for start in range(0, count, size):
                part = slice(start, min(start + size, count))
                # a row that may look at nothing looks at nothing
                shares = self._hidden(query[:, part] @ key.mT * self.scale, part, row).softmax(dim=-1).nan_to_num(0.0)
                rows.append(fold((slopes[:, part] @ value.mT * shares).clamp_min(0).mean(dim=0)))
        return torch.cat(rows)

    def _hidden(self, scores: Tensor, part: slice, row: int) -> Tensor:
        if self.causal:
            later = torch.ones(self.query.shape[2], scores.shape[-1], dtype=torch.bool, device=scores.device).triu(1)
            scores = scores.masked_fill(later[part], -torch.inf)
        if self.mask is None:
            return scores
        mask = self.mask.expand(len(self.query), -1, self.query.shape[2], -1)[row][:, part]
        return scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask.float()


@contextmanager
def attention_seen(sites: dict[str, nn.Module]) -> Iterator[list[Attended]]:
    """The calls of scaled_dot_product_attention inside these modules, by name, in this thread, in order.

    Put on for the block, taken off whatever happens.
    """
    seen: list[Attended] = []
    here: list[str] = []
    thread = threading.get_ident()
    removers: list[Callable[[], None]] = []

    def attention(
        original: Callable[..., Tensor], query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        output = original(query, key, value, *args, **kwargs)
        if threading.get_ident() != thread or not here:
            return output
        if not output.requires_grad:  # nothing before it does: the parameters are frozen
            output = output.detach().requires_grad_()
        named = dict(zip(("attn_mask", "dropout_p", "is_causal", "scale"), args, strict=False)) | kwargs
        scale = named.get("scale")
        seen.append(
            Attended(
                site=here[-1],
                query=query,
                key=key,
                value=value,
                mask=named.get("attn_mask"),
                causal=bool(named.get("is_causal", False)),
                scale=query.shape[-1] ** -0.5 if scale is None else float(scale),
                output=output,
            )
        )
        return output

    try:
        for name, module in sites.items():
            removers.append(module.register_forward_pre_hook(_entering(here, name)).remove)
            removers.append(module.register_forward_hook(_leaving(here), always_call=True).remove)
        removers.append(watch(F, "scaled_dot_product_attention", attention))
        yield seen
    finally:
        for remove in removers:
            remove()


def _entering(here: list[str], name: str) -> Callable[..., None]:
    def hook(*_: Any) -> None:
        here.append(name)

    return hook


def _leaving(here: list[str]) -> Callable[..., None]:
    def hook(*_: Any) -> None:
        if here:
            here.pop()

    return hook
