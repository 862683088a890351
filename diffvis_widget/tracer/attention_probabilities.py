"""Attention probabilities of words from queries and keys: float32 throughout, softmax over every key.

Cross-attention is a plain softmax over the text; layers of one shape are computed together, so that a step adds few
kernel launches. In joint attention words are a few columns of rows whose log-sum-exp is known; there they have an
output too, which can be compared with the image's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffvis_widget._compat.float32_matmul import matmul_float32

from .attention_calls import AttentionCall, apply_mask
from .log_sum_exp import chunked_log_sum_exp

_SCORES = 2**24  # float32 scores that are held at once: 64 MB
_LARGEST = torch.finfo(torch.float16).max


@dataclass(frozen=True)
class WordColumns:
    """The text tokens of an image's words.

    Attributes:
        positions: int64 (n,), positions of text tokens.
        weights: float32 (n, words), 1 where a token belongs to a word.
    """

    positions: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Targets:
    """The words of one branch of a batch, one entry per image, on the denoiser's device.

    Attributes:
        membership: float32 (images, text tokens, words), 1 where a token belongs to a word.
        columns: The same for each image, without tokens that belong to no word.
        lengths: Number of text tokens of each image.
    """

    membership: Tensor
    columns: list[WordColumns]
    lengths: list[int]


@dataclass(frozen=True)
class FlatMaps:
    """The maps of all layers in one float16 tensor, so that they leave the device in one copy.

    Attributes:
        flat: float16 (n,).
        places: By layer, where its part begins, and its shape (images, heads or 1, image tokens, words).
    """

    flat: Tensor
    places: dict[str, tuple[int, torch.Size]]

    def of(self, layer: str) -> Tensor:
        """The maps of one layer.

        Args:
            layer: Dotted path.

        Returns:
            float16 (images, heads or 1, image tokens, words), a view.
        """
        start, shape = self.places[layer]
        return self.flat[start : start + shape.numel()].view(shape)


def flatten_maps(maps: dict[str, Tensor]) -> FlatMaps:
    """Lay the maps of all layers into one tensor.

    Args:
        maps: By layer, of any floating type; at least one.

    Returns:
        The maps as float16.
    """
    places: dict[str, tuple[int, torch.Size]] = {}
    start = 0
    for layer, part in maps.items():
        places[layer] = start, part.shape
        start += part.numel()
    return FlatMaps(torch.cat([part.flatten() for part in maps.values()]).to(torch.float16), places)


@dataclass
class CrossCall:
    """Queries and keys of one cross-attention layer, before any upcast.

    Attributes:
        layer: Dotted path.
        query: (images, heads, image tokens, width).
        key: (images, heads, text tokens, width).
        mask: Boolean or added to the scores, or None.
        factor: Factor of the scores.
    """

    layer: str
    query: Tensor
    key: Tensor
    mask: Tensor | None
    factor: float

    @property
    def shape(self) -> tuple[object, ...]:
        """What calls that are computed together have in common."""
        mask = None if self.mask is None else (self.mask.shape, self.mask.dtype)
        return self.query.shape, self.key.shape, self.query.dtype, mask, self.factor

    @property
    def scores(self) -> int:
        """Number of scores."""
        return self.query.shape[:3].numel() * self.key.shape[2]

    @property
    def is_large(self) -> bool:
        """Whether it has more scores than are held at once, as in a video."""
        return self.scores > _SCORES


def cross_probabilities(calls: Sequence[CrossCall], membership: Tensor, heads: bool) -> dict[str, Tensor]:
    """Compute the words' attention probabilities in cross-attention.

    Args:
        calls: All layers of one evaluation.
        membership: float32 (images, text tokens, words), 1 where a token belongs to a word.
        heads: Whether heads are kept apart.

    Returns:
        By layer, float32 (images, heads or 1, image tokens, words).
    """
    groups: dict[tuple[object, ...], list[CrossCall]] = {}
    for call in calls:
        groups.setdefault(call.shape, []).append(call)
    maps: dict[str, Tensor] = {}
    for group in groups.values():
        size = max(1, _SCORES // group[0].scores)
        for start in range(0, len(group), size):
            part = group[start : start + size]
            maps |= zip((call.layer for call in part), _softmax(part, membership, heads), strict=True)
    return {call.layer: maps[call.layer] for call in calls}


def _softmax(group: Sequence[CrossCall], membership: Tensor, heads: bool) -> Sequence[Tensor]:
    rows = group[0].query.shape[2]
    size = max(1, rows * _SCORES // sum(call.scores for call in group))
    if size >= rows:
        return _softmax_rows(group, slice(None), membership, heads).unbind(0)
    chunks = [slice(start, start + size) for start in range(0, rows, size)]
    return torch.cat([_softmax_rows(group, chunk, membership, heads) for chunk in chunks], dim=3).unbind(0)


def _softmax_rows(group: Sequence[CrossCall], chunk: slice, membership: Tensor, heads: bool) -> Tensor:
    """The probabilities of some image tokens, (layers, images, heads or 1, image tokens, words)."""
    first = group[0]
    query = torch.stack([call.query[:, :, chunk] for call in group]).float()
    images, count, rows = query.shape[1:4]
    key = torch.stack([call.key for call in group]).float().flatten(0, 2)
    scores = matmul_float32(query.flatten(0, 2), key.transpose(1, 2), first.factor)
    scores = scores.view(len(group), images, count, rows, -1)
    if first.mask is not None:
        masks = torch.stack([call.mask for call in group if call.mask is not None])
        masks = masks[..., chunk, :] if first.mask.ndim > 1 and first.mask.shape[-2] > 1 else masks
        scores = apply_mask(scores, masks.reshape(len(group), *(1,) * (5 - masks.ndim), *masks.shape[1:]))
    probabilities = scores.softmax(dim=-1)
    if first.mask is not None:
        probabilities = probabilities.nan_to_num(0.0)  # fully masked rows: softmax gives NaN, define as 0
    probabilities = probabilities if heads else probabilities.mean(dim=2, keepdim=True)
    # keys of an image may follow those of the text
    return matmul_float32(probabilities[..., : membership.shape[1]], membership[:, None])


def image_normalizers(call: AttentionCall, log_sum_exp: Tensor | None, row: int, image: slice) -> Tensor:
    """The log-sum-exp of the scores of image tokens with all keys.

    Args:
        call: The call of scaled_dot_product_attention.
        log_sum_exp: float32 (batch, heads, queries), where a kernel returned it; None: it is computed.
        row: Row of the batch.
        image: Where the image tokens lie in the queries.

    Returns:
        float32 (1, heads, image tokens).
    """
    if log_sum_exp is not None:
        return log_sum_exp[row : row + 1, :, image]
    query, mask = call.query[row : row + 1, :, image].float(), _image_mask(call, row, image)
    return chunked_log_sum_exp(query, _keys(call, row).float(), mask, call.factor)


def _image_mask(call: AttentionCall, row: int, image: slice) -> Tensor | None:
    mask = call.attn_mask
    if mask is None:
        return None
    mask = mask.expand(*mask.shape[:-2], call.query.shape[2], call.key.shape[2])[..., image, :]
    return mask[row : row + 1] if mask.ndim == 4 and len(mask) == len(call.query) else mask


def _keys(call: AttentionCall, row: int) -> Tensor:
    keys = call.key[row : row + 1]
    groups = call.query.shape[1] // keys.shape[1]
    return keys.repeat_interleave(groups, dim=1) if groups > 1 else keys


def spans_fit(call: AttentionCall, spans: Sequence[tuple[slice, slice] | None]) -> bool:
    """Whether text and image of every row were found, and the queries are all tokens or those of the image.

    Args:
        call: The call of scaled_dot_product_attention.
        spans: Where the text and the image tokens of each row lie in the keys; None where that is not known.

    Returns:
        True if the call can be read.
    """
    queried, keys = call.query.shape[2], call.key.shape[2]
    return all(span is not None and queried in (keys, len(range(keys)[span[1]])) for span in spans)


def joint_probabilities(
    call: AttentionCall,
    normalizers: Tensor,
    row: int,
    text: slice,
    image: slice,
    words: WordColumns,
    heads: bool,
) -> Tensor:
    """Compute the words' attention probabilities in joint attention, among all keys.

    Args:
        call: The call of scaled_dot_product_attention.
        normalizers: float32 (1, heads, image tokens), see `image_normalizers`.
        row: Row of the batch.
        text: Where the text tokens lie in the sequence.
        image: Where the image tokens lie in the queries.
        words: The words of that row.
        heads: Whether heads are kept apart.

    Returns:
        float32 (heads or 1, image tokens, words).
    """
    query = call.query[row : row + 1, :, image].float()
    mask = _image_mask(call, row, image)
    key = _keys(call, row)[:, :, text].index_select(2, words.positions).float()
    scores = matmul_float32(query, key.transpose(-1, -2), call.factor)
    if mask is not None:
        scores = apply_mask(scores, mask[..., text].index_select(-1, words.positions))
    probabilities = (scores - normalizers[..., None]).exp_()
    if mask is not None:
        probabilities = probabilities.nan_to_num(0.0)  # fully masked rows: define as 0
    probabilities = probabilities if heads else probabilities.mean(dim=1, keepdim=True)
    return matmul_float32(probabilities, words.weights)[0]


def output_scores(output: Tensor, text: slice, image: slice, words: WordColumns, heads: bool) -> Tensor:
    """Compute the similarity of the attention outputs of image tokens and words.

    It is the dot product of both output vectors before the output projection, as in ConceptAttention (arXiv
    2502.04320), over the width: a mean over channels. A word of several tokens has the mean of their vectors.

    Args:
        output: (heads, tokens, width), the attention output of one row of the batch.
        text: Where the text tokens lie in it.
        image: Where the image tokens lie in it.
        words: The words of that row.
        heads: Whether heads are kept apart.

    Returns:
        float32 (heads or 1, image tokens, words), limited to the range of float16.
    """
    tokens = output[:, text].index_select(1, words.positions).float()
    vectors = matmul_float32((words.weights / words.weights.sum(dim=0).clamp_min(1)).T, tokens)
    scores = matmul_float32(output[:, image].float(), vectors.transpose(-1, -2)) / output.shape[-1]
    scores = scores if heads else scores.mean(dim=0, keepdim=True)
    return scores.clamp(-_LARGEST, _LARGEST)
