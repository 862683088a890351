"""Refines the words' attention maps by the self-attention of the image.

Image tokens that attend to each other belong to the same thing, so that each takes the mean of the map over the tokens
that it attends to, twice. The matrix of all image tokens with all image tokens is computed for one layer, and up to a
grid of 32 x 32 only; on a larger grid the keys are pooled to at most that many, and rows are computed in chunks.

The choices were made on 40 scenes of the built-in world, and measured on 200 others
(`python -m diffvis_widget.explain.evaluation.word_maps`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from diffvis_widget._compat.float32_matmul import matmul_float32
from diffvis_widget.traces.types import Size

from .attention_calls import apply_mask

MOST_KEYS = 32 * 32
PASSES = 2
SHARE_POWER = 6
_SCORES = 2**24  # float32 scores that are held at once: 64 MB


@dataclass(frozen=True)
class SelfAttention:
    """Queries and keys of the image tokens in one layer, before any upcast, one entry per image.

    Attributes:
        layer: Dotted path of the attention module.
        queries: (heads, image tokens, width) each.
        keys: (key heads, image tokens, width) each.
        masks: (1 or heads, 1 or image tokens, image tokens) each, boolean or added to the scores; None: no mask.
        factor: Factor of the scores.
    """

    layer: str
    queries: Sequence[Tensor]
    keys: Sequence[Tensor]
    masks: Sequence[Tensor] | None
    factor: float

    @property
    def positions(self) -> int:
        """Number of image tokens."""
        return int(self.queries[0].shape[1])


def refines_better(positions: int, best: SelfAttention | None) -> bool:
    """Whether a layer is preferred to one before it.

    Args:
        positions: Number of image tokens of the layer.
        best: The best layer so far.

    Returns:
        True if its grid is the finest up to 32 x 32, or, of larger ones, the coarsest. Of two layers on the same grid,
        the later one is preferred.
    """
    if best is None:
        return True
    mine, others = (
        (count <= MOST_KEYS, count if count <= MOST_KEYS else -count) for count in (positions, best.positions)
    )
    return mine >= others


def refine(maps: Tensor, attention: SelfAttention, grid: Size, shares: Tensor | None = None) -> Tensor:
    """Refine maps: twice the mean over the tokens attended to, relative to its mean, squared, relative to its mean.

    Args:
        maps: float32 (images, words, h, w), attention probabilities on any grid.
        attention: Self-attention of the image tokens.
        grid: (h, w) of its image tokens.
        shares: float32 (images, words, h, w), the share of each word among words that exclude each other, 0..1. Its
            mean over the tokens attended to, weighted by the map, to the power of `SHARE_POWER` is a factor of the map.

    Returns:
        float32 (images, 1, image tokens, words), 0 or more, with a mean of 1 over the image tokens; 0 for words without
        any attention.
    """
    refined: list[Tensor] = []
    for image, part in enumerate(maps):
        values = _on_grid(part, grid)
        of_shares = None if shares is None else _on_grid(shares[image], grid)
        refined.append(_refine_image(values, of_shares, attention, image, grid))
    return torch.stack(refined)


def _on_grid(maps: Tensor, grid: Size) -> Tensor:
    """Maps (words, h, w) as (image tokens, words) of another grid."""
    if tuple(maps.shape[1:]) != grid:
        if maps.shape[1] * maps.shape[2] > grid[0] * grid[1]:
            maps = F.interpolate(maps[None], grid, mode="area")[0]
        else:
            maps = F.interpolate(maps[None], grid, mode="bilinear", align_corners=False)[0]
    return maps.flatten(1).T


def _refine_image(values: Tensor, shares: Tensor | None, attention: SelfAttention, image: int, grid: Size) -> Tensor:
    side = _cell_side(grid)
    weights = _attention_to_cells(attention, image, grid, side)

    def smooth(values: Tensor) -> Tensor:
        for _ in range(PASSES):
            values = matmul_float32(weights, _pool(values, grid, side))
        return values

    smoothed = smooth(values)
    squares = (smoothed / smoothed.mean(dim=0).clamp_min(1e-30)).square()
    if shares is not None:
        squares = squares * (smooth(values * shares) / smoothed.clamp_min(1e-30)).pow(SHARE_POWER)
    return (squares / squares.mean(dim=0).clamp_min(1e-30))[None]


def _cell_side(grid: Size) -> int:
    """Positions along one side of a square cell, so that there are at most `MOST_KEYS` cells."""
    side = 1
    while math.ceil(grid[0] / side) * math.ceil(grid[1] / side) > MOST_KEYS:
        side += 1
    return side


def _pool(values: Tensor, grid: Size, side: int) -> Tensor:
    """Means over cells: (image tokens, n) -> (cells, n)."""
    if side == 1:
        return values
    pooled = F.avg_pool2d(values.T.reshape(1, -1, *grid), side, ceil_mode=True)
    return pooled.flatten(2)[0].T


def _attention_to_cells(attention: SelfAttention, image: int, grid: Size, side: int) -> Tensor:
    """Mean over heads of the softmax over cells of image tokens, whose keys are means: (image tokens, cells)."""
    query, key = attention.queries[image].float(), attention.keys[image].float()
    heads = len(query)
    key = key.repeat_interleave(heads // len(key), dim=0) if len(key) < heads else key
    mask = None if attention.masks is None else attention.masks[image]
    sizes = None
    if side > 1:
        key = torch.stack([_pool(part, grid, side) for part in key])
        # a cell stands for all its tokens; those at the border have fewer
        ones = torch.ones(1, 1, *grid, device=key.device, dtype=torch.float32)
        sizes = F.avg_pool2d(ones, side, ceil_mode=True, divisor_override=1).flatten().log()
    rows = max(1, _SCORES // (heads * key.shape[1]))
    parts: list[Tensor] = []
    for start in range(0, query.shape[1], rows):
        chunk = slice(start, start + rows)
        scores = matmul_float32(query[:, chunk], key.transpose(1, 2), attention.factor)
        if mask is not None:
            part = mask if mask.shape[1] == 1 else mask[:, chunk]
            scores = apply_mask(scores, part if sizes is None else _pooled_mask(part, grid, side))
        probabilities = (scores if sizes is None else scores + sizes).softmax(dim=-1)
        # fully masked rows: softmax gives NaN, define as 0
        parts.append((probabilities if mask is None else probabilities.nan_to_num(0.0)).mean(dim=0))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _pooled_mask(mask: Tensor, grid: Size, side: int) -> Tensor:
    """What a mask (1 or heads, rows, image tokens) adds to the scores of cells: the mean over their tokens."""
    added = apply_mask(torch.zeros(mask.shape, device=mask.device, dtype=torch.float32), mask)
    return _pool(added.flatten(0, 1).T, grid, side).T.unflatten(0, tuple(mask.shape[:2]))
