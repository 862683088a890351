"""Computes one map by a method's name, as the widget does: with progress, cancellation and an estimate of the time."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from diffvis_widget.arguments import function
from diffvis_widget.cancellation import Cancelled
from diffvis_widget.tracer import Denoiser, denoiser
from diffvis_widget.traces import Saliency, Trace

from .methods import Method, find_method, registered_methods
from .progress import batch_size
from .stored_maps import store_map

_RESPONSE = 0.5  # seconds between two calls of `stop`, where a single evaluation takes no longer
_FEW = 8  # evaluations; a method that needs no more is not worth measuring the speed of two


def overlay(
    trace: Trace,
    step: int,
    method: str,
    *,
    progress: Callable[[float], object] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Saliency:
    """Compute the map of a step by a method's name, for display.

    `trace.saliency` stores the map, in place of an earlier one of the same method and step. The built-in methods:
    "df_rise" takes at most 500 masks, actual coverage, and stops when the map has converged; convergence is checked
    batch by batch, so that a machine of another speed may take some more or fewer masks. "df_cam" takes all layers.
    "df_lime" takes 300 samples, where the paper and `df_lime` itself take 1000. Their seeds are 0.

    Args:
        trace: A run made in this process.
        step: Index into `trace.steps`.
        method: Name of a registered method; see `registered_methods`.
        progress: Called in this thread with the share that is done, rising from 0 to 1, between evaluations of the
            denoiser. An exception that it raises ends the computation.
        stop: Called as often; once it returns True, the computation is cancelled. `threading.Event.is_set` will do.

    Returns:
        The map of the step.

    Raises:
        Cancelled: If `stop` returned True. Nothing is left behind but a map that was already whole.
        ValueError: If the method is unknown, or if what its function returned is no map of this step on the latent
            grid; see also `denoiser`.
        ImportError: For "df_lime" without scikit-image.

    Example:
        >>> import diffvis_widget as dv
        >>> trace = dv.trace(dv.load(), "a red circle", seed=7, num_inference_steps=2)
        >>> saliency = dv.explain.overlay(trace, 1, "df_cam")
        >>> saliency.map.shape == trace.latents.shape[2:], trace.saliency == [saliency]
        (True, True)
    """
    row = find_method(method)
    if progress is not None:
        function("progress", progress, "a function of the share that is done, or None")
    if stop is not None:
        function("stop", stop, "a function without arguments that returns True or False, or None")

    def report(done: int, total: int) -> None:
        if stop is not None and stop():
            raise Cancelled(f"{method} of step {step} was cancelled")
        if progress is not None:
            progress(done / total)

    report(0, 1)
    batch = None
    if row.evaluations > _FEW:
        _, seconds = _seconds(trace, step)
        batch = max(1, min(batch_size(None, trace.records[0].latents.shape), int(_RESPONSE / max(seconds, 1e-6))))
    saliency = row.function(trace, step, batch=batch, progress=report)
    grid = trace.records[0].latents.shape[-2:]
    if saliency.method != method or saliency.step != step % len(trace.steps) or saliency.map.shape != grid:
        raise ValueError(
            f"the function of {method!r} must return a map of {method!r} for step {step} on the latent grid {grid}; it "
            f"returned one of {saliency.method!r} for step {saliency.step} of shape {saliency.map.shape}"
        )
    report(1, 1)
    return store_map(trace, saliency)


def estimate(trace: Trace, step: int, method: str) -> float:
    """Estimate how long `overlay` takes, from three evaluations of the denoiser.

    Args:
        trace: A run made in this process.
        step: Index into `trace.steps`.
        method: Name of a registered method.

    Returns:
        Seconds.

    Raises:
        ValueError: If the method is unknown; see also `denoiser`.

    Example:
        >>> import diffvis_widget as dv
        >>> trace = dv.trace(dv.load(), "a red circle", seed=7, num_inference_steps=1)
        >>> dv.explain.estimate(trace, 0, "df_cam") > 0
        True
    """
    return _cost(find_method(method), *_seconds(trace, step))


def estimates(trace: Trace, step: int) -> dict[str, float]:
    """Estimate how long `overlay` takes, for all methods from the same three evaluations of the denoiser.

    Args:
        trace: A run made in this process.
        step: Index into `trace.steps`.

    Returns:
        Seconds by the method's name.

    Example:
        >>> import diffvis_widget as dv
        >>> trace = dv.trace(dv.load(), "a red circle", seed=7, num_inference_steps=1)
        >>> list(dv.explain.estimates(trace, 0))
        ['df_rise', 'smooth_rise', 'df_cam', 'df_lime']
    """
    seconds = _seconds(trace, step)
    return {method.name: _cost(method, *seconds) for method in registered_methods()}


def _cost(method: Method, alone: float, batched: float) -> float:
    """Seconds of a map; methods of few evaluations make them one by one."""
    evaluations = method.usual_evaluations or method.evaluations
    return evaluations * (alone if method.evaluations <= _FEW else batched)


def _seconds(trace: Trace, step: int) -> tuple[float, float]:
    """Measure an evaluation of one latent: alone, and as one of as many as fit into the time of a response."""
    probe = denoiser(trace, step)  # evaluates it a first time, which may be slower
    alone = _duration(probe, probe.latents)
    most = batch_size(None, tuple(probe.latents.shape))
    count = max(min(4, most), min(most, int(_RESPONSE / max(alone, 1e-6))))
    return alone, _duration(probe, torch.cat([probe.latents] * count)) / count


def _duration(probe: Denoiser, latents: Tensor) -> float:
    began = time.perf_counter()
    probe(latents)
    if probe.device.type == "cuda":
        torch.cuda.synchronize(probe.device)
    return time.perf_counter() - began
