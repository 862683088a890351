"""Where another run looked, step by step: its denoiser asked again, its queries and keys kept for one step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from diffvis_widget.tracer import Denoiser
from diffvis_widget.tracer.denoiser_inputs import recall
from diffvis_widget.traces import Trace

from .attention import Kept, Reader, Work


def check(trace: Trace, module: nn.Module, planned: int) -> None:
    """Raise ValueError where the attention of a trace cannot take the place of that of a run of `module`."""
    call, _ = recall(trace)
    if call.denoiser is not module:
        raise ValueError("freeze: the trace is of another model, or its pipeline is gone: trace it with this pipeline")
    if len(trace.steps) != planned:
        raise ValueError(
            f"freeze: the trace has {len(trace.steps)} steps and this run {planned}; its attention at a step belongs "
            f"to a noise level that this run does not have: run with as many steps"
        )


def attention_at(trace: Trace, step: int, sites: Mapping[str, nn.Module], positions: int) -> Kept:
    """Queries and keys of every word-attention layer at a step of another run, in the half that saw the prompt."""
    probe = Denoiser(trace, step)
    branches = probe.branches
    reader = Reader(sites)
    work = Work(len(probe.prompt()[0].branches), [], [positions], [], None, None, None)
    reader.attach()
    try:
        with torch.no_grad():
            reader.begin(work)
            _ = probe.output  # found to be what that run's scheduler was given
            found = reader.found
    finally:
        reader.detach()
    index = branches.index("prompt")
    kept: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for site, calls in found.items():
        query, key = (torch.cat(parts) for parts in zip(*calls, strict=True))
        kept[site] = query[index : index + 1], key[index : index + 1]
    missing = [site for site in sites if site not in kept]
    if missing:
        raise ValueError(f"freeze: the attention of {missing[0]} could not be seen, or has another number of words")
    return kept
