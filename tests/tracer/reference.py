"""Attention computed the long way, from what the projections of each module gave: the tests' independent reference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def projections(denoiser: Any) -> Iterator[dict[str, list[dict[str, torch.Tensor]]]]:
    """Outputs of to_q and to_k of every cross-attention module, per evaluation of the denoiser."""
    seen: dict[str, list[dict[str, torch.Tensor]]] = {}
    handles: list[Any] = []

    def keep(name: str, part: str) -> Any:
        def hook(module: Any, args: Any, output: torch.Tensor) -> None:
            calls = seen.setdefault(name, [])
            if part == "q":
                calls.append({})
            calls[-1][part] = output.detach().clone()

        return hook

    for name, module in denoiser.named_modules():
        if name.endswith("attn2"):
            handles.append(module.to_q.register_forward_hook(keep(name, "q")))
            handles.append(module.to_k.register_forward_hook(keep(name, "k")))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def probabilities(call: dict[str, torch.Tensor], heads: int, row: int) -> np.ndarray:
    """float64 (heads, image positions, text positions) of one row of the batch, head by head."""
    q, k = (call[part][row].float().double().cpu().numpy() for part in ("q", "k"))
    width = q.shape[1] // heads
    result = []
    for head in range(heads):
        columns = slice(head * width, (head + 1) * width)
        scores = q[:, columns] @ k[:, columns].T / np.sqrt(width)
        scores -= scores.max(axis=1, keepdims=True)
        exponentials = np.exp(scores)
        result.append(exponentials / exponentials.sum(axis=1, keepdims=True))
    return np.stack(result)


def assert_stored(stored: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """`stored` is float16 of something within `tolerance` of `expected`: half a unit in the last place on top."""
    allowed = tolerance + np.abs(expected) * 2.0**-11 + 2.0**-25
    excess = np.abs(stored.astype(np.float64) - expected) - allowed
    assert excess.max() <= 0, f"off by {np.abs(stored - expected).max()}, {excess.max()} too much"
