"""One map of one step by a method's name, as a view asks for it: told how far it is, stopped, its time known before."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import torch

from diffvis_widget.cancellation import Cancelled
from diffvis_widget.tracer import denoiser
from diffvis_widget.traces import Trace
from diffvis_widget.traces.results.saliency import Saliency

from .arguments import choice
from .cam import df_cam
from .lime import df_lime
from .progress import batch_size
from .rise import df_rise

Method = Literal["df_rise", "df_cam", "df_lime"]
OVERLAYS: tuple[Method, ...] = ("df_rise", "df_cam", "df_lime")
_EVALUATIONS: dict[Method, int] = {"df_rise": 500, "df_cam": 3, "df_lime": 300}  # at most; a gradient counts twice
_PATIENCE = 0.5  # seconds between two looks at `stop`, where a single evaluation takes no longer


def overlay(
    trace: Trace,
    step: int,
    method: Method,
    *,
    progress: Callable[[float], object] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Saliency:
    """The Saliency of a step by one of `OVERLAYS`, to be shown, and kept in `trace.saliency`.

    "df_rise": at most 500 masks, actual coverage, stopping at convergence, which is looked for batch by batch: on a
    machine of another speed some masks earlier or later. "df_cam": all layers. "df_lime": 300 samples, where the paper
    and `df_lime` by itself take 1000. Seeds are 0.

    trace: made in this process; step: index into trace.steps. progress: called with the share that is done, rising from
    0 to 1, between evaluations of the denoiser, in this thread; what it raises ends the computation. stop: asked as
    often; once it says True (a threading.Event's `is_set`, say), Cancelled is raised and nothing is left behind.
    Raises Cancelled, ValueError for another method, and what `denoiser` raises (ImportError for "df_lime" without
    scikit-image).
    """
    choice("method", method, OVERLAYS)

    def tell(done: int, total: int) -> None:
        if stop is not None and stop():
            raise Cancelled(f"{method} of step {step} was cancelled")
        if progress is not None:
            progress(done / total)

    tell(0, 1)
    if method == "df_cam":
        found = df_cam(trace, step)
    else:
        seconds = _seconds(trace, step)
        batch = max(1, min(batch_size(None, trace.records[0].latents.shape), int(_PATIENCE / max(seconds, 1e-6))))
        limit = _EVALUATIONS[method]
        if method == "df_rise":
            found = df_rise(trace, step, limit, coverage="actual", batch=batch, progress=tell)
        else:
            found = df_lime(trace, step, limit, batch=batch, progress=tell)
    tell(1, 1)
    return found


def estimate(trace: Trace, step: int, method: Method) -> float:
    """Seconds that `overlay` will take at most, from two evaluations of the denoiser now. Raises as `overlay` does."""
    choice("method", method, OVERLAYS)
    return estimates(trace, step)[method]


def estimates(trace: Trace, step: int) -> dict[Method, float]:
    """`estimate` of each method, from one and the same two evaluations. Raises as `denoiser` does."""
    seconds = _seconds(trace, step)
    return {method: _EVALUATIONS[method] * seconds for method in OVERLAYS}


def _seconds(trace: Trace, step: int) -> float:
    """What an evaluation takes for one of several latents."""
    probe = denoiser(trace, step)  # evaluates it a first time, which may be slower
    count = min(4, batch_size(None, tuple(probe.latents.shape)))
    latents = torch.cat([probe.latents] * count)
    began = time.perf_counter()
    probe(latents)
    if probe.device.type == "cuda":
        torch.cuda.synchronize(probe.device)
    return (time.perf_counter() - began) / count
