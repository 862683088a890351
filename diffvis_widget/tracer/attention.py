"""Reads exact attention probabilities of the prompt's words where attention is computed.

While a traced denoiser runs, each attention call inside its word-attention modules returns its original result, bit for
bit, and its queries and keys are read: after norms, rotary embedding and masks, multiplied in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from diffvis_widget.traces.types import Size

from .attention_calls import (
    AttentionCall,
    AttentionResult,
    AttentionWatcher,
    CallLayout,
    ImageQueries,
    ScoresCall,
    ScoresCollector,
)
from .attention_probabilities import (
    CrossCall,
    FlatMaps,
    Targets,
    cross_probabilities,
    flatten_maps,
    image_normalizers,
    joint_probabilities,
    output_scores,
    spans_fit,
)
from .concept_reader import ConceptReader
from .fault_guard import FaultGuard
from .log_sum_exp import attend, without_autocast
from .refinement import SelfAttention, refines_better

Branch = Literal["prompt", "negative"]
"""The conditional branch ("prompt") and the unconditional one."""

MapKind = Literal["prompt", "negative", "output", "refined", "concepts", "concept output", "refined concepts"]
"""Attention probabilities of a branch; output-space scores, or refined maps, of the conditional branch; and all three
of words outside the prompt."""


@dataclass(frozen=True)
class Reading:
    """What to read in one evaluation of the denoiser.

    Attributes:
        branch: Which branch.
        rows: Its rows of the batch, one per image.
        targets: Its words.
    """

    branch: Branch
    rows: slice
    targets: Targets


def _all_queries(queries: int) -> slice:
    return slice(None)


class AttentionReader:
    """Reads the word attention of one denoiser, in one thread.

    Args:
        modules: The word-attention modules by dotted path.
        heads: Whether heads are kept apart.
        output: Whether joint attention is read in output space too.
        refining: The modules whose attention among image tokens may refine the maps, by dotted path.
        second: The word-attention modules of a second denoiser, under the paths of the first one's.
        guard: Takes the errors of the hooks; None: they end the call.
        concepts: Reads words outside the prompt; None: there are none.
        by_row: Whether the modules attend one row of the batch at a time, in joint attention.
        image_keys: Whether keys of an image follow those of the text in cross-attention.

    Attributes:
        concepts: Reads words outside the prompt; None: there are none.
        modules: The word-attention modules by dotted path.
        output: Whether joint attention is read in output space too.
        refining: The modules whose attention among image tokens may refine the maps, by dotted path.
        maps: After `end`, the maps of that evaluation.
        self_attention: After `end`, the attention among image tokens that refines them; None where none was seen.
        unread: Layers of that evaluation that called attention with other keys than text, or text and image.
    """

    concepts: ConceptReader | None
    modules: dict[str, nn.Module]
    output: bool
    refining: dict[str, nn.Module]
    maps: dict[MapKind, FlatMaps]
    self_attention: SelfAttention | None
    unread: dict[str, int]

    def __init__(
        self,
        modules: dict[str, nn.Module],
        heads: bool,
        output: bool = False,
        refining: dict[str, nn.Module] | None = None,
        second: dict[str, nn.Module] | None = None,
        guard: FaultGuard | None = None,
        concepts: ConceptReader | None = None,
        by_row: bool = False,
        image_keys: bool = False,
    ) -> None:
        self.concepts = concepts
        self.modules = modules
        self.refining = refining or {}
        self.maps, self.unread, self.self_attention = {}, {}, None
        self._heads, self.output = heads, output
        self._watcher = AttentionWatcher({**modules, **self.refining}, self, second=second, guard=guard)
        self._slices = ScoresCollector()
        self._readings: Sequence[Reading] = ()
        self._layout: CallLayout | None = None
        self._image_queries: ImageQueries = _all_queries
        self._token_frames: tuple[int, Size] | None = None
        self._by_row, self._image_keys = by_row, image_keys
        self._batch, self._frames = 0, 1
        self._query: Tensor | None = None  # of the latest row, where rows attend apart
        self._next_rows: dict[str, int] = {}
        self._cross: dict[Branch, list[CrossCall]] = {}
        self._joint: dict[MapKind, dict[str, Tensor]] = {}

    def attach(self) -> None:
        """Register the hooks. `detach` removes all of them, whatever happened in between."""
        self._watcher.attach()
        if self.concepts is not None:
            self.concepts.attach()

    def detach(self) -> None:
        """Remove the hooks."""
        self._watcher.detach()
        if self.concepts is not None:
            self.concepts.detach()

    def begin(
        self,
        batch: int,
        readings: Sequence[Reading],
        layout: CallLayout | None,
        image_queries: ImageQueries = _all_queries,
        frames: int = 1,
        token_frames: tuple[int, Size] | None = None,
    ) -> None:
        """Begin to read an evaluation of the denoiser.

        Args:
            batch: Its rows.
            readings: What to read; empty: nothing.
            layout: The sequence of joint attention; None where the keys are the text alone.
            image_queries: Finds the image tokens among the queries, where the keys are the text alone.
            frames: Rows of the batch in the attention for each row that the denoiser is given: the frames of a video.
            token_frames: How many frames of tokens follow one another in a row, and the (h, w) of each; None: none do.
        """
        self._watcher.end()
        self._image_queries, self._token_frames = image_queries, token_frames
        self._batch, self._frames, self._readings, self._layout = batch * frames, frames, readings, layout
        self.maps, self.unread, self._cross, self._joint = {}, {}, {}, {}
        self.self_attention, self._query, self._next_rows = None, None, {}
        if self.concepts is not None:
            self.concepts.begin()
        if readings:
            self._watcher.begin()

    def end(self) -> None:
        """End the evaluation, and compute its maps."""
        self._watcher.end()
        self._query = None
        cross, self._cross, maps, self._joint = self._cross, {}, self._joint, {}
        with torch.no_grad():
            for reading in self._readings:
                if calls := cross.get(reading.branch):
                    maps[reading.branch] = {**maps.get(reading.branch, {}), **self._probabilities(calls, reading)}
            if self.concepts is not None and "prompt" in maps:
                with without_autocast(next(iter(maps["prompt"].values())).device):
                    of_concepts = [self._joined(part) for part in self.concepts.maps()]
                kinds: tuple[MapKind, ...] = ("concepts", "concept output")
                maps |= {kind: part for kind, part in zip(kinds, of_concepts, strict=True) if part}
            self.maps = {kind: flatten_maps(layers) for kind, layers in maps.items()}
        self._readings = ()

    def on_attention(self, layer: str, call: AttentionCall, result: AttentionResult) -> Tensor | None:
        """Read a call of scaled_dot_product_attention; see `AttentionListener`.

        Args:
            layer: Dotted path of the module.
            call: Its arguments.
            result: Computes the original result.

        Returns:
            The original result, or None.
        """
        if self._by_row and len(call.query) == 1 and self._layout is not None:
            if call.query is self._query:  # an intervention makes the call of a row twice
                return None
            self._query, row = call.query, self._next_rows.get(layer, 0)
            self._next_rows[layer] = row + 1
            return self._read_joint(layer, call, result, row)
        if len(call.query) != self._batch:
            return None
        if layer not in self.modules:
            self._keep_self_attention(layer, call.query, call.key, call.attn_mask, call.factor)
            return None
        if self._layout is not None:
            return self._read_joint(layer, call, result)
        output = result()
        if self._attends_to_text(call.key):
            self._keep(layer, call.query, call.key, call.attn_mask, call.factor)
        else:
            self.unread[layer] = int(call.key.shape[2])
        return output

    def on_scores(
        self, layer: str, call: ScoresCall, original: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    ) -> Tensor | None:
        """Read a call of an eager or sliced processor; see `AttentionListener`.

        Args:
            layer: Dotted path of the module.
            call: Its arguments.
            original: (query, key, mask) -> probabilities.

        Returns:
            The original result, or None.
        """
        if layer not in self.modules:
            if (whole := self._slices.add(call, self._batch)) is not None:
                self._keep_self_attention(layer, *whole, call.scale)
            return None
        if self._layout is not None or not self._attends_to_text(call.key):
            return None
        output = original(call.query, call.key, call.mask)
        if (whole := self._slices.add(call, self._batch)) is not None:
            self._keep(layer, *whole, call.scale)
        return output

    def _attends_to_text(self, key: Tensor) -> bool:
        """An IP-Adapter calls attention again, with as many keys as its reference image has tokens."""
        text = self._readings[0].targets.membership.shape[1]
        return key.shape[-2] > text if self._image_keys else key.shape[-2] == text

    def _finish(self, layer: str) -> None:
        self._watcher.finished.add(layer)
        self.unread.pop(layer, None)

    def _keep(self, layer: str, query: Tensor, key: Tensor, mask: Tensor | None, factor: float) -> None:
        """Cross-attention is computed at the end of the evaluation, all layers of one shape together."""
        self._finish(layer)
        image = self._image_queries(query.shape[2])
        image = image if isinstance(image, slice) else image.to(query.device)
        for reading in self._readings:
            rows = slice(reading.rows.start * self._frames, reading.rows.stop * self._frames)
            part = mask[rows] if mask is not None and mask.ndim == 4 and len(mask) == len(query) else mask
            call = CrossCall(layer, query[rows][:, :, image].detach(), key[rows].detach(), part, factor)
            if self.concepts is not None and reading.branch == "prompt":
                self.concepts.read_cross(call)
            if not call.is_large:
                self._cross.setdefault(reading.branch, []).append(call)
                continue
            with torch.no_grad():  # the queries of all layers would fill the memory
                self._joint.setdefault(reading.branch, {}).update(self._probabilities([call], reading))

    def _probabilities(self, calls: Sequence[CrossCall], reading: Reading) -> dict[str, Tensor]:
        """The words' probabilities in cross-attention, float32 (images, heads or 1, image tokens, words) by layer."""
        membership = reading.targets.membership.repeat_interleave(self._frames, dim=0)
        with without_autocast(membership.device):
            return self._joined(cross_probabilities(calls, membership, self._heads))

    def _joined(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        """Maps of rows of the batch (rows, heads or 1, image tokens, words), with the frames of a video in one row."""
        if self._frames == 1:
            return maps
        rows = {layer: part.unflatten(0, (-1, self._frames)) for layer, part in maps.items()}
        return {layer: part.transpose(1, 2).flatten(2, 3) for layer, part in rows.items()}

    def _keep_self_attention(
        self,
        layer: str,
        query: Tensor,
        key: Tensor,
        mask: Tensor | None,
        factor: float,
        spans: Sequence[slice] = (),
        query_spans: Sequence[slice] = (),
        only_row: int | None = None,
    ) -> None:
        """Keep the attention among image tokens in the conditional branch, where it refines better than earlier layers.

        Args:
            layer: Dotted path of the module.
            query: (batch, heads, queries, width).
            key: (batch, key heads, keys, width).
            mask: As that of scaled_dot_product_attention.
            factor: Factor of the scores.
            spans: Where the image tokens of each image lie in the keys; empty: everywhere.
            query_spans: The same for the queries; empty: as in the keys.
            only_row: The row of the batch that the call holds; None: it holds all.
        """
        reading = next((reading for reading in self._readings if reading.branch == "prompt"), None)
        if reading is None or (query.shape[2] != key.shape[2] and not query_spans):
            return
        rows = range(reading.rows.start * self._frames, reading.rows.stop * self._frames)
        image = self._image_queries(query.shape[2])
        if not isinstance(image, slice):  # a reference stands beside the image, in the same rows of tokens
            return
        places = list(zip(rows, query_spans or spans or [image] * len(rows), spans or [image] * len(rows), strict=True))
        if only_row is not None:
            places = [(0, queried, span) for row, queried, span in places if row == only_row]
        if not places or not refines_better(len(range(query.shape[2])[places[0][1]]), self.self_attention):
            return
        masks = None
        if mask is not None:
            full = mask.expand(len(query), mask.shape[-3] if mask.ndim > 2 else 1, *mask.shape[-2:])
            masks = [full[row, :, queried if full.shape[2] > 1 else slice(None), span] for row, queried, span in places]
        queries = [query[row, :, queried].detach() for row, queried, _ in places]
        keys = [key[row, :, span].detach() for row, _, span in places]
        attention = SelfAttention(layer, queries, keys, masks, factor)
        if self._token_frames is not None:
            with torch.no_grad(), without_autocast(query.device):
                attention = attention.of_frames(*self._token_frames)
        first = None if only_row is None else self.self_attention
        self.self_attention = attention if first is None else first.joined(attention)

    def _spans(self, keys: int, reading: Reading) -> list[tuple[slice, slice] | None]:
        """Where text and image of each row of a branch lie in the sequence."""
        assert self._layout is not None
        return [
            self._layout(keys, length, row) for row, length in enumerate(reading.targets.lengths, reading.rows.start)
        ]

    def _read_joint(
        self, layer: str, call: AttentionCall, result: AttentionResult, only_row: int | None = None
    ) -> Tensor | None:
        """only_row: The row of the batch that the call holds; None: it holds all."""
        keys = call.key.shape[2]
        spans = [self._spans(keys, reading) for reading in self._readings]
        if not spans_fit(call, [span for row in spans for span in row]):
            self.unread[layer] = keys
            return None
        # where only image tokens are queries, they are all of them
        queries = None if call.query.shape[2] == keys else slice(0, call.query.shape[2])
        if only_row is None or only_row == self._batch - 1:
            self._finish(layer)
        if layer in self.refining:
            of_prompt = [row for reading, row in zip(self._readings, spans, strict=True) if reading.branch == "prompt"]
            images = [span[1] for row in of_prompt for span in row if span is not None]
            queried = [] if queries is None else [queries] * len(images)
            tensors = call.query, call.key, call.attn_mask
            self._keep_self_attention(layer, *tensors, call.factor, images, queried, only_row)
        # another watcher, or a user's replacement, must receive the call too
        output, log_sum_exp = attend(call, result) if result.is_torch else (result(), None)
        for reading, row_spans in zip(self._readings, spans, strict=True):
            rows = range(reading.rows.start, reading.rows.stop)
            images = [
                (row, (span[0], queries or span[1]), columns)
                for row, span, columns in zip(rows, row_spans, reading.targets.columns, strict=True)
                if span is not None and only_row in (None, row)
            ]
            if not images:
                continue
            if only_row is not None:
                images = [(0, span, columns) for _, span, columns in images]
            wants_output = self.output and reading.branch == "prompt" and queries is None
            with torch.no_grad(), without_autocast(call.query.device):
                normalizers = [image_normalizers(call, log_sum_exp, row, span[1]) for row, span, _ in images]
                maps = [
                    joint_probabilities(call, part, row, *span, columns, self._heads)
                    for (row, span, columns), part in zip(images, normalizers, strict=True)
                ]
                self._add(reading.branch, layer, torch.stack(maps))
                if wants_output:
                    scores = [output_scores(output[row], *span, columns, self._heads) for row, span, columns in images]
                    self._add("output", layer, torch.stack(scores))
            if self.concepts is not None and reading.branch == "prompt":
                # the text of every image has the same length where concepts are known, so that images lie alike
                image, outputs = images[0][1][1], output if wants_output else None
                self.concepts.read_joint(layer, call, outputs, reading.rows, image, torch.cat(normalizers))
        return output

    def _add(self, kind: MapKind, layer: str, maps: Tensor) -> None:
        """Add maps (images, heads or 1, image tokens, words): of all images, or of the next one."""
        layers = self._joint.setdefault(kind, {})
        layers[layer] = maps if layer not in layers else torch.cat([layers[layer], maps])
