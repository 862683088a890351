"""Estimates time and memory of a traced run from a run of three steps."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import Any

from diffvis_widget.arguments import count
from diffvis_widget.traces import Step
from diffvis_widget.traces.types import Keep

from .default_keep import default_keep
from .trace_call import private_copy, trace

_PROBE_STEPS = 3


@dataclass(frozen=True)
class Estimate:
    """Time and memory of a traced run. `str()` gives them in one line.

    Attributes:
        seconds: of the whole pipeline call while it is traced.
        trace_bytes: of the trace in memory, as `Trace.nbytes` counts them once the predictions are decoded.
        evaluations: calls of the denoiser that the scheduler consumes. A scheduler of second order makes more of them
            than there are denoising steps.
        keep: which attention maps the trace stores; a long video has "words" by default, see `Tracer`.

    Example:
        >>> import diffvis_widget as dv
        >>> print(dv.Estimate(seconds=2.5, trace_bytes=3 * 2**20, evaluations=30))
        2.5 s and 3.0 MB for 30 evaluations
    """

    seconds: float
    trace_bytes: int
    evaluations: int
    keep: Keep = "layers"

    def __str__(self) -> str:
        suffix = "" if self.keep == "layers" else f', keep="{self.keep}"'
        return f"{self.seconds:.1f} s and {self.trace_bytes / 2**20:.1f} MB for {self.evaluations} evaluations{suffix}"


def estimate(pipe: Any, prompt: str, steps: int, *, keep: Keep | None = None, **pipe_kwargs: Any) -> Estimate:
    """Estimate time and memory of a traced run by tracing a run of three steps.

    Args:
        pipe: the pipeline; it stays as it was.
        prompt: the text of the run.
        steps: denoising steps of the run, 1 or more.
        keep: which attention maps the trace stores, as for `Tracer`.
        **pipe_kwargs: arguments of `trace` and of the pipeline call (`height`, `guidance_scale`, `output`, ...).

    Returns:
        Seconds, bytes and evaluations of the run.

    Raises:
        ValueError: steps is not a positive integer, or as `trace` does.
        TypeError: as `trace` does.

    Example:
        >>> import diffvis_widget as dv
        >>> dv.estimate(dv.load(), "a red circle", steps=10).evaluations
        10
    """
    count("steps", steps, 1, 100_000)
    times: list[float] = []

    def note_time(step: Step) -> None:
        times.append(time.perf_counter())

    start = time.perf_counter()
    probe = trace(
        pipe,
        prompt,
        seed=0,
        num_inference_steps=_PROBE_STEPS,
        keep="layers" if keep is None else keep,
        on_step=note_time,
        **pipe_kwargs,
    )
    total = time.perf_counter() - start
    # the first evaluation includes the warm-up; the fastest of the others was disturbed least
    per_evaluation = min((later - earlier for earlier, later in itertools.pairwise(times)), default=total)
    overhead = total - (times[-1] - times[0]) if len(times) > 1 else 0.0
    # image-to-image skips a share of the steps: the same share in the probe and in the run
    evaluations = max(1, round(_evaluations(pipe, steps) * len(probe.steps) / _evaluations(pipe, _PROBE_STEPS)))
    # each evaluation adds a record and a decoded prediction
    record = sum(array.nbytes for array in probe.records[-1].arrays())
    shown = probe.image if probe.video is None else probe.video
    image = shown.nbytes
    chosen = probe.keep
    if keep is None:
        chosen = default_keep(probe.layers, probe.frame_count, len(probe.words), evaluations, warn=False)
    if chosen != probe.keep:  # the mean of the layers in place of each
        branches = [part for part in (probe.records[-1].maps, probe.records[-1].negative) if part is not None]
        record -= sum(sum(layer.nbytes for layer in maps) - max(layer.nbytes for layer in maps) for maps in branches)
    return Estimate(
        seconds=overhead + (evaluations - 1) * per_evaluation,
        trace_bytes=evaluations * (record + image) + image,
        evaluations=evaluations,
        keep=chosen,
    )


def _evaluations(pipe: Any, steps: int) -> int:
    scheduler = private_copy(pipe).scheduler
    if scheduler.config.get("use_dynamic_shifting"):
        return steps  # flow schedulers of first order, whose shift depends on the size of the image
    scheduler.set_timesteps(steps)
    return len(scheduler.timesteps)
