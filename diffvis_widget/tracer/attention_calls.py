"""Watches the attention calls of some modules: their queries, keys, values and masks, and may replace their results.

Modules get hooks; their processors stay as they are. While a watcher is on, calls of scaled_dot_product_attention that
are made inside one of its modules are shown to a listener, and so are the calls of other attention backends of
diffusers, and those of `get_attention_scores` that its eager and sliced processors make in their place.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffvis_widget._compat.diffusers_attention_backends import backend_functions, backends_beside_torch

from .fault_guard import CannotRecordError, FaultGuard, Original
from .hooks import watch
from .module_hooks import hook_forward

_TORCH_ATTENTION: Any = F.scaled_dot_product_attention  # a later replacement must still receive every call

ImageQueries = Callable[[int], slice | Tensor]
"""Number of queries of cross-attention -> which of them are image tokens."""

CallLayout = Callable[[int, int, int], tuple[slice, slice] | None]
"""(keys, text tokens, row of the batch) -> where text and image tokens lie; None for attention of another kind."""


@dataclass(frozen=True)
class AttentionCall:
    """The arguments of one call of scaled_dot_product_attention.

    Attributes:
        query: (batch, heads, queries, width).
        key: (batch, key heads, keys, width).
        value: (batch, key heads, keys, value width).
        attn_mask: Boolean (False: not attended to) or added to the scores; broadcasts to (batch, heads, queries, keys).
        dropout_p: Dropout probability.
        is_causal: Whether a query attends to no later key.
        scale: Factor of the scores; None: 1 / sqrt(width).
        enable_gqa: Whether several heads share one key head.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    attn_mask: Tensor | None = None
    dropout_p: float = 0.0
    is_causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False

    @property
    def factor(self) -> float:
        """The factor of the scores."""
        return self.query.shape[-1] ** -0.5 if self.scale is None else float(self.scale)


@dataclass(frozen=True)
class ScoresCall:
    """One call of `get_attention_scores`, which returns attention probabilities of some rows of batch * heads.

    Attributes:
        query: (rows, queries, width).
        key: (rows, keys, width).
        mask: Added to the scores, (rows, 1 or queries, keys), or None.
        heads: Heads of the module.
        scale: Factor of the scores.
        start: Number of rows of earlier calls in the same forward pass of the module, to as many keys.
    """

    query: Tensor
    key: Tensor
    mask: Tensor | None
    heads: int
    scale: float
    start: int

    @property
    def stop(self) -> int:
        """Index behind the last row."""
        return self.start + len(self.query)


class AttentionResult:
    """Computes the result of a call as if it was not watched.

    Args:
        original: Computes attention.
        args: Positional arguments of the call.
        kwargs: Keyword arguments of the call.

    Attributes:
        is_torch: Whether torch's own scaled_dot_product_attention computes it, and no other watcher or replacement.
    """

    is_torch: bool

    def __init__(self, original: Callable[..., Tensor], args: Any, kwargs: Any) -> None:
        self._original, self._args, self._kwargs = original, args, kwargs
        function = original.function if isinstance(original, Original) else original
        self.is_torch = function is _TORCH_ATTENTION

    def __call__(self, call: AttentionCall | None = None) -> Tensor:
        """Compute attention.

        Args:
            call: Other arguments; None: those of the watched call.

        Returns:
            (batch, heads, queries, value width).
        """
        if call is None:
            return self._original(*self._args, **self._kwargs)
        grouped: dict[str, Any] = {"enable_gqa": True} if call.enable_gqa else {}
        return self._original(
            *(call.query, call.key, call.value),
            attn_mask=call.attn_mask,
            dropout_p=call.dropout_p,
            is_causal=call.is_causal,
            scale=call.scale,
            **grouped,
        )


