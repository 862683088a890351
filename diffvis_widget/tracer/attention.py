"""Exact attention probabilities of the prompt's words, read where attention is computed.

While a traced denoiser runs, calls of scaled_dot_product_attention (and of the eager and sliced processors'
`get_attention_scores`) made inside one of its word-attention modules are answered by the original, unchanged, and q
and k are read beside it: after norms and masks, multiplied as float32, softmax in float32. Nothing is replaced in the
model: modules get hooks, processors stay.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .hooks import watch

Remove = Callable[[], None]


class AttentionReader:
    """Reads one denoiser's word attention in one thread.

    sites: the word-attention modules by dotted path. heads: whether heads are kept apart. Between `begin` and `end`,
    `taken` gets per site float16 (images, heads or 1, image positions, words) of that evaluation.
    """

    def __init__(self, sites: dict[str, nn.Module], heads: bool) -> None:
        self.sites = sites
        self.heads = heads
        self.taken: dict[str, Tensor] = {}
        self._thread = threading.get_ident()
        self._rows = slice(0, 0)
        self._words = torch.empty(0, 0, 0)
        self._batch = 0
        self._site: str | None = None
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
        self.end()
        while self._removers:
            self._removers.pop()()

    def begin(self, batch: int, rows: slice, words: Tensor) -> None:
        """An evaluation of the denoiser begins.

        batch: its rows; rows: those that carry the prompt, one per image. words: float32 (images, text positions,
        words), 1 where a position belongs to a word.
        """
        self.end()
        self._batch, self._rows, self._words, self.taken = batch, rows, words, {}
        self._end_watch = watch(F, "scaled_dot_product_attention", self._attention)

    def end(self) -> None:
        """The evaluation is over, or was interrupted."""
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

    def _attention(
        self, original: Callable[..., Tensor], query: Tensor, key: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        output = original(query, key, *args, **kwargs)
        if self._reads(key) and len(query) == self._batch:
            mask = args[1] if len(args) > 1 else kwargs.get("attn_mask")
            scale = kwargs.get("scale")
            self._read(query, key, mask, query.shape[-1] ** -0.5 if scale is None else scale)
        return output

    def _scores(self, module: Any) -> Callable[..., Tensor]:
        """For the eager and sliced processors: heads and batch in one dimension, in one part or several."""

        def watcher(
            original: Callable[..., Tensor], query: Tensor, key: Tensor, attention_mask: Tensor | None = None
        ) -> Tensor:
            output = original(query, key, attention_mask)
            if self._reads(key):
                self._parts.append((query, key, attention_mask))
                heads = int(module.heads)
                if sum(len(part[0]) for part in self._parts) == self._batch * heads:
                    queries, keys, masks = zip(*self._parts, strict=True)
                    self._parts = []
                    whole = None if masks[0] is None else torch.cat(masks).unflatten(0, (-1, heads))
                    q, k = (torch.cat(parts).unflatten(0, (-1, heads)) for parts in (queries, keys))
                    self._read(q, k, whole, float(module.scale))
            return output

        return watcher

    def _reads(self, key: Tensor) -> bool:
        """Whether this call is the prompt's: an IP-Adapter attends again, to as many keys as its picture has."""
        return (
            self._site is not None
            and self._site not in self.taken
            and threading.get_ident() == self._thread
            and key.shape[-2] == self._words.shape[1]
        )

    def _read(self, query: Tensor, key: Tensor, mask: Tensor | None, scale: float) -> None:
        assert self._site is not None
        with torch.no_grad(), _exact(query.device):
            q, k = query[self._rows].float(), key[self._rows].float()
            scores = torch.matmul(q, k.transpose(-1, -2)).mul_(scale)
            if mask is not None:
                part = mask[self._rows] if mask.ndim == 4 and len(mask) == len(query) else mask
                scores = scores.masked_fill(~part, -torch.inf) if part.dtype == torch.bool else scores + part.float()
            shares = scores.softmax(dim=-1)
            if mask is not None:
                shares = shares.nan_to_num(0.0)  # a row that may look at nothing looks at nothing
            shares = shares if self.heads else shares.mean(dim=1, keepdim=True)
            self.taken[self._site] = torch.matmul(shares, self._words[:, None]).to(torch.float16)


@contextlib.contextmanager
def _exact(device: torch.device) -> Iterator[None]:
    """float32 products stay float32: no autocast, no TF32."""
    tf32 = device.type == "cuda" and torch.backends.cuda.matmul.allow_tf32
    casting = torch.is_autocast_enabled(device.type)
    if not (tf32 or casting):
        yield
        return
    with torch.autocast(device.type, enabled=False):
        if tf32:
            torch.backends.cuda.matmul.allow_tf32 = False
        try:
            yield
        finally:
            if tf32:
                torch.backends.cuda.matmul.allow_tf32 = True
