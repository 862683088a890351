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
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from .hooks import watch

Remove = Callable[[], None]


class AttentionReader:
    """Reads one denoiser's word attention in one thread.

    rows: the batch rows that carry the prompt. words: (images, text positions, words) float32, 1 where a position
    belongs to a word. heads: whether heads are kept apart. `taken` then holds, per site, float16
    (images, heads or 1, image positions, words) of the latest evaluation.
    """

    def __init__(self, sites: dict[str, nn.Module], heads: bool) -> None:
        self.sites = sites
        self.heads = heads
        self.rows = slice(0, 0)
        self.words: Tensor | None = None
        self.taken: dict[str, Tensor] = {}
        self._thread = threading.get_ident()
        self._site: str | None = None
        self._slices: list[tuple[Tensor, Tensor, Tensor | None]] = []
        self._batch = 0
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
        """An evaluation of the denoiser begins, on `batch` rows."""
        self.end()
        self._batch, self.rows, self.words, self.taken = batch, rows, words, {}
        self._end_watch = watch(F, "scaled_dot_product_attention", self._attention)

    def end(self) -> None:
        """The evaluation is over, or was interrupted."""
        if self._end_watch is not None:
            self._end_watch()
        self._end_watch, self._site, self._slices = None, None, []

    # -- what modules and functions call -------------------------------------------------------------------------------

    def _entering(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            if self._end_watch is not None and threading.get_ident() == self._thread:
                self._site, self._slices = name, []

        return hook

    def _leaving(self, module: nn.Module, args: Any, output: Any) -> None:
        if threading.get_ident() == self._thread:
            self._site, self._slices = None, []

    def _attention(
        self, original: Callable[..., Tensor], query: Tensor, key: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        output = original(query, key, *args, **kwargs)
        # an IP-Adapter attends a second time, to its picture: only keys as long as the text are the prompt's
        if self._reads(key.shape[-2]):
            mask = args[1] if len(args) > 1 else kwargs.get("attn_mask")
            scale = kwargs.get("scale")
            self._read(query, key, mask, query.shape[-1] ** -0.5 if scale is None else scale)
        return output

    def _scores(self, module: nn.Module) -> Callable[..., Tensor]:
        def watcher(
            original: Callable[..., Tensor], query: Tensor, key: Tensor, attention_mask: Tensor | None = None
        ) -> Tensor:
            output = original(query, key, attention_mask)
            if self._reads(key.shape[-2]):
                self._slices.append((query, key, attention_mask))
                if sum(len(part[0]) for part in self._slices) == self._batch * int(module.heads):  # pyright: ignore
                    self._read_slices(module)
            return output

        return watcher

    def _reads(self, keys: int) -> bool:
        return (
            self._site is not None
            and self._site not in self.taken
            and threading.get_ident() == self._thread
            and self.words is not None
            and keys == self.words.shape[1]
        )

    def _read_slices(self, module: Any) -> None:
        """The eager and sliced processors keep (batch x heads) in one dimension and may come in several parts."""
        heads = int(module.heads)
        query, key = (torch.cat([part[which] for part in self._slices]).unflatten(0, (-1, heads)) for which in (0, 1))
        masks = [part[2] for part in self._slices if part[2] is not None]
        mask = torch.cat(masks).unflatten(0, (-1, heads)) if masks else None
        self._slices = []
        self._read(query, key, mask, float(module.scale))

    def _read(self, query: Tensor, key: Tensor, mask: Tensor | None, scale: float) -> None:
        assert self.words is not None
        assert self._site is not None
        with torch.no_grad(), _exact(query.device):
            q, k = query[self.rows].float(), key[self.rows].float()
            scores = torch.matmul(q, k.transpose(-1, -2)).mul_(scale)
            if mask is not None:
                part = mask[self.rows] if mask.ndim == 4 and len(mask) == len(query) else mask
                scores = scores.masked_fill(~part, -torch.inf) if part.dtype == torch.bool else scores + part.float()
            shares = scores.softmax(dim=-1)
            if mask is not None:
                shares = shares.nan_to_num(0.0)  # a row that may look at nothing looks at nothing
            shares = shares if self.heads else shares.mean(dim=1, keepdim=True)
            self.taken[self._site] = torch.matmul(shares, self.words[:, None]).to(torch.float16)


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