class DispatchedResult(AttentionResult):
    """Computes the result of a call by an attention backend of diffusers, whose tensors have heads behind the tokens.

    Args:
        original: The backend's function.
        kwargs: Arguments of the call.
    """

    def __init__(self, original: Callable[..., Tensor], kwargs: Any) -> None:
        super().__init__(original, (), kwargs)
        self.is_torch = False  # the log-sum-exp of torch's kernels is not that of the backend's
        self.call = self._as_call(kwargs)

    @staticmethod
    def _as_call(kwargs: Any) -> AttentionCall:
        tensors = [kwargs[name].transpose(1, 2) for name in ("query", "key", "value")]
        mask = kwargs.get("attn_mask")
        if mask is not None and not isinstance(mask, Tensor):
            raise CannotRecordError(
                f"the attention backend gets a {type(mask).__name__} as its mask, which cannot be read; call "
                'set_attention_backend("native") on the denoiser'
            )
        if mask is not None and mask.shape == (len(tensors[0]), tensors[1].shape[2]):  # of keys, for all queries
            mask = mask[:, None, None]
        others = {name: kwargs[name] for name in ("dropout_p", "is_causal", "scale", "enable_gqa") if name in kwargs}
        return AttentionCall(*tensors, attn_mask=mask, **others)

    def __call__(self, call: AttentionCall | None = None) -> Tensor:
        """Compute attention by the backend.

        Args:
            call: Other arguments; None: those of the watched call.

        Returns:
            (batch, heads, queries, value width).

        Raises:
            ValueError: The other arguments have a mask, and the backend takes none.
        """
        if call is None:
            return super().__call__().transpose(1, 2)
        changed: dict[str, Any] = {
            name: getattr(call, name).transpose(1, 2).contiguous() for name in ("query", "key", "value")
        }
        if call.attn_mask is not self.call.attn_mask:
            if "attn_mask" not in self._kwargs:
                raise ValueError(
                    "the attention backend takes no mask, which leaving a word out needs; call "
                    'set_attention_backend("native") on the denoiser'
                )
            changed["attn_mask"] = call.attn_mask
        return self._original(**{**self._kwargs, **changed}).transpose(1, 2)


class AttentionListener(Protocol):
    """Receives the calls that an `AttentionWatcher` sees."""

    def on_attention(self, layer: str, call: AttentionCall, result: AttentionResult) -> Tensor | None:
        """A module calls scaled_dot_product_attention.

        Args:
            layer: Dotted path of the module.
            call: Its arguments.
            result: Computes the original result.

        Returns:
            The result of the call, or None for the original one.
        """
        ...

    def on_scores(
        self, layer: str, call: ScoresCall, original: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    ) -> Tensor | None:
        """A module calls `get_attention_scores`.

        Args:
            layer: Dotted path of the module.
            call: Its arguments.
            original: (query, key, mask) -> probabilities.

        Returns:
            The result of the call, (rows, queries, keys), or None for the original one.
        """
        ...


