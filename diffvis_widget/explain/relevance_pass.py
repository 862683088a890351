"""Relevance of single steps: one forward and backward pass of the denoiser, then its attention layers in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from diffvis_widget.tracer import Denoiser, Family, prompt_sequence
from diffvis_widget.traces.types import Floats, Size

from .attention_gradients import RecordedAttention, recording_attention
from .relevance_rules import ImageText, Joined, resized, resized_keys
from .text_encoder import TextEncoderPass

_ROWS = 10  # steps at once, at most
_CELLS = 2**12  # and latent cells at once: the graph of one step at 64 x 64 is kept

AttentionGradients = list[tuple[RecordedAttention, Tensor | None]]
"""Calls of attention in order, each with the gradient of its output."""


@dataclass(frozen=True)
class AttentionModules:
    """The attention modules of a denoiser by dotted path.

    Attributes:
        all: All of them.
        words: Those that attend to the text.
    """

    all: dict[str, nn.Module]
    words: dict[str, nn.Module]

    @classmethod
    def of(cls, denoiser: nn.Module, family: Family) -> Self:
        """Find the attention modules of a denoiser.

        Args:
            denoiser: The denoiser.
            family: Its model family.

        Returns:
            The modules.
        """
        attending = {name: module for name, module in denoiser.named_modules() if hasattr(module, "processor")}
        return cls(attending, family.attention_modules(denoiser))


def steps_per_batch(probe: Denoiser) -> int:
    """Choose how many steps to process in one batch.

    A batch of a small U-Net costs a third of separate calls; larger denoisers use the whole processor alone.

    Args:
        probe: Denoiser of any step.

    Returns:
        The number, 1 or more.
    """
    height, width = _size(probe)
    return max(1, min(_ROWS, _CELLS // (height * width))) if probe.family.batches_steps else 1


def relevance_maps(
    probes: Sequence[Denoiser], modules: AttentionModules, text: TextEncoderPass | None, length: int, limit: int
) -> list[Floats]:
    """Compute the relevance of each text token at each image token, for several steps.

    A U-Net processes all steps in one batch, where its arguments allow that.

    Args:
        probes: Denoisers of steps of one run.
        modules: Attention modules of the denoiser.
        text: Source of R_qq; None is I.
        length: L, number of text tokens.
        limit: Largest side of the image grid.

    Returns:
        float32 (L, h, w) for each step.

    Raises:
        ValueError: If no attention to words was observed.
    """
    first, (evaluation, rows) = probes[0], probes[0].branch()
    leaves: list[list[Tensor]] = []
    arguments_by_step: list[dict[str, Any]] = []
    for probe in probes:
        arguments = probe.arguments(*probe.branch())
        leaves.append(text.put_into(arguments, probe.family.text_argument) if text is not None else [])
        arguments_by_step.append(arguments)
    joined = arguments_by_step[0] if len(arguments_by_step) == 1 else merge_arguments(arguments_by_step)
    if joined is None or (len(probes) > 1 and evaluation.extra is not None):
        return [relevance_maps([probe], modules, text, length, limit)[0] for probe in probes]
    # the call applies the noise level of the first step to all rows
    latents = torch.cat([probe.latents * (probe.input_scale / first.input_scale) for probe in probes])
    with torch.inference_mode(False), torch.enable_grad(), first.held(), recording_attention(modules.all) as records:
        # a leaf, so that there is a graph where the parameters are frozen
        total = first.run(evaluation, latents.clone().requires_grad_(), rows * len(probes), joined).float().sum()
        wanted = [*(record.output for record in records), *(leaf for row in leaves for leaf in row)]
        gradients = torch.autograd.grad(total, wanted, allow_unused=True)
    calls: AttentionGradients = list(zip(records, gradients[: len(records)], strict=True))
    slopes = iter(gradients[len(records) :])
    results: list[Floats] = []
    for row in range(len(probes)):
        if first.family.attention_kind == "joint":
            state = _joint(first, modules, calls, length, limit)
        else:
            text_gradients = [next(slopes) for _ in leaves[row]]
            untouched = torch.eye(length, dtype=torch.float32, device=first.device)
            on_text = untouched if text is None else text.relevance(text_gradients)
            state = _cross(first, modules, calls, on_text, limit, row)
        results.append(state.on_text.T.unflatten(1, state.grid).cpu().numpy())
    return results


def merge_arguments(values: Sequence[Any]) -> Any:
    """Merge an argument of several calls into that of one batched call.

    Tensors of one row, and scalar tensors, become rows; dictionaries and lists are merged recursively; any other value
    must be the same in all calls.

    Args:
        values: The argument of each call.

    Returns:
        The merged argument; None where merging is impossible.
    """
    first = values[0]
    if isinstance(first, Tensor):
        if any(value.shape != first.shape for value in values) or (first.ndim and len(first) != 1):
            return None
        return torch.cat(list(values)) if first.ndim else torch.stack(list(values))
    if isinstance(first, dict):
        if any(value.keys() != first.keys() for value in values):
            return None
        parts = {name: merge_arguments([value[name] for value in values]) for name in first}
        return None if any(value is None and first[name] is not None for name, value in parts.items()) else parts
    if isinstance(first, list | tuple):
        if any(len(value) != len(first) for value in values):
            return None
        items = [merge_arguments(list(column)) for column in zip(*values, strict=True)]
        lost = any(item is None and original is not None for item, original in zip(items, first, strict=True))
        return None if lost else type(first)(items)
    return first if all(value == first for value in values) else None


def _cross(
    probe: Denoiser, modules: AttentionModules, calls: AttentionGradients, on_text: Tensor, limit: int, row: int
) -> ImageText:
    layer_calls = _own_calls(calls, modules.words, len(on_text))
    grids = [probe.family.grid(record.call.query.shape[2], _size(probe)) for record, _ in layer_calls]
    image_grids = [grid for grid in grids if grid is not None]
    if not any(record.layer in modules.words for record, _ in layer_calls) or len(image_grids) < len(grids):
        raise _unseen()
    state = ImageText(_limited(max(image_grids, key=lambda grid: grid[0] * grid[1]), limit), on_text)
    for (record, gradient), source in zip(layer_calls, image_grids, strict=True):
        if record.layer in modules.words:
            state.cross_layer(resized(record.cam(gradient, row=row), source, state.grid))
        else:
            cam = record.cam(gradient, lambda rows, source=source: resized_keys(rows, source, state.grid), row=row)
            state.self_layer(resized(cam, source, state.grid))
    return state


def _own_calls(calls: AttentionGradients, words: dict[str, Any], length: int) -> AttentionGradients:
    """The calls that count: an IP-Adapter attends again, to its image, inside a text-attention module."""
    first: set[str] = set()
    chosen: AttentionGradients = []
    for record, gradient in calls:
        fits = record.call.key.shape[2] == (length if record.layer in words else record.call.query.shape[2])
        if fits and record.layer not in first:
            first.add(record.layer)
            chosen.append((record, gradient))
    return chosen


def _joint(probe: Denoiser, modules: AttentionModules, calls: AttentionGradients, length: int, limit: int) -> Joined:
    place = prompt_sequence(probe).layout
    height, width = (side // probe.family.patch_size for side in _size(probe))
    source, cells = (height, width), height * width
    state = Joined(_limited(source, limit), length, probe.device)
    has_words = False
    for record, gradient in calls:
        positions = record.call.query.shape[2]
        if record.call.key.shape[2] != positions:
            continue  # attention to something beside the sequence
        where = place(positions, length, cells) if place is not None and record.layer in modules.words else None
        if where is not None:
            has_words = True
            state.layer(_on_both(record, gradient, where, length, source, state.grid))
        elif positions == cells:
            cam = record.cam(gradient, lambda rows: resized_keys(rows, source, state.grid))
            state.image_layer(resized(cam, source, state.grid))
    if not has_words:
        raise _unseen()
    return state


def _on_both(
    record: RecordedAttention,
    gradient: Tensor | None,
    where: tuple[slice, slice],
    length: int,
    source: Size,
    target: Size,
) -> Tensor:
    """The cam of joint attention on [text, image], the image on another grid."""
    text, image = where
    text = slice(text.start, text.start + length)

    def fold(rows: Tensor) -> Tensor:
        return torch.cat([rows[:, text], resized_keys(rows[:, image], source, target)], dim=1)

    cam = record.cam(gradient, fold)
    return torch.cat([cam[text], resized(cam[image], source, target)])


def _size(probe: Denoiser) -> Size:
    return int(probe.latents.shape[2]), int(probe.latents.shape[3])


def _limited(grid: Size, limit: int) -> Size:
    """The grid divided by the smallest whole number that leaves no side longer than the limit."""
    factor = -(-max(grid) // limit)
    return -(-grid[0] // factor), -(-grid[1] // factor)


def _unseen() -> ValueError:
    return ValueError(
        "no attention to words was seen while the denoiser ran: its processors compute it in a way that cannot be "
        "followed; call set_default_attn_processor() on the denoiser"
    )
