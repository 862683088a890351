"""Attention probabilities of words from queries and keys: float32 throughout, softmax over every key.

Cross-attention is a plain softmax over the text; sites of one shape are computed together, so that a step adds few
kernel launches. In joint attention the words are a few columns of a row whose normaliser is known; there they have an
output too, which can be compared with the image's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .log_sum_exp import Call, log_sum_exp, masked

# float32 scores held at a time: 64 MB
_MOST = 2**24
_LARGEST = torch.finfo(torch.float16).max


@dataclass(frozen=True)
class Columns:
    """The text positions of an image's words: int64 (n,), and float32 (n, words), 1 where one belongs to a word."""

    positions: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Targets:
    """What is looked for in one branch of a batch, one entry per image, on the denoiser's device.

    whole: float32 (images, text positions, words). lengths: each image's own number of text positions.
    """

    whole: Tensor
    columns: list[Columns]
    lengths: list[int]


@dataclass(frozen=True)
class Maps:
    """The maps of all sites in one float16 tensor, so that they leave the device in one copy.

    places: by site, where its part begins, and its shape: (images, heads or 1, image positions, words).
    """

    flat: Tensor
    places: dict[str, tuple[int, torch.Size]]

    def of(self, site: str) -> Tensor:
        start, shape = self.places[site]
        return self.flat[start : start + shape.numel()].view(shape)


def together(parts: dict[str, Tensor]) -> Maps:
    """Lay the sites' maps, of any floating type, into one tensor."""
    places: dict[str, tuple[int, torch.Size]] = {}
    start = 0
    for site, part in parts.items():
        places[site] = start, part.shape
        start += part.numel()
    return Maps(torch.cat([part.flatten() for part in parts.values()]).to(torch.float16), places)


@dataclass
class Seen:
    """Queries and keys of one cross-attention site, (images, heads, positions, width) each, before any upcast."""

    site: str
    query: Tensor
    key: Tensor
    mask: Tensor | None
    factor: float

    def alike(self) -> tuple[object, ...]:
        mask = None if self.mask is None else (self.mask.shape, self.mask.dtype)
        return self.query.shape, self.key.shape, self.query.dtype, mask, self.factor

    @property
    def scores(self) -> int:
        return self.query.shape[:3].numel() * self.key.shape[2]


def cross(seen: Sequence[Seen], words: Tensor, heads: bool) -> dict[str, Tensor]:
    """By site, float32 (images, heads or 1, image positions, words) of all that was seen in one evaluation.

    words: float32 (images, text positions, words), 1 where a position belongs to a word.
    """
    groups: dict[tuple[object, ...], list[Seen]] = {}
    for one in seen:
        groups.setdefault(one.alike(), []).append(one)
    found: dict[str, Tensor] = {}
    for group in groups.values():
        most = max(1, _MOST // group[0].scores)
        for start in range(0, len(group), most):
            part = group[start : start + most]
            found |= zip((one.site for one in part), _softmax(part, words, heads), strict=True)
    return {one.site: found[one.site] for one in seen}


def _softmax(group: Sequence[Seen], words: Tensor, heads: bool) -> Sequence[Tensor]:
    first = group[0]
    images, count, rows, _ = first.query.shape
    query = torch.stack([one.query for one in group]).float().flatten(0, 2)
    key = torch.stack([one.key for one in group]).float().flatten(0, 2)
    scores = torch.baddbmm(query.new_empty(1, 1, 1), query, key.transpose(1, 2), beta=0, alpha=first.factor)
    scores = scores.view(len(group), images, count, rows, -1)
    if first.mask is not None:
        masks = torch.stack([one.mask for one in group if one.mask is not None])
        scores = masked(scores, masks.view(len(group), *(1,) * (4 - first.mask.ndim), *first.mask.shape))
    shares = scores.softmax(dim=-1)
    if first.mask is not None:
        shares = shares.nan_to_num(0.0)  # a row that may look at nothing looks at nothing
    shares = shares if heads else shares.mean(dim=2, keepdim=True)
    return torch.matmul(shares, words[:, None]).unbind(0)


def joint(call: Call, lse: Tensor | None, row: int, text: slice, image: slice, words: Columns, heads: bool) -> Tensor:
    """float32 (heads or 1, image positions, words) of one row of the batch, of all the keys that it attends to.

    text, image: where both lie in the sequence. lse: the call's normaliser if a kernel told it.
    """
    query = call.query[row : row + 1, :, image].float()
    mask = call.attn_mask
    if mask is not None:
        mask = mask.expand(*mask.shape[:-2], call.query.shape[2], call.key.shape[2])[..., image, :]
        mask = mask[row : row + 1] if mask.ndim == 4 and len(mask) == len(call.query) else mask
    keys = call.key[row : row + 1]
    groups = call.query.shape[1] // keys.shape[1]
    keys = keys.repeat_interleave(groups, dim=1) if groups > 1 else keys
    normaliser = log_sum_exp(query, keys.float(), mask, call.factor) if lse is None else lse[row : row + 1, :, image]
    key = keys[:, :, text].index_select(2, words.positions).float()
    scores = torch.matmul(query, key.transpose(-1, -2)).mul_(call.factor)
    if mask is not None:
        scores = masked(scores, mask[..., text].index_select(-1, words.positions))
    shares = (scores - normaliser[..., None]).exp_()
    if mask is not None:
        shares = shares.nan_to_num(0.0)  # a row that may look at nothing looks at nothing
    shares = shares if heads else shares.mean(dim=1, keepdim=True)
    return torch.matmul(shares, words.weights)[0]


def in_output_space(output: Tensor, text: slice, image: slice, words: Columns, heads: bool) -> Tensor:
    """float32 (heads or 1, image positions, words): how alike the attention outputs of positions and words are.

    The dot product of both output vectors before the output projection, as ConceptAttention has it (arXiv 2502.04320),
    over the width: a mean over channels. A word of several tokens has the mean of their vectors.
    output: (heads, positions, width) of one row of the batch; text, image: where both lie in it.
    """
    tokens = output[:, text].index_select(1, words.positions).float()
    vectors = torch.matmul((words.weights / words.weights.sum(dim=0).clamp_min(1)).T, tokens)
    scores = torch.matmul(output[:, image].float(), vectors.transpose(-1, -2)) / output.shape[-1]
    scores = scores if heads else scores.mean(dim=0, keepdim=True)
    return scores.clamp(-_LARGEST, _LARGEST)