class AttentionWatcher:
    """Shows the attention calls of some modules to a listener, in the thread that made it.

    Args:
        modules: Attention modules by dotted path.
        listener: Receives the calls while the watcher is on.
        modifies: Whether the listener changes calls; it then comes before all listeners that only observe.
        second: Modules of a second denoiser, under the paths of the first one's.
        guard: Takes the listener's errors; None: they end the call.

    Attributes:
        finished: Layers whose further calls are not shown until the next `begin`; the listener adds to it.
        calls: Number of calls of torch's attention that the innermost module has made in its forward pass.
    """

    finished: set[str]
    calls: int

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        listener: AttentionListener,
        *,
        modifies: bool = False,
        second: Mapping[str, nn.Module] | None = None,
        guard: FaultGuard | None = None,
    ) -> None:
        self._modules = [*modules.items(), *(second or {}).items()]
        self._listener = listener
        self._modifies = modifies
        self._guard = guard
        self._thread = threading.get_ident()
        self._removers: list[Callable[[], None]] = []
        self._end_watches: list[Callable[[], None]] = []
        self._is_dispatching = False  # in a backend that is shown already, and may end in torch's attention
        self._entered: list[str] = []
        self._rows: dict[int, int] = {}  # of this forward pass, by number of keys
        self.finished = set()
        self.calls = 0

    def attach(self) -> None:
        """Register the hooks. `detach` removes all of them, whatever happened in between."""
        for name, module in self._modules:
            entering, leaving = self._entering(name), self._leaving(name)
            if self._guard is not None:
                entering, leaving = self._guard.hook(entering), self._guard.hook(leaving)
            self._removers.append(hook_forward(module, entering, leaving))
            if hasattr(module, "get_attention_scores"):
                scores = self._scores(module)
                self._removers.append(watch(module, "get_attention_scores", scores, self._modifies, self._guard))

    def detach(self) -> None:
        """Remove the hooks."""
        self.end()
        while self._removers:
            self._removers.pop()()

    def begin(self) -> None:
        """Show calls from now on."""
        self.end()
        self.finished = set()
        how = self._modifies, self._guard
        self._end_watches.append(watch(F, "scaled_dot_product_attention", self._attention, *how))
        for backend in backends_beside_torch():
            self._end_watches.append(watch(backend_functions(), backend, self._dispatched, *how))

    def end(self) -> None:
        """Show no more calls."""
        while self._end_watches:
            self._end_watches.pop()()
        self._entered = []

    @property
    def is_on(self) -> bool:
        """Whether calls are shown."""
        return bool(self._end_watches)

    def _is_here(self) -> bool:
        return self.is_on and threading.get_ident() == self._thread

    def _entering(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            if self._is_here():
                self._entered.append(name)
                self._rows, self.calls = {}, 0

        return hook

    def _leaving(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            # the pre-hook does not run where an earlier one raises
            if self._entered and self._entered[-1] == name and threading.get_ident() == self._thread:
                self._entered.pop()

        return hook

    def _layer(self) -> str | None:
        """The module in which the current thread is, unless the listener is finished with it."""
        if not self._entered or not self._is_here():
            return None
        return None if self._entered[-1] in self.finished else self._entered[-1]

    def _attention(self, original: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        layer = self._layer()
        if layer is None or self._is_dispatching:
            return original(*args, **kwargs)
        self.calls += 1
        result = AttentionResult(original, args, kwargs)
        replaced = self._listener.on_attention(layer, AttentionCall(*args, **kwargs), result)
        return result() if replaced is None else replaced

    def _dispatched(self, original: Callable[..., Any], **kwargs: Any) -> Any:
        layer = self._layer()
        if layer is None or self._is_dispatching or kwargs.get("return_lse"):
            return original(**kwargs)
        self._is_dispatching = True
        try:
            result = DispatchedResult(original, kwargs)
            replaced = self._listener.on_attention(layer, result.call, result)
            return original(**kwargs) if replaced is None else replaced.transpose(1, 2)
        finally:
            self._is_dispatching = False

    def _scores(self, module: Any) -> Callable[..., Tensor]:
        def scores(
            original: Callable[..., Tensor], query: Tensor, key: Tensor, attention_mask: Tensor | None = None
        ) -> Tensor:
            layer = self._layer()
            if layer is None:
                return original(query, key, attention_mask)
            keys = key.shape[1]
            start = self._rows.get(keys, 0)
            self._rows[keys] = start + len(query)
            call = ScoresCall(query, key, attention_mask, int(module.heads), float(module.scale), start)
            replaced = self._listener.on_scores(layer, call, original)
            return original(query, key, attention_mask) if replaced is None else replaced

        return scores


class ScoresCollector:
    """Joins the calls of a sliced processor to one call for the whole batch."""

    def __init__(self) -> None:
        self._parts: list[ScoresCall] = []

    def add(self, call: ScoresCall, batch: int) -> tuple[Tensor, Tensor, Tensor | None] | None:
        """Add a call.

        Args:
            call: The next call of a forward pass.
            batch: Rows of the batch.

        Returns:
            After the last call, query (batch, heads, queries, width), key (batch, heads, keys, width) and mask (batch,
            heads, 1 or queries, keys) or None; before, None.
        """
        self._parts = [*(self._parts if call.start else ()), call]
        if call.stop != batch * call.heads:
            return None
        parts, self._parts = self._parts, []
        query = torch.cat([part.query for part in parts]).unflatten(0, (-1, call.heads))
        key = torch.cat([part.key for part in parts]).unflatten(0, (-1, call.heads))
        masks = [part.mask for part in parts if part.mask is not None]
        return query, key, torch.cat(masks).unflatten(0, (-1, call.heads)) if masks else None


def apply_mask(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Apply a mask as scaled_dot_product_attention does.

    Args:
        scores: (..., queries, keys).
        mask: Boolean (False: not attended to) or added to the scores; None: no mask.

    Returns:
        Masked scores.
    """
    if mask is None:
        return scores
    return scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask.float()
