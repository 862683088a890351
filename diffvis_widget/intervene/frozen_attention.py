"""The attention of another run: at each step its denoiser is evaluated again for queries and keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from diffvis_widget.tracer import Denoiser, find_live_call
from diffvis_widget.tracer.attention_calls import (
    AttentionCall,
    AttentionResult,
    AttentionWatcher,
    ScoresCall,
    ScoresCollector,
)
from diffvis_widget.traces import Trace

from .attention import QueriesKeys


def check(trace: Trace, module: nn.Module, planned: int) -> None:
    """Check that the attention of a trace can replace that of a run.

    Args:
        trace: Of the other run.
        module: The denoiser that runs.
        planned: Number of denoising steps of the run.

    Raises:
        ValueError: The trace has no live pipeline, or another model or number of steps.
    """
    call, _ = find_live_call(trace)
    if call.denoiser is not module:
        raise ValueError("freeze: the trace is of another model, or its pipeline is gone: trace it with this pipeline")
    if len(trace.steps) != planned:
        raise ValueError(
            f"freeze: the trace has {len(trace.steps)} steps and this run {planned}; its attention at a step belongs "
            f"to a noise level that this run does not have: run with as many steps"
        )


def attention_at(trace: Trace, step: int, sites: Mapping[str, nn.Module], positions: int) -> QueriesKeys:
    """Evaluate another run's denoiser again and read its cross-attention in the conditional branch.

    Args:
        trace: Of the other run.
        step: Index of the step.
        sites: The attention modules by dotted path.
        positions: Number of text tokens.

    Returns:
        By module, queries and keys (1, heads, tokens, width).

    Raises:
        ValueError: The attention of a module was not seen, or has another number of text tokens.
    """
    probe = Denoiser(trace, step)
    branches = probe.branches
    recorder = _AttentionRecorder(sites, len(probe.branch()[0].branches), positions)
    try:
        recorder.attach()
        with torch.no_grad():
            _ = probe.output  # checked to be what that run's scheduler received
    finally:
        recorder.detach()
    index = branches.index("prompt")
    queries_and_keys: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for site, calls in recorder.recorded.items():
        query, key = (torch.cat(parts) for parts in zip(*calls, strict=True))
        queries_and_keys[site] = query[index : index + 1], key[index : index + 1]
    missing = [site for site in sites if site not in queries_and_keys]
    if missing:
        raise ValueError(f"freeze: the attention of {missing[0]} could not be seen, or has another number of words")
    return queries_and_keys


class _AttentionRecorder:
    """Records the queries and keys of all attention to text, and changes nothing.

    Args:
        modules: The word-attention modules by dotted path.
        batch: Rows of the denoiser's batch.
        positions: Number of text tokens.

    Attributes:
        recorded: By layer, queries (batch, heads, image tokens, width) and keys (batch, heads, text tokens, width) of
            each call.
    """

    recorded: dict[str, list[tuple[Tensor, Tensor]]]

    def __init__(self, modules: Mapping[str, nn.Module], batch: int, positions: int) -> None:
        self.recorded = {}
        self._watcher = AttentionWatcher(modules, self, modifies=True)
        self._slices = ScoresCollector()
        self._batch, self._positions = batch, positions

    def attach(self) -> None:
        """Register the hooks and record from now on. `detach` removes all of them, whatever happened in between."""
        self._watcher.attach()
        self._watcher.begin()

    def detach(self) -> None:
        """Remove the hooks."""
        self._watcher.detach()

    def on_attention(self, layer: str, call: AttentionCall, result: AttentionResult) -> Tensor | None:
        """Record a call of scaled_dot_product_attention; see `AttentionListener`.

        Args:
            layer: Dotted path of the module.
            call: Its arguments.
            result: Computes the original result.

        Returns:
            None.
        """
        if len(call.query) == self._batch and call.key.shape[2] == self._positions:
            self._record(layer, call.query, call.key)
        return None

    def on_scores(
        self, layer: str, call: ScoresCall, original: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    ) -> Tensor | None:
        """Record a call of an eager or sliced processor; see `AttentionListener`.

        Args:
            layer: Dotted path of the module.
            call: Its arguments.
            original: (query, key, mask) -> probabilities.

        Returns:
            None.
        """
        if call.key.shape[1] == self._positions and (whole := self._slices.add(call, self._batch)) is not None:
            self._record(layer, whole[0], whole[1])
        return None

    def _record(self, layer: str, query: Tensor, key: Tensor) -> None:
        self.recorded.setdefault(layer, []).append((query, key))
        self._watcher.finished.add(layer)
