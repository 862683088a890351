"""What one position of the image attends to: one row of the attention, from one more evaluation of the denoiser.

The denoiser is evaluated for the prompt alone, with the latents of a traced step. Queries and keys are read where
attention is computed, and the row of the position is computed in float32 among all keys. Queries and keys of the step
evaluated last are kept where they are small, so that another position of it costs no evaluation.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from diffvis_widget._compat.float32_matmul import matmul_float32
from diffvis_widget.tracer.families import Family
from diffvis_widget.traces import Layer, Trace
from diffvis_widget.traces.attended_positions import no_self_attention, token_at
from diffvis_widget.traces.resize import spread
from diffvis_widget.traces.selectors import pick_layers
from diffvis_widget.traces.types import Floats, PositionAttention, Size

from .attention_calls import AttentionCall, AttentionResult, AttentionWatcher, ScoresCall, ScoresCollector, apply_mask
from .guided_denoiser import Denoiser
from .log_sum_exp import without_autocast
from .prompt_sequence import PromptSequence, prompt_sequence

_KEPT_BYTES = 2**26  # queries and keys of a step that are kept for its next position
# Largest accepted difference between the probabilities of words that are computed now, and those of the trace.
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3, torch.float16: 5e-2, torch.bfloat16: 1e-1}


class LiveAttention:
    """Reads the attention of traces made in this process, by pipelines that still exist; see `AttentionSource`."""

    def rows(
        self, trace: Trace, step: int, position: tuple[float, float], layers: Sequence[int]
    ) -> Sequence[PositionAttention]:
        """Compute what a position of the image attends to in some layers.

        Args:
            trace: The trace.
            step: Index of a step, from 0.
            position: (y, x) as shares of the image, 0..1.
            layers: Indices of the layers.

        Returns:
            One entry for each of these.

        Raises:
            ValueError: The denoiser cannot be evaluated again as it was.
        """
        evaluated = _of_step(trace, step)
        with torch.inference_mode(False), torch.no_grad():
            rows = [_row(trace, index, evaluated, position) for index in layers]
        if trace.keep != "words":
            _check(trace, step, position, rows, evaluated.dtype)
        return rows

    def matrix(self, trace: Trace, step: int, grids: Sequence[Size]) -> Floats:
        """Compute what every position attends to, mean over the default layers.

        Args:
            trace: The trace.
            step: Index of a step, from 0.
            grids: (h, w) of the positions, then of the tokens of each reference image.

        Returns:
            float32 (positions, keys): positions of the image, then the tokens of each reference image.

        Raises:
            ValueError: The denoiser cannot be evaluated again as it was, or its self-attention cannot be read.
        """
        layers = pick_layers(trace.layers, None)
        self.rows(trace, step, (0.0, 0.0), layers)  # raises where the denoiser has changed
        evaluated = _of_step(trace, step)
        read = [_matrix(trace, index, evaluated, grids) for index in layers]
        parts = [part for part in read if part is not None]
        if not parts:
            raise ValueError(f"keep_attention: {no_self_attention(trace.layers[layers[0]].name)}")
        return np.asarray(np.mean(parts, axis=0, dtype=np.float32), dtype=np.float32)


@dataclass(frozen=True)
class _ReadCall:
    """Queries and keys of one attention call for the prompt.

    Attributes:
        query: (heads, queries, width).
        key: (key heads, keys, width).
        mask: (1 or heads, 1 or queries, keys), boolean or added to the scores; None: no mask.
        factor: Factor of the scores.
    """

    query: Tensor
    key: Tensor
    mask: Tensor | None
    factor: float

    @property
    def nbytes(self) -> int:
        return self.query.nbytes + self.key.nbytes + (0 if self.mask is None else self.mask.nbytes)

    def probabilities(self, query: int) -> Tensor:
        """Compute the attention of one query.

        Args:
            query: Its index.

        Returns:
            float32 (keys,), mean over heads.
        """
        return self.rows(slice(query, query + 1))[0]

    def rows(self, queries: slice | Tensor) -> Tensor:
        """Compute the attention of some queries.

        Args:
            queries: Which, as a slice or by their indices.

        Returns:
            float32 (queries, keys), mean over heads.
        """
        row = self.query[:, queries].float()
        key = self.key.float()
        if len(key) < len(row):
            key = key.repeat_interleave(len(row) // len(key), dim=0)
        with without_autocast(row.device):
            scores = matmul_float32(row, key.transpose(1, 2), self.factor)
            if self.mask is not None:
                part = self.mask if self.mask.shape[1] == 1 else self.mask[:, queries]
                scores = apply_mask(scores, part)
            # fully masked rows: softmax gives NaN, define as 0
            return scores.softmax(dim=-1).nan_to_num(0.0).mean(dim=0)


@dataclass(frozen=True)
class _Evaluated:
    """The attention of one step.

    Attributes:
        step: Index of the step.
        family: The denoiser's family.
        calls: By dotted path of the attention module, its calls in order.
        beside: Self-attention module of the block of each word-attention module, by dotted path.
        dtype: Of the latents.
        sequence: In joint attention, where text, image and references lie.
    """

    step: int
    family: Family
    calls: dict[str, list[_ReadCall]]
    beside: dict[str, str]
    dtype: torch.dtype
    sequence: PromptSequence

    @property
    def nbytes(self) -> int:
        return sum(call.nbytes for calls in self.calls.values() for call in calls)


_kept: weakref.WeakKeyDictionary[Trace, _Evaluated] = weakref.WeakKeyDictionary()
_compared: weakref.WeakSet[Trace] = weakref.WeakSet()


class _Reader:
    """Reads the calls of an evaluation of one row; see `AttentionListener`."""

    def __init__(self) -> None:
        self.calls: dict[str, list[_ReadCall]] = {}
        self._slices = ScoresCollector()

    def on_attention(self, layer: str, call: AttentionCall, result: AttentionResult) -> Tensor | None:
        self._add(layer, call.query, call.key, call.attn_mask, call.factor)
        return None

    def on_scores(
        self, layer: str, call: ScoresCall, original: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    ) -> Tensor | None:
        if (whole := self._slices.add(call, 1)) is not None:
            self._add(layer, *whole, call.scale)
        return None

    def _add(self, layer: str, query: Tensor, key: Tensor, mask: Tensor | None, factor: float) -> None:
        if mask is not None:
            mask = mask.expand(1, mask.shape[-3] if mask.ndim > 2 else 1, *mask.shape[-2:])[0]
        call = _ReadCall(query[0].detach(), key[0].detach(), mask, factor)
        self.calls.setdefault(layer, []).append(call)


def _of_step(trace: Trace, step: int) -> _Evaluated:
    """The attention of a step: that of the latest evaluation, or of a new one."""
    evaluated = _kept.get(trace)
    if evaluated is None or evaluated.step != step:
        evaluated = _evaluate(trace, step)
        if evaluated.nbytes <= _KEPT_BYTES:
            _kept[trace] = evaluated
        else:
            _kept.pop(trace, None)
    return evaluated


def _evaluate(trace: Trace, step: int) -> _Evaluated:
    # once the weights were compared, the words' probabilities of each step are
    denoiser = Denoiser(trace, step, checked=trace in _compared and trace.keep != "words")
    _compared.add(trace)
    family, module = denoiser.family, denoiser.module
    modules = family.attention_modules(module)
    beside = {} if family.attention_kind == "joint" else _beside(modules, family, module)
    reader = _Reader()
    watcher = AttentionWatcher({**modules, **{name: module.get_submodule(name) for name in beside.values()}}, reader)
    evaluation, rows = denoiser.branch("prompt")
    with torch.inference_mode(False), torch.no_grad(), denoiser.held():
        watcher.attach()
        watcher.begin()
        try:
            denoiser.run(evaluation, denoiser.latents, rows, denoiser.arguments(evaluation, rows))
        finally:
            watcher.detach()
    return _Evaluated(step, family, reader.calls, beside, denoiser.dtype, prompt_sequence(denoiser))


def _beside(words: dict[str, nn.Module], family: Family, denoiser: nn.Module) -> dict[str, str]:
    """By word-attention module, the self-attention module of the same block."""
    of_block = {_block_of(name, family): name for name in family.self_attention(denoiser)}
    return {name: of_block[block] for name in words if (block := _block_of(name, family)) in of_block}


def _block_of(name: str, family: Family) -> str:
    return name.rpartition(".")[0] if family.block_of is None else family.block_of(name)


def _matrix(trace: Trace, index: int, read: _Evaluated, grids: Sequence[Size]) -> Floats | None:
    """A layer's attention among positions, and to reference images, on finer grids; None where it was not read."""
    layer = trace.layers[index]
    height, width = layer.grid
    among = _among_positions(trace, index, read)
    if among is None:
        return None
    with torch.inference_mode(False), torch.no_grad():
        shares = among.call.rows(torch.from_numpy(among.queries)).cpu().numpy()
    parts, keys = list[Floats](), np.concatenate([among.image, among.references])
    for layer_grid, grid in zip((layer.grid, *layer.reference_grids), grids, strict=True):
        of_grid, keys = np.split(keys, [math.prod(layer_grid)])
        parts.append(spread(shares[:, of_grid].reshape(-1, *layer_grid), grid).reshape(len(shares), -1))
    rows, columns = np.arange(grids[0][0]) * height // grids[0][0], np.arange(grids[0][1]) * width // grids[0][1]
    tokens = (rows[:, None] * width + columns).ravel()
    return np.concatenate(parts, axis=1)[tokens]


