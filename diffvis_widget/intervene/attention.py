"""Attention to the words, changed where it is computed: queries, keys and values of a call, before the call is made.

A weight multiplies value rows, a dropped word's keys are masked, a frozen layer gets the queries and keys of another
run: so the model's own kernels stay at work, and a tracer inside sees what they are given.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffvis_widget.tracer.attention import Layout
from diffvis_widget.tracer.hooks import watch
from diffvis_widget.tracer.log_sum_exp import Call

Remove = Callable[[], None]
Rows = Sequence[tuple[int, int]]
Kept = Mapping[str, tuple[Tensor, Tensor]]
"""By layer, queries and keys (1, heads, positions, width) of another run."""


@dataclass(frozen=True)
class Work:
    """What is to be done in one evaluation of the denoiser.

    batch: its rows. rows: those that carry the prompt, with their images. lengths: text positions of each image.
    weights: (positions of each image, factor). dropped: positions of each image. layout: of joint attention.
    """

    batch: int
    rows: Rows
    lengths: Sequence[int]
    weights: Sequence[tuple[Sequence[Sequence[int]], float]]
    dropped: Sequence[Sequence[int]] | None
    kept: Kept | None
    layout: Layout | None

    @property
    def positions(self) -> int:
        return max(self.lengths)

    def scale(self, keys: int, starts: Sequence[int], device: torch.device) -> Tensor | None:
        """float32 (batch, keys): what each value row is multiplied by. starts: where each image's text begins."""
        if not self.weights:
            return None
        factors = torch.ones(self.batch, keys, dtype=torch.float32)
        for positions, factor in self.weights:
            for row, image in self.rows:
                factors[row, [starts[image] + one for one in positions[image]]] *= factor
        return factors.to(device)

    def seen(self, keys: int, starts: Sequence[int], device: torch.device) -> Tensor | None:
        """bool (batch, keys): whether a key may be attended to."""
        if self.dropped is None:
            return None
        seen = torch.ones(self.batch, keys, dtype=torch.bool)
        for row, image in self.rows:
            seen[row, [starts[image] + one for one in self.dropped[image]]] = False
        return seen.to(device)

    def of_prompt(self, whole: Tensor, other: Tensor) -> Tensor:
        """`whole` with `other` (one row) in the prompt's rows."""
        changed = whole.clone()
        changed[[row for row, _ in self.rows]] = other.to(whole.dtype)
        return changed


