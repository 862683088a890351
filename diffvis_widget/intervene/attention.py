"""Changes attention to the prompt where it is computed: queries, keys and values of a call, before the call is made.

A weight multiplies value rows, a dropped word's keys are masked, a frozen layer gets the queries and keys of another
run. So the model's own kernels compute the result, and a tracer reads what they receive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from diffvis_widget.tracer.attention_calls import (
    AttentionCall,
    AttentionResult,
    AttentionWatcher,
    CallLayout,
    ScoresCall,
)

Rows = Sequence[tuple[int, int]]
"""(row of the denoiser's batch, image) of each row that carries the prompt."""

QueriesKeys = Mapping[str, tuple[Tensor, Tensor]]
"""By layer, queries and keys (1, heads, positions, width) of another run."""


@dataclass(frozen=True)
class AttentionChange:
    """What to change in one evaluation of the denoiser.

    Attributes:
        batch: Its rows.
        rows: Those that carry the prompt, with their images.
        lengths: Number of text tokens of each image.
        weights: (positions of each image, factor) of each weighted word.
        dropped: Dropped positions of each image, or None.
        frozen: Queries and keys that replace the prompt's own, or None.
        layout: The sequence of joint attention; None where the keys are the text alone.
    """

    batch: int
    rows: Rows
    lengths: Sequence[int]
    weights: Sequence[tuple[Sequence[Sequence[int]], float]]
    dropped: Sequence[Sequence[int]] | None
    frozen: QueriesKeys | None
    layout: CallLayout | None

    def of_row(self, row: int) -> AttentionChange | None:
        """Take the change of one row, where attention is called row by row.

        Args:
            row: Of the batch.

        Returns:
            The change of a batch of that row alone; None for a row that does not carry the prompt.
        """
        image, layout = dict(self.rows).get(row), self.layout
        if image is None:
            return None
        return replace(
            self,
            batch=1,
            rows=[(0, 0)],
            lengths=[self.lengths[image]],
            weights=[([positions[image]], factor) for positions, factor in self.weights],
            dropped=None if self.dropped is None else [self.dropped[image]],
            layout=None if layout is None else lambda keys, text, _: layout(keys, text, row),
        )

    def spans(self, keys: int) -> list[tuple[slice, slice] | None]:
        """Locate text and image in the sequence of joint attention.

        Args:
            keys: Number of keys.

        Returns:
            Of each image, where its text and its image tokens lie; None where the sequence has another layout.
        """
        assert self.layout is not None
        rows = {image: row for row, image in reversed(self.rows)}
        return [self.layout(keys, length, rows[image]) for image, length in enumerate(self.lengths)]

    @property
    def positions(self) -> int:
        """Number of text tokens of the longest row."""
        return max(self.lengths)

    def value_factors(self, keys: int, starts: Sequence[int], device: torch.device) -> Tensor | None:
        """The factor of each value row.

        Args:
            keys: Number of keys.
            starts: Where the text of each image begins in the keys.
            device: Of the result.

        Returns:
            float32 (batch, keys), or None where no word is weighted.
        """
        if not self.weights:
            return None
        factors = torch.ones(self.batch, keys, dtype=torch.float32)
        for positions, factor in self.weights:
            for row, image in self.rows:
                factors[row, [starts[image] + position for position in positions[image]]] *= factor
        return factors.to(device)

    def visible_keys(self, keys: int, starts: Sequence[int], device: torch.device) -> Tensor | None:
        """Which keys may be attended to.

        Args:
            keys: Number of keys.
            starts: Where the text of each image begins in the keys.
            device: Of the result.

        Returns:
            bool (batch, keys), or None where no word is dropped.
        """
        if self.dropped is None:
            return None
        visible = torch.ones(self.batch, keys, dtype=torch.bool)
        for row, image in self.rows:
            visible[row, [starts[image] + position for position in self.dropped[image]]] = False
        return visible.to(device)

    def replace_prompt_rows(self, batch: Tensor, row: Tensor) -> Tensor:
        """Put one row in the place of each row that carries the prompt.

        Args:
            batch: (batch, ...).
            row: (1, ...).

        Returns:
            A changed copy of `batch`.
        """
        changed = batch.clone()
        changed[[index for index, _ in self.rows]] = row.to(batch.dtype)
        return changed


class TextAttention:
    """Changes the attention to text in a denoiser's word-attention modules, in one thread.

    Args:
        modules: The word-attention modules by dotted path.
        second: Those of a denoiser that takes over within a call, under the paths of the first one's.
        by_row: Whether the modules attend one row of the batch at a time, in joint attention.
        image_keys: Whether keys of an image follow those of the text in cross-attention.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        second: Mapping[str, nn.Module] | None = None,
        by_row: bool = False,
        image_keys: bool = False,
    ) -> None:
        self._watcher = AttentionWatcher(modules, self, modifies=True, second=second)
        self._by_row, self._image_keys = by_row, image_keys
        self._change: AttentionChange | None = None
        self._acted = False

    def attach(self) -> None:
        """Register the hooks. `detach` removes all of them, whatever happened in between."""
        self._watcher.attach()

    def detach(self) -> None:
        """Remove the hooks."""
        self.end()
        self._watcher.detach()

    def begin(self, change: AttentionChange) -> None:
        """Begin to change an evaluation of the denoiser.

        Args:
            change: What to change.
        """
        self._change, self._acted = change, False
        self._watcher.begin()

    def end(self) -> None:
        """End the evaluation."""
        self._watcher.end()
        self._change = None

    @property
    def is_on(self) -> bool:
        """Whether an evaluation is under way in which attention is changed."""
        return self._change is not None

    @property
    def has_acted(self) -> bool:
        """Whether any attention to text was seen in this evaluation."""
        return self._acted

    def on_attention(self, layer: str, call: AttentionCall, result: AttentionResult) -> Tensor | None:
        """Change a call of scaled_dot_product_attention; see `AttentionListener`.

        Args:
            layer: Dotted path of the module.
            call: Its arguments.
            result: Computes the original result.

        Returns:
            The changed result, or None where the call is not to text.
        """
        change = self._change
        if change is not None and self._by_row:
            row = self._watcher.calls - 1
            is_last = row == max(row for row, _ in change.rows)
            change = change.of_row(row)
        else:
            is_last = True
        if change is None or len(call.query) != change.batch:
            return None
        if change.layout is None:
            if not self._attends_to_text(call.key.shape[2], change):
                return None
            self._finish(layer)
            return result(_change_cross(change, call, layer))
        spans = change.spans(call.key.shape[2])
        if call.query.shape[2] != call.key.shape[2] or any(span is None for span in spans):
            return None
        self._finish(layer, is_last)
        return _attend_jointly(result, change, call, [span for span in spans if span is not None])

    def on_scores(
        self, layer: str, call: ScoresCall, original: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    ) -> Tensor | None:
        """Change a call of an eager or sliced processor; see `AttentionListener`.

        Args:
            layer: Dotted path of the module.
            call: Its arguments.
            original: (query, key, mask) -> probabilities.

        Returns:
            The changed probabilities, or None where the call is not to text.
        """
        change = self._change
        if change is None or change.layout is not None or not self._attends_to_text(call.key.shape[1], change):
            return None
        self._acted = True
        if call.stop == change.batch * call.heads:
            self._finish(layer)
        query, key, mask, heads = call.query, call.key, call.mask, call.heads
        keys, starts, part = key.shape[1], [0] * len(change.lengths), slice(call.start, call.stop)
        prompt_rows = {row for row, _ in change.rows}
        indices = [index for index in range(part.start, part.stop) if index // heads in prompt_rows]
        if change.frozen is not None and indices:
            frozen_query, frozen_key = (tensor[0] for tensor in change.frozen[layer])
            _check_shapes(layer, frozen_query.shape[1:], query.shape[1:], frozen_key.shape[1:], key.shape[1:])
            rows, head = [index - part.start for index in indices], [index % heads for index in indices]
            query, key = query.clone(), key.clone()
            query[rows] = frozen_query[head].to(query.dtype)
            key[rows] = frozen_key[head].to(key.dtype)
        if (visible := change.visible_keys(keys, starts, key.device)) is not None:
            hidden = _as_added_mask(visible, query.dtype)
            hidden = hidden.repeat_interleave(heads, dim=0)[part][:, None]
            mask = hidden if mask is None else mask + hidden
        probabilities = original(query, key, mask)
        if (factors := change.value_factors(keys, starts, key.device)) is not None:
            probabilities = _scaled(probabilities, factors.repeat_interleave(heads, dim=0)[part][:, None])
        return probabilities

    def _attends_to_text(self, keys: int, change: AttentionChange) -> bool:
        """An IP-Adapter calls attention again, with as many keys as its reference image has tokens."""
        return keys > change.positions if self._image_keys else keys == change.positions

    def _finish(self, layer: str, is_last: bool = True) -> None:
        self._acted = True
        if is_last:
            self._watcher.finished.add(layer)


def _change_cross(change: AttentionChange, call: AttentionCall, layer: str) -> AttentionCall:
    keys, device, starts = call.key.shape[2], call.key.device, [0] * len(change.lengths)
    if change.frozen is not None:
        query, key = change.frozen[layer]
        _check_shapes(layer, query.shape[1:], call.query.shape[1:], key.shape[1:], call.key.shape[1:])
        call = replace(
            call,
            query=change.replace_prompt_rows(call.query, query),
            key=change.replace_prompt_rows(call.key, key),
        )
    call = _with_hidden_keys(call, change.visible_keys(keys, starts, device))
    factors = change.value_factors(keys, starts, device)
    return call if factors is None else replace(call, value=_scaled(call.value, factors[:, None, :, None]))


def _attend_jointly(
    result: AttentionResult, change: AttentionChange, call: AttentionCall, spans: Sequence[tuple[slice, slice]]
) -> Tensor:
    """Text and image in one sequence: a dropped word's keys are masked for all, its weight holds for image rows.

    The text rows go on as they would, or the weight would act again in every later layer through the other words.
    """
    keys, device = call.key.shape[2], call.key.device
    starts = [text.start for text, _ in spans]
    call = _with_hidden_keys(call, change.visible_keys(keys, starts, device))
    output = result(call)
    factors = change.value_factors(keys, starts, device)
    if factors is None:
        return output
    rows = [row for row, _ in change.rows]
    mask = call.attn_mask
    if mask is not None and mask.ndim == 4 and len(mask) == change.batch:
        mask = mask[rows]
    value = _scaled(call.value[rows], factors[rows][:, None, :, None])
    # of one row the very query, by which a tracer knows that it is the same row
    query = call.query if len(call.query) == 1 else call.query[rows]
    weighted = result(replace(call, query=query, key=call.key[rows], value=value, attn_mask=mask))
    output = output.clone()
    for index, (row, image) in enumerate(change.rows):
        span = spans[image][1]
        output[row, :, span] = weighted[index, :, span]
    return output


def _with_hidden_keys(call: AttentionCall, visible: Tensor | None) -> AttentionCall:
    """The call with a mask that hides keys where `visible`, bool (batch, keys), is False."""
    if visible is None:
        return call
    visible = visible[:, None, None]
    mask = call.attn_mask
    if mask is None:
        return replace(call, attn_mask=visible)
    if mask.dtype == torch.bool:
        return replace(call, attn_mask=mask & visible)
    return replace(call, attn_mask=mask + _as_added_mask(visible, mask.dtype))


def _as_added_mask(visible: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(~visible, -torch.inf)


def _scaled(values: Tensor, factors: Tensor) -> Tensor:
    """The product in float32: a factor in half precision would be off by more than the values are."""
    return (values.float() * factors).to(values.dtype)


def _check_shapes(
    layer: str, frozen_query: torch.Size, query: torch.Size, frozen_key: torch.Size, key: torch.Size
) -> None:
    if frozen_query != query or frozen_key != key:
        raise ValueError(
            f"freeze: {layer} has {query[-2]} image and {key[-2]} text positions in this run and {frozen_query[-2]} "
            f"and {frozen_key[-2]} in the frozen one: use the same height, width and kind of prompt"
        )
