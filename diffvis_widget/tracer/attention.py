"""Exact attention probabilities of the prompt's words, read where attention is computed.

While a traced denoiser runs, calls of scaled_dot_product_attention (and of the eager and sliced processors'
`get_attention_scores`) made inside one of its word-attention modules are answered with the original's own bits, and q
and k are read beside it: after norms, rotary embedding and masks, multiplied as float32. Nothing is replaced in the
model: modules get hooks, processors stay.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention_probabilities import Maps, Seen, Targets, cross, in_output_space, joint, together
from .hooks import watch
from .log_sum_exp import Call, answer, exact

Remove = Callable[[], None]
_BUILT_IN: Any = F.scaled_dot_product_attention  # whoever replaces it later must see every call
Branch = Literal["prompt", "negative"]
Taken = Literal["prompt", "negative", "output"]  # of a branch its probabilities; the prompt's scores in output space
# (keys, text positions) -> where text and image lie in the sequence; None for attention of another kind
Layout = Callable[[int, int], tuple[slice, slice] | None]


@dataclass(frozen=True)
class Reading:
    """What to read in one evaluation of the denoiser: these rows of the batch, one per image, for these words."""

    branch: Branch
    rows: slice
    targets: Targets


class AttentionReader:
    """Reads one denoiser's word attention in one thread.

    sites: the word-attention modules by dotted path. heads: whether heads are kept apart. output: whether joint
    attention is read in output space too. After `end`, `taken` has the maps of that evaluation.
    """

    def __init__(self, sites: dict[str, nn.Module], heads: bool, output: bool = False) -> None:
        self.sites = sites
        self.heads = heads
        self.output = output
        self.taken: dict[Taken, Maps] = {}
        self._thread = threading.get_ident()
        self._readings: Sequence[Reading] = ()
        self._layout: Layout | None = None
        self._batch = 0
        self._site: str | None = None
        self._read: set[str] = set()
        self._seen: dict[Branch, list[Seen]] = {}
        self._done: dict[Taken, dict[str, Tensor]] = {}
        self._parts: list[tuple[Tensor, Tensor, Tensor | None]] = []
        self._removers: list[Remove] = []
        self._end_watch: Remove | None = None

    def attach(self) -> None:
        """Put the hooks on. `detach` takes everything off again, whatever happened."""
        for name, module in self.sites.items():
            before = module.register_forward_pre_hook(self._entering(name))
            after = module.register_forward_hook(self._leaving, always_call=True)
            self._removers += [before.remove, after.remove]
            if hasattr(module, "get_attention_scores"):
                self._removers.append(watch(module, "get_attention_scores", self._scores(module)))

    def detach(self) -> None:
        self._stop()
        while self._removers:
            self._removers.pop()()

    def begin(self, batch: int, readings: Sequence[Reading], layout: Layout | None) -> None:
        """An evaluation of the denoiser begins.

        batch: its rows. layout: for joint attention; None where the keys are the text alone.
        """
        self._stop()
        self._batch, self._readings, self._layout = batch, readings, layout
        self.taken, self._seen, self._done, self._read = {}, {}, {}, set()
        if readings:
            self._end_watch = watch(F, "scaled_dot_product_attention", self._attention)

    def end(self) -> None:
        """The evaluation is over: compute what was left for its end."""
        self._stop()
        seen, self._seen, done, self._done = self._seen, {}, self._done, {}
        with torch.no_grad():
            for reading in self._readings:
                if parts := seen.get(reading.branch):
                    with exact(parts[0].query.device):
                        done[reading.branch] = cross(parts, reading.targets.whole, self.heads)
            self.taken = {branch: together(maps) for branch, maps in done.items()}
        self._readings = ()

    def _stop(self) -> None:
        if self._end_watch is not None:
            self._end_watch()
        self._end_watch, self._site, self._parts = None, None, []

    # -- what modules and functions call ---------------------------------------------------------------------------

    def _entering(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            if self._end_watch is not None and threading.get_ident() == self._thread:
                self._site, self._parts = name, []

        return hook

    def _leaving(self, module: nn.Module, args: Any, output: Any) -> None:
        if threading.get_ident() == self._thread:
            self._site, self._parts = None, []

    def _attention(self, original: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        if self._site is None or self._site in self._read or threading.get_ident() != self._thread:
            return original(*args, **kwargs)
        call = Call(*args, **kwargs)
        if len(call.query) != self._batch:
            return original(*args, **kwargs)
        if self._layout is None:
            output = original(*args, **kwargs)
            if self._is_text(call.key):
                self._keep(call.query, call.key, call.attn_mask, call.factor)
            return output
        return self._joint(call, lambda: original(*args, **kwargs), original is _BUILT_IN)

    def _scores(self, module: Any) -> Callable[..., Tensor]:
        """For the eager and sliced processors: heads and batch in one dimension, in one part or several."""

        def watcher(
            original: Callable[..., Tensor], query: Tensor, key: Tensor, attention_mask: Tensor | None = None
        ) -> Tensor:
            output = original(query, key, attention_mask)
            inside = self._site is not None and threading.get_ident() == self._thread
            if inside and self._layout is None and self._site not in self._read and self._is_text(key):
                self._parts.append((query, key, attention_mask))
                heads = int(module.heads)
                if sum(len(part[0]) for part in self._parts) == self._batch * heads:
                    queries, keys, masks = zip(*self._parts, strict=True)
                    self._parts = []
                    whole = None if masks[0] is None else torch.cat(masks).unflatten(0, (-1, heads))
                    q, k = (torch.cat(parts).unflatten(0, (-1, heads)) for parts in (queries, keys))
                    self._keep(q, k, whole, float(module.scale))
            return output

        return watcher

    def _is_text(self, key: Tensor) -> bool:
        """Whether this call is the prompt's: an IP-Adapter attends again, to as many keys as its picture has."""
        return key.shape[-2] == self._readings[0].targets.whole.shape[1]

    def _keep(self, query: Tensor, key: Tensor, mask: Tensor | None, factor: float) -> None:
        """Cross-attention is computed at the end of the evaluation, all sites of one shape together."""
        assert self._site is not None
        self._read.add(self._site)
        for reading in self._readings:
            rows = reading.rows
            part = mask[rows] if mask is not None and mask.ndim == 4 and len(mask) == len(query) else mask
            seen = Seen(self._site, query[rows].detach(), key[rows].detach(), part, factor)
            self._seen.setdefault(reading.branch, []).append(seen)

    def _joint(self, call: Call, original: Callable[[], Tensor], built_in: bool) -> Tensor:
        """built_in: whether `original` is torch's own function, and nobody else's that must see the call too."""
        assert self._site is not None
        assert self._layout is not None
        keys = call.key.shape[2]
        found = [[self._layout(keys, length) for length in reading.targets.lengths] for reading in self._readings]
        if call.query.shape[2] != keys or any(place is None for places in found for place in places):
            return original()
        self._read.add(self._site)
        output, lse = answer(call, original) if built_in else (original(), None)
        with torch.no_grad(), exact(call.query.device):
            for reading, places in zip(self._readings, found, strict=True):
                rows = range(reading.rows.start, reading.rows.stop)
                images = [
                    (row, place, columns)
                    for row, place, columns in zip(rows, places, reading.targets.columns, strict=True)
                    if place is not None
                ]
                maps = [joint(call, lse, row, *place, columns, self.heads) for row, place, columns in images]
                self._done.setdefault(reading.branch, {})[self._site] = torch.stack(maps)
                if self.output and reading.branch == "prompt":
                    maps = [in_output_space(output[row], *place, columns, self.heads) for row, place, columns in images]
                    self._done.setdefault("output", {})[self._site] = torch.stack(maps)
        return output