class TextAttention:
    """Sees the calls of a denoiser's word-attention modules, in one thread. One of two: `change` or `read`."""

    def __init__(self, sites: Mapping[str, nn.Module]) -> None:
        self._sites = sites
        self._thread = threading.get_ident()
        self._removers: list[Remove] = []
        self._end_watch: Remove | None = None
        self._site: str | None = None
        self._done: set[str] = set()
        self._work: Work | None = None
        self._parts: list[tuple[Tensor, Tensor]] = []
        self._flat = 0
        self.found: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def attach(self) -> None:
        """Put the hooks on. `detach` takes everything off again."""
        for name, module in self._sites.items():
            before = module.register_forward_pre_hook(self._entering(name))
            after = module.register_forward_hook(self._leaving, always_call=True)
            self._removers += [before.remove, after.remove]
            if hasattr(module, "get_attention_scores"):
                self._removers.append(watch(module, "get_attention_scores", self._scores(module), outer=True))

    def detach(self) -> None:
        self.end()
        while self._removers:
            self._removers.pop()()

    def begin(self, work: Work) -> None:
        """An evaluation of the denoiser begins."""
        self.end()
        self._work, self._done, self.found = work, set(), {}
        self._end_watch = watch(F, "scaled_dot_product_attention", self._attention, outer=True)

    def end(self) -> None:
        if self._end_watch is not None:
            self._end_watch()
        self._end_watch, self._work, self._site = None, None, None

    @property
    def is_on(self) -> bool:
        """Whether an evaluation is under way in which there is something to do."""
        return self._work is not None

    @property
    def has_acted(self) -> bool:
        """Whether any call of it was seen in this evaluation."""
        return bool(self._done) or self._flat > 0

    # -- what modules and functions call -----------------------------------------------------------------------------

    def _entering(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            if self._work is not None and threading.get_ident() == self._thread:
                self._site, self._parts, self._flat = name, [], 0

        return hook

    def _leaving(self, module: nn.Module, args: Any, output: Any) -> None:
        if threading.get_ident() == self._thread:
            self._site = None

    def _here(self) -> Work | None:
        inside = self._site is not None and threading.get_ident() == self._thread and self._site not in self._done
        return self._work if inside else None

    def _attention(self, original: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        work = self._here()
        if work is None:
            return original(*args, **kwargs)
        call = Call(*args, **kwargs)
        if len(call.query) != work.batch:
            return original(*args, **kwargs)
        assert self._site is not None
        if work.layout is None:
            if call.key.shape[2] != work.positions:
                return original(*args, **kwargs)  # an IP-Adapter's, to its picture
            self._done.add(self._site)
            return _made(original, self._crossed(work, call, self._site))
        places = [work.layout(call.key.shape[2], length) for length in work.lengths]
        if call.query.shape[2] != call.key.shape[2] or any(place is None for place in places):
            return original(*args, **kwargs)
        self._done.add(self._site)
        return _joint(original, work, call, [place for place in places if place is not None])

    def _crossed(self, work: Work, call: Call, site: str) -> Call:
        keys, device, starts = call.key.shape[2], call.key.device, [0] * len(work.lengths)
        if work.kept is not None:
            query, key = work.kept[site]
            self._fits(site, query.shape[1:], call.query.shape[1:], key.shape[1:], call.key.shape[1:])
            call = replace(call, query=work.of_prompt(call.query, query), key=work.of_prompt(call.key, key))
        call = _hidden(call, work.seen(keys, starts, device))
        scale = work.scale(keys, starts, device)
        return call if scale is None else replace(call, value=_scaled(call.value, scale[:, None, :, None]))

    def _scores(self, module: Any) -> Callable[..., Tensor]:
        """For the eager and sliced processors: heads and batch in one dimension, in one part or several."""

        def watcher(
            original: Callable[..., Tensor], query: Tensor, key: Tensor, attention_mask: Tensor | None = None
        ) -> Tensor:
            work = self._here()
            if work is None or work.layout is not None or key.shape[1] != work.positions:
                return original(query, key, attention_mask)
            assert self._site is not None
            heads, keys, starts = int(module.heads), key.shape[1], [0] * len(work.lengths)
            part = slice(self._flat, self._flat + len(query))
            self._flat = part.stop
            if part.stop == work.batch * heads:
                self._done.add(self._site)
            chosen = {row for row, _ in work.rows}
            own = [index for index in range(part.start, part.stop) if index // heads in chosen]
            if work.kept is not None and own:
                other = [one[0] for one in work.kept[self._site]]
                self._fits(self._site, other[0].shape[1:], query.shape[1:], other[1].shape[1:], key.shape[1:])
                here = [index - part.start for index in own]
                query, key = query.clone(), key.clone()
                query[here] = other[0][[index % heads for index in own]].to(query.dtype)
                key[here] = other[1][[index % heads for index in own]].to(key.dtype)
            if (seen := work.seen(keys, starts, key.device)) is not None:
                hidden = torch.zeros(seen.shape, dtype=query.dtype, device=key.device).masked_fill_(~seen, -torch.inf)
                hidden = hidden.repeat_interleave(heads, dim=0)[part][:, None]
                attention_mask = hidden if attention_mask is None else attention_mask + hidden
            shares = original(query, key, attention_mask)
            if (scale := work.scale(keys, starts, key.device)) is not None:
                shares = _scaled(shares, scale.repeat_interleave(heads, dim=0)[part][:, None])
            return shares

        return watcher

    def _fits(self, site: str, *shapes: torch.Size) -> None:
        if shapes[0] != shapes[1] or shapes[2] != shapes[3]:
            raise ValueError(
                f"freeze: {site} has {shapes[1][-2]} image and {shapes[3][-2]} text positions in this run and "
                f"{shapes[0][-2]} and {shapes[2][-2]} in the frozen one: use the same height, width and kind of prompt"
            )


class Reader(TextAttention):
    """Notes the queries and keys of every text attention, in `found`, and changes nothing."""

    def _attention(self, original: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        work = self._here()
        call = Call(*args, **kwargs)
        if work is not None and len(call.query) == work.batch and call.key.shape[2] == work.positions:
            assert self._site is not None
            self._done.add(self._site)
            self.found.setdefault(self._site, []).append((call.query, call.key))
        return original(*args, **kwargs)

    def _scores(self, module: Any) -> Callable[..., Tensor]:
        def watcher(original: Callable[..., Tensor], query: Tensor, key: Tensor, *rest: Any, **named: Any) -> Tensor:
            work = self._here()
            if work is not None and key.shape[1] == work.positions:
                assert self._site is not None
                self._parts.append((query, key))
                heads = int(module.heads)
                if sum(len(part) for part, _ in self._parts) == work.batch * heads:
                    whole = [torch.cat(parts).unflatten(0, (-1, heads)) for parts in zip(*self._parts, strict=True)]
                    self._done.add(self._site)
                    self.found.setdefault(self._site, []).append((whole[0], whole[1]))
            return original(query, key, *rest, **named)

        return watcher


def _joint(original: Callable[..., Tensor], work: Work, call: Call, places: Sequence[tuple[slice, slice]]) -> Tensor:
    """Text and image in one sequence: a dropped word's keys are masked for all, its weight holds for the image's rows.

    The text's rows go on as they would, or the weight would act again in every later layer through the other words.
    """
    keys, device = call.key.shape[2], call.key.device
    starts = [text.start for text, _ in places]
    call = _hidden(call, work.seen(keys, starts, device))
    output = _made(original, call)
    scale = work.scale(keys, starts, device)
    if scale is None:
        return output
    chosen = [row for row, _ in work.rows]
    mask = call.attn_mask
    if mask is not None and mask.ndim == 4 and len(mask) == work.batch:
        mask = mask[chosen]
    value = _scaled(call.value[chosen], scale[chosen][:, None, :, None])
    weighted = _made(
        original, replace(call, query=call.query[chosen], key=call.key[chosen], value=value, attn_mask=mask)
    )
    output = output.clone()
    for index, (row, image) in enumerate(work.rows):
        own = places[image][1]
        output[row, :, own] = weighted[index, :, own]
    return output


def _made(original: Callable[..., Tensor], call: Call) -> Tensor:
    more: dict[str, Any] = {"enable_gqa": True} if call.enable_gqa else {}
    return original(
        *(call.query, call.key, call.value),
        attn_mask=call.attn_mask,
        dropout_p=call.dropout_p,
        is_causal=call.is_causal,
        scale=call.scale,
        **more,
    )


def _hidden(call: Call, seen: Tensor | None) -> Call:
    """The call with a mask in which False in `seen`, (batch, keys), is never looked at."""
    if seen is None:
        return call
    seen = seen[:, None, None]
    mask = call.attn_mask
    if mask is None:
        return replace(call, attn_mask=seen)
    if mask.dtype == torch.bool:
        return replace(call, attn_mask=mask & seen)
    added = torch.zeros(seen.shape, dtype=mask.dtype, device=mask.device).masked_fill_(~seen, -torch.inf)
    return replace(call, attn_mask=mask + added)


def _scaled(values: Tensor, scale: Tensor) -> Tensor:
    """The product as float32: a factor in half precision would be off by more than the values are."""
    return (values.float() * scale).to(values.dtype)
