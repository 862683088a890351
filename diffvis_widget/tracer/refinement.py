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
_SCORES = 2**24  # float32 scores that are held at once: 64 MB


@dataclass(frozen=True)
class SelfAttention:
    """Queries and keys of the image tokens in one layer, before any upcast, one entry per image, or per frame.

    Attributes:
        layer: Dotted path of the attention module.
        queries: (heads, image tokens, width) each.
        keys: (key heads, image tokens, width) each.
        masks: (1 or heads, 1 or image tokens, image tokens) each, boolean or added to the scores; None: no mask.
        factor: Factor of the scores.
        cells: What is made of all these, float32 (image tokens, cells) each; empty: it is made when it is needed.
    """

    layer: str
    queries: Sequence[Tensor]
    keys: Sequence[Tensor]
    masks: Sequence[Tensor] | None
    factor: float
    cells: Sequence[Tensor] = ()

    @property
    def positions(self) -> int:
        """Number of image tokens."""
        return int(self.cells[0].shape[0] if self.cells else self.queries[0].shape[1])

    def joined(self, other: SelfAttention) -> SelfAttention:
        """Add the images of another call of the same layer, which take no mask.

        Args:
            other: Of that call.

        Returns:
            The entries of both.
        """
        parts = [[*mine, *others] for mine, others in ((self.queries, other.queries), (self.keys, other.keys))]
        return SelfAttention(self.layer, parts[0], parts[1], None, self.factor, [*self.cells, *other.cells])

    def of_frames(self, frames: int, grid: Size) -> SelfAttention:
        """Take the attention of each frame of a video to itself, and let go of queries and keys, which are large.

        Args:
            frames: Number of frames, whose tokens follow one another.
            grid: (h, w) of the tokens of a frame.

        Returns:
            One entry per frame.
        """
        size, whole = grid[0] * grid[1], slice(None)
        spans = [slice(frame * size, (frame + 1) * size) for frame in range(frames)]
        masks = self.masks and [
            mask[:, span if mask.shape[1] > 1 else whole, span] for mask in self.masks for span in spans
        ]
        parts = [[part[:, span] for part in image for span in spans] for image in (self.queries, self.keys)]
        return SelfAttention(self.layer, parts[0], parts[1], masks, self.factor).to_cells(grid)

    def to_cells(self, grid: Size) -> SelfAttention:
        """Make what is needed of queries and keys now, once for several calls of `refine`, and let go of them.

        Args:
            grid: (h, w) of the image tokens.

        Returns:
            The attention to cells.
        """
        if self.cells:
            return self
        side = _cell_side(grid)
        cells = [_attention_to_cells(self, index, grid, side) for index in range(len(self.queries))]
        return SelfAttention(self.layer, [], [], None, self.factor, cells)


@dataclass(frozen=True)
class Competition:
    """Of each word the share among words that exclude each other.

    Attributes:
        shares: float32 (images * frames, words, h, w), 0..1; 1 for words that do not compete.
        powers: float32 (words,), how strongly each competes.
    """

    shares: Tensor
    powers: Tensor


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


def refine(
    maps: Tensor, attention: SelfAttention, grid: Size, competition: Competition | None = None, frames: int = 1
) -> Tensor:
    """Refine maps: twice the mean over the tokens attended to, relative to its mean, squared, relative to its mean.

    Args:
        maps: float32 (images * frames, words, h, w), attention probabilities on any grid.
        attention: Self-attention of the image tokens.
        grid: (h, w) of its image tokens.
        competition: The share of each word among words that exclude each other. Its mean over the tokens attended to,
            weighted by the map, to the power of the word is a factor of the map. None: no words compete.
        frames: Frames of each video, which are relative to one mean; 1 for images.

    Returns:
        float32 (images, 1, image tokens of all frames, words), 0 or more, with a mean of 1 over the image tokens; 0 for
        words without any attention.
    """
    side = _cell_side(grid)
    refined: list[Tensor] = []
    for first in range(0, len(maps), frames):
        parts: list[Tensor] = []
        competing: list[Tensor] = []
        for index in range(first, first + frames):
            made = attention.cells
            weights = made[index] if made else _attention_to_cells(attention, index, grid, side)
            values = _on_grid(maps[index], grid)
            parts.append(_smooth(values, weights, grid, side))
            if competition is not None:
                shares = _on_grid(competition.shares[index], grid)
                competing.append(_smooth(values * shares, weights, grid, side))
        smoothed = parts[0] if frames == 1 else torch.cat(parts)
        squares = (smoothed / smoothed.mean(dim=0).clamp_min(1e-30)).square()
        if competition is not None:
            shared = competing[0] if frames == 1 else torch.cat(competing)
            squares = squares * (shared / smoothed.clamp_min(1e-30)).pow(competition.powers)
        refined.append((squares / squares.mean(dim=0).clamp_min(1e-30))[None])
    return torch.stack(refined)


def _on_grid(maps: Tensor, grid: Size) -> Tensor:
    """Maps (words, h, w) as (image tokens, words) of another grid."""
    if tuple(maps.shape[1:]) != grid:
        if maps.shape[1] * maps.shape[2] > grid[0] * grid[1]:
            maps = F.interpolate(maps[None], grid, mode="area")[0]
        else:
            maps = F.interpolate(maps[None], grid, mode="bilinear", align_corners=False)[0]
    return maps.flatten(1).T


def _smooth(values: Tensor, weights: Tensor, grid: Size, side: int) -> Tensor:
    """Means of (image tokens, words) over the tokens attended to, `PASSES` times."""
    for _ in range(PASSES):
        values = matmul_float32(weights, _pool(values, grid, side))
    return values


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
