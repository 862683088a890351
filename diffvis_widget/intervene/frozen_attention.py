"""The attention of another run: at each step its denoiser is evaluated again for queries and keys."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from diffvis_widget.tracer import Denoiser, find_live_call
from diffvis_widget.traces import Trace

from .attention import AttentionRecorder, QueriesKeys


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
    recorder = AttentionRecorder(sites, len(probe.branch()[0].branches), positions)
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