def _text_length(trace: Trace) -> int:
    return 1 + max((token for word in trace.words if word.kind != "concept" for token in word.tokens), default=-1)


@dataclass(frozen=True)
class _AmongPositions:
    """How the image tokens of a layer attend to one another.

    Attributes:
        call: The attention call.
        queries: int (positions,), the query of each position.
        text: The keys of the text; none in cross-attention.
        image: int (positions,), the key of each position.
        references: int (n,), the keys of the tokens of reference images, and what may follow them.
    """

    call: _ReadCall
    queries: NDArray[np.int64]
    text: slice
    image: NDArray[np.int64]
    references: NDArray[np.int64]


def _among_positions(trace: Trace, index: int, read: _Evaluated) -> _AmongPositions | None:
    """Find the call in which a layer's image tokens attend to one another.

    Where only image tokens are queries of joint attention, the first query is theirs.
    """
    layer, positions = trace.layers[index], math.prod(trace.layers[index].grid)
    if read.family.attention_kind == "cross":
        image, references = _tokens(read.family, layer.grid)
        for call in read.calls.get(read.beside.get(layer.name, ""), ()):
            if call.query.shape[1] == call.key.shape[1] == len(image) + len(references):
                return _AmongPositions(call, image, slice(0, 0), image, references)
        return None
    layout, text = read.sequence.layout, _text_length(trace)
    for call in read.calls.get(layer.name, ()):
        keys, queries = call.key.shape[1], call.query.shape[1]
        spans = None if layout is None else layout(keys, text, positions)
        all_queries = queries == keys
        if spans is not None and (all_queries or (queries == positions and not read.family.text_queries)):
            image = np.arange(spans[1].start, spans[1].stop)
            first = spans[1].start if all_queries else 0
            places = read.sequence.references
            references = np.arange(spans[1].stop, keys) if places is None else np.r_[0:0, *places].astype(np.int64)
            return _AmongPositions(call, first + np.arange(len(image)), spans[0], image, references)
    return None


