"""Attention with weighted and hidden words the long way: the tests' independent reference.

In place of torch's own function, while it is on: a float64 softmax, all of it at once, for the word-attention modules
of a denoiser.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F

from diffvis_widget.tracer.families import find_family


@dataclass
class Naive:
    """row: of the batch that carries the prompt. text: the text's place in the keys; image: the image's in the queries.

    factors: by text position. hidden: text positions. steps: evaluations in which all this holds. frames: rows of the
    batch that stand for one, where each frame of a video is one.
    """

    row: int
    text: slice
    image: slice
    factors: dict[int, float]
    hidden: list[int]
    steps: range
    frames: int = 1

    def __call__(self, query: Any, key: Any, value: Any, mask: Any, scale: float) -> torch.Tensor:
        scores = query.double() @ key.double().transpose(-1, -2) * scale
        if mask is not None:
            added = torch.zeros(mask.shape).masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else mask
            scores = scores + added.double()
        rows = range(self.row * self.frames, (self.row + 1) * self.frames)
        for position in self.hidden:
            scores[rows.start : rows.stop, :, :, self.text.start + position] = -torch.inf
        shares = scores.softmax(dim=-1).nan_to_num(0.0)  # fully masked rows
        output = shares @ value.double()
        for position, factor in self.factors.items():
            column = self.text.start + position
            for row, head in itertools.product(rows, range(query.shape[1])):
                contribution = shares[row, head, self.image, column, None] * value[row, head, column].double()
                output[row, head, self.image] += (factor - 1) * contribution
        return output.to(query.dtype)


@contextmanager
def computed(pipe: Any, naive: Naive) -> Iterator[None]:
    """Word attention of the pipeline's denoiser is computed by `naive`."""
    family, denoiser = find_family(pipe)
    inside: list[str] = []
    rows: dict[str, int] = {}  # by module, the latest row of those that attend apart
    evaluations = -1
    handles: list[Any] = []
    original = F.scaled_dot_product_attention

    def begin(*_: Any) -> None:
        nonlocal evaluations
        evaluations += 1
        rows.clear()

    def leave(*_: Any) -> None:
        inside.pop()

    def attention(query: Any, key: Any, value: Any, attn_mask: Any = None, *rest: Any, **named: Any) -> torch.Tensor:
        keys = key.shape[2] - (68 if family.image_among_keys else 0)  # tokens of the image of I2VGen-XL
        attends_to_text = keys == (query.shape[2] if family.attention_kind == "joint" else naive.text.stop)
        if not inside or not attends_to_text or evaluations not in naive.steps:
            return original(query, key, value, attn_mask, *rest, **named)
        reference = naive
        if family.attends_by_row:
            rows[inside[-1]] = row = rows.get(inside[-1], -1) + 1
            if row != naive.row:
                return original(query, key, value, attn_mask, *rest, **named)
            reference = replace(naive, row=0)
        return reference(query, key, value, attn_mask, named.get("scale") or query.shape[-1] ** -0.5)

    handles.append(denoiser.register_forward_pre_hook(begin))
    for name, module in family.attention_modules(denoiser).items():
        handles.append(module.register_forward_pre_hook(lambda *_, name=name: inside.append(name)))
        handles.append(module.register_forward_hook(leave))
    F.scaled_dot_product_attention = attention
    try:
        yield
    finally:
        F.scaled_dot_product_attention = original
        for handle in handles:
            handle.remove()
