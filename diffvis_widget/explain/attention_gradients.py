"""Gradient times attention, exactly and without ever storing an attention matrix of the model in its graph.

A layer computes out = P v with P = softmax(q k^T scale). So dy/dP = (dy/dout) v^T: from q, k, v and the gradient of the
layer's output both factors follow, a few rows at a time, while the model runs its usual fused kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffvis_widget.tracer.attention_calls import (
    AttentionCall,
    AttentionResult,
    AttentionWatcher,
    ScoresCall,
    apply_mask,
)

_CHUNK = 2**24  # elements of an attention matrix that are held at once


@dataclass(frozen=True)
class RecordedAttention:
    """One attention call, part of a graph.

    Attributes:
        layer: Dotted path of the module that made it.
        call: Its arguments: query (batch, heads, n, d), key and value (batch, key heads, m, d).
        output: Its result, (batch, heads, n, d).
    """

    layer: str
    call: AttentionCall
    output: Tensor

    def cam(
        self, gradient: Tensor | None, fold: Callable[[Tensor], Tensor] = lambda rows: rows, *, row: int = 0
    ) -> Tensor:
        """Compute the mean over heads of max(0, dy/dP * P).

        Args:
            gradient: dy/dout, (batch, heads, n, d); None where y does not depend on it.
            fold: Brings rows (k, m) to (k, m').
            row: Row of the batch.

        Returns:
            float32 (n, m').
        """
        heads, count, keys = self.call.query.shape[1], self.call.query.shape[2], self.call.key.shape[2]
        if gradient is None:
            return fold(torch.zeros(count, keys, dtype=torch.float32, device=self.call.query.device))
        size = max(1, _CHUNK // (heads * keys))
        query, key, value = (part[row].detach().float() for part in (self.call.query, self.call.key, self.call.value))
        if len(key) != heads:  # grouped queries
            key, value = (part.repeat_interleave(heads // len(part), dim=0) for part in (key, value))
        slopes = gradient[row].float()
        rows: list[Tensor] = []
        with torch.autocast(query.device.type, enabled=False):
            for start in range(0, count, size):
                part = slice(start, min(start + size, count))
                scores = self._masked(query[:, part] @ key.mT * self.call.factor, part, row)
                # fully masked rows: softmax gives NaN, define as 0
                probabilities = scores.softmax(dim=-1).nan_to_num(0.0)
                rows.append(fold((slopes[:, part] @ value.mT * probabilities).clamp_min(0).mean(dim=0)))
        return torch.cat(rows)

    def _masked(self, scores: Tensor, part: slice, row: int) -> Tensor:
        count, mask = self.call.query.shape[2], self.call.attn_mask
        if self.call.is_causal:
            later = torch.ones(count, scores.shape[-1], dtype=torch.bool, device=scores.device).triu(1)
            scores = scores.masked_fill(later[part], -torch.inf)
        if mask is None:
            return scores
        return apply_mask(scores, mask.expand(len(self.call.query), -1, count, -1)[row][:, part])


class _Recorder:
    """Keeps every call of scaled_dot_product_attention; see `AttentionListener`."""

    def __init__(self) -> None:
        self.calls: list[RecordedAttention] = []

    def on_attention(self, layer: str, call: AttentionCall, result: AttentionResult) -> Tensor | None:
        output = result()
        if not output.requires_grad:  # the parameters before it are frozen
            output = output.detach().requires_grad_()
        self.calls.append(RecordedAttention(layer, call, output))
        return output

    def on_scores(
        self, layer: str, call: ScoresCall, original: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    ) -> Tensor | None:
        return None


@contextmanager
def recording_attention(modules: Mapping[str, nn.Module]) -> Iterator[list[RecordedAttention]]:
    """Record the calls of scaled_dot_product_attention inside some modules, made in this thread in a with block.

    Args:
        modules: Modules by dotted path.

    Yields:
        The calls, in order.
    """
    recorder = _Recorder()
    watcher = AttentionWatcher(modules, recorder)
    try:
        watcher.attach()
        watcher.begin()
        yield recorder.calls
    finally:
        watcher.detach()