def _tokens(family: Family, grid: Size) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the tokens of the image lie in cross-attention, and those of a reference at its right."""
    if not family.side_by_side:
        return np.arange(math.prod(grid)), np.arange(0)
    places = np.arange(2 * math.prod(grid)).reshape(grid[0], 2, grid[1])
    return places[:, 0].ravel(), places[:, 1].ravel()


def _row(trace: Trace, index: int, read: _Evaluated, position: tuple[float, float]) -> PositionAttention:
    layer = trace.layers[index]
    y, x = token_at(position, layer.grid)
    place = y * layer.grid[1] + x
    among = _among_positions(trace, index, read)
    shares = None if among is None else among.call.probabilities(int(among.queries[place])).cpu().numpy()
    image, references = None, tuple[Floats, ...]()
    if among is not None and shares is not None:
        image, references = shares[among.image].reshape(layer.grid), _references(layer, shares[among.references])
    if read.family.attention_kind == "joint":
        if among is None or shares is None:
            raise _unread(layer)
        words = _words(trace, shares[among.text], joint=True)
        return PositionAttention(index, words, image, references)
    # an IP-Adapter calls attention again, with as many keys as its reference image has tokens
    length, or_more = _text_length(trace), read.family.image_among_keys
    calls = read.calls.get(layer.name, ())
    to_words = next((c for c in calls if c.key.shape[1] == length or (or_more and c.key.shape[1] > length)), None)
    if to_words is None:
        raise _unread(layer)
    of_words = to_words.probabilities(int(_tokens(read.family, layer.grid)[0][place])).cpu().numpy()
    return PositionAttention(index, _words(trace, of_words, joint=False), image, references)


def _unread(layer: Layer) -> ValueError:
    return ValueError(f"attention_from: {layer.name} did not attend to the words when the model was evaluated again")


def _references(layer: Layer, shares: Floats) -> tuple[Floats, ...]:
    """The maps of the reference images, whose tokens follow one another."""
    maps: list[Floats] = []
    start = 0
    for height, width in layer.reference_grids:
        maps.append(shares[start : start + height * width].reshape(height, width))
        start += height * width
    return tuple(maps)


def _words(trace: Trace, shares: Floats, joint: bool) -> Floats:
    """Subword tokens summed; NaN for words that heat maps do not have either."""
    return np.array(
        [
            np.nan
            if not word.tokens or word.kind == "concept" or (joint and word.kind == "padding")
            else shares[list(word.tokens)].sum()
            for word in trace.words
        ],
        dtype=np.float32,
    )


def _check(
    trace: Trace, step: int, position: tuple[float, float], rows: Sequence[PositionAttention], dtype: torch.dtype
) -> None:
    """Raise ValueError where the words' probabilities are not those of the trace."""
    record = trace.records[step]
    for row in rows:
        if row.layer in record.reused:
            continue
        recorded = record.maps[row.layer].mean(axis=0, dtype=np.float32)[
            :, *token_at(position, trace.layers[row.layer].grid)
        ]
        difference = np.abs(recorded - row.words)
        if np.nanmax(difference, initial=0.0) > _TOLERANCE.get(dtype, 1e-3):
            raise ValueError(
                "attention_from: the denoiser no longer attends as it did when this trace was made "
                f"({trace.layers[row.layer].name}, off by {np.nanmax(difference):.2f}): its weights, adapters or "
                "attention processors were changed since; run the trace again"
            )
