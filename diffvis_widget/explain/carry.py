"""One step of relevance: the denoiser run once with its gradient, and its attention layers walked in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from diffvis_widget.tracer import Denoiser
from diffvis_widget.tracer.families import Family

from .attention import Attended, attention_seen
from .saliency import Floats
from .text import TextSide
from .walk import ImageText, Joined, Size, resized, resized_keys

Seen = list[tuple[Attended, Tensor | None]]
"""Calls of attention in order, each with the gradient of its output."""


@dataclass(frozen=True)
class Sites:
    """The attention modules of a denoiser by dotted path: all of them, and those that look at words."""

    all: dict[str, nn.Module]
    words: dict[str, nn.Module]

    @classmethod
    def of(cls, denoiser: nn.Module, family: Family) -> Self:
        attending = {name: module for name, module in denoiser.named_modules() if hasattr(module, "processor")}
        return cls(attending, family.sites(denoiser))


def carried(probe: Denoiser, sites: Sites, text: TextSide | None, length: int, limit: int) -> Floats:
    """float32 (L, h, w): relevance of each of `length` text positions at one step, where it lies.

    sites: of the denoiser. text: what R_qq comes from; None is I. limit: positions along a side of the image, at most.
    Raises ValueError where no attention to words was seen.
    """
    evaluation, rows = probe.prompt()
    arguments = probe.arguments(evaluation, rows)
    leaves = text.put_into(arguments, probe.family.text) if text is not None else []
    with torch.inference_mode(False), torch.enable_grad(), probe.held(), attention_seen(sites.all) as seen:
        # a leaf, so that there is a graph where the parameters are frozen
        total = probe.run(evaluation, probe.latents.clone().requires_grad_(), rows, arguments).float().sum()
        found = torch.autograd.grad(total, [*(one.output for one in seen), *leaves], allow_unused=True)
    calls: Seen = list(zip(seen, found[: len(seen)], strict=True))
    if probe.family.kind == "joint":
        state = _joint(probe, sites, calls, length, limit)
    else:
        on_text = torch.eye(length, device=probe.device) if text is None else text.relevance(found[len(seen) :])
        state = _cross(probe, sites, calls, on_text, limit)
    return state.on_text.T.unflatten(1, state.grid).cpu().numpy()


def _cross(probe: Denoiser, sites: Sites, calls: Seen, on_text: Tensor, limit: int) -> ImageText:
    own = _own_calls(calls, sites.words, len(on_text))
    grids = [probe.family.grid(one.query.shape[2], _size(probe)) for one, _ in own]
    known = [grid for grid in grids if grid is not None]
    if not any(one.site in sites.words for one, _ in own) or len(known) < len(grids):
        raise _unseen()
    state = ImageText(_limited(max(known, key=lambda one: one[0] * one[1]), limit), on_text)
    for (one, gradient), source in zip(own, known, strict=True):
        if one.site in sites.words:
            state.cross_layer(resized(one.cam(gradient), source, state.grid))
        else:
            cam = one.cam(gradient, lambda rows, source=source: resized_keys(rows, source, state.grid))
            state.self_layer(resized(cam, source, state.grid))
    return state


def _own_calls(calls: Seen, words: dict[str, Any], length: int) -> Seen:
    """The calls that count: an IP-Adapter attends again, to its picture, inside a word-attention module."""
    first: set[str] = set()
    chosen: Seen = []
    for one, gradient in calls:
        fits = one.key.shape[2] == (length if one.site in words else one.query.shape[2])
        if fits and one.site not in first:
            first.add(one.site)
            chosen.append((one, gradient))
    return chosen


def _joint(probe: Denoiser, sites: Sites, calls: Seen, length: int, limit: int) -> Joined:
    place = probe.family.layout
    height, width = (side // probe.family.patch for side in _size(probe))
    source, cells = (height, width), height * width
    state = Joined(_limited(source, limit), length, probe.device)
    met = False
    for one, gradient in calls:
        positions = one.query.shape[2]
        if one.key.shape[2] != positions:
            continue  # attention to something beside the sequence
        where = place(positions, length, cells) if place is not None and one.site in sites.words else None
        if where is not None:
            met = True
            state.layer(_on_both(one, gradient, where, source, state.grid))
        elif positions == cells:
            cam = one.cam(gradient, lambda rows: resized_keys(rows, source, state.grid))
            state.image_layer(resized(cam, source, state.grid))
    if not met:
        raise _unseen()
    return state


def _on_both(one: Attended, gradient: Tensor | None, where: tuple[slice, slice], source: Size, target: Size) -> Tensor:
    """cam of joint attention on [text, image], the image on another grid."""
    text, image = where

    def fold(rows: Tensor) -> Tensor:
        return torch.cat([rows[:, text], resized_keys(rows[:, image], source, target)], dim=1)

    cam = one.cam(gradient, fold)
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
