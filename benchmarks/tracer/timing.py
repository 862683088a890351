"""Times the steps of a pipeline call, and summarises ratios of times."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.tracer.models import PROMPT

Around = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Timed:
    """seconds: of one step. result: what the pipeline returned. inside: what was entered around the call."""

    seconds: float
    result: torch.Tensor
    inside: Any


def clock() -> float:
    """Seconds: on a GPU of elapsed time, else of CPU time, which other work on the machine disturbs less."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def timed(pipe: Any, arguments: dict[str, Any], around: Around = nullcontext, steps: int = 2) -> Timed:
    """Times a call; the first step, which warms up, is left out of the mean."""
    stamps: list[float] = []

    def stamp(pipe: Any, index: int, timestep: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        stamps.append(clock())
        return inputs

    call = {"prompt": PROMPT, "num_inference_steps": steps, "output_type": "latent", **arguments}
    generator = torch.Generator().manual_seed(0)
    with around() as inside:
        output = pipe(**call, generator=generator, callback_on_step_end=stamp)
        result = output.images if hasattr(output, "images") else output.frames
    return Timed((stamps[-1] - stamps[0]) / (steps - 1), result, inside)


def middle(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, and the bounds of the interquartile range."""
    low, _, high = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    return statistics.median(values), low, high


def spread(values: Sequence[float]) -> str:
    median, low, high = middle(values)
    return f"{median:.3f} ({low:.3f} to {high:.3f})"
