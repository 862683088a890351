"""How long a traced run will take and how much it will keep, found out by a short one."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diffvis_widget.traces import Record, Step
from diffvis_widget.traces.trace import Keep

from .trace_call import private_copy, trace

_PROBE = 3


@dataclass(frozen=True)
class Estimate:
    """seconds: of the whole pipeline call while traced. trace_bytes: of the trace in memory, without decoded pictures.

    evaluations: of the denoiser that the scheduler consumes; more than the steps asked for where it is of second order.
    """

    seconds: float
    trace_bytes: int
    evaluations: int

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s and {self.trace_bytes / 2**20:.1f} MB for {self.evaluations} evaluations"


def estimate(pipe: Any, prompt: str, steps: int, keep: Keep, pipe_kwargs: Mapping[str, Any]) -> Estimate:
    """See `Tracer.estimate`."""
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps must be a positive integer, not {steps!r}")
    times: list[float] = []

    def arrived(step: Step) -> None:
        times.append(time.perf_counter())

    before = time.perf_counter()
    found = trace(pipe, prompt, seed=0, num_inference_steps=_PROBE, keep=keep, on_step=arrived, **pipe_kwargs)
    total = time.perf_counter() - before
    # the first evaluation warms up and is not asked; of the others the quickest was least disturbed
    each = min((later - earlier for earlier, later in itertools.pairwise(times)), default=total)
    around = total - (times[-1] - times[0]) if len(times) > 1 else 0.0
    # image to image leaves out a share of the steps, in the short run as in the long one
    evaluations = max(1, round(_evaluations(pipe, steps) * len(found.steps) / _evaluations(pipe, _PROBE)))
    return Estimate(
        seconds=around + (evaluations - 1) * each,
        trace_bytes=evaluations * _size(found.records[-1]) + found.latents[0].nbytes,
        evaluations=evaluations,
    )


def _evaluations(pipe: Any, steps: int) -> int:
    scheduler = private_copy(pipe).scheduler
    if scheduler.config.get("use_dynamic_shifting"):
        return steps  # flow schedulers of first order, whose shift depends on the picture's size
    scheduler.set_timesteps(steps)
    return len(scheduler.timesteps)


def _size(record: Record) -> int:
    arrays = [record.latents, record.prediction, record.guidance, *record.maps, *(record.negative or ())]
    arrays += record.outputs or ()
    return sum(array.nbytes for array in arrays if array is not None)
