"""On a GPU: the image is the same, the maps are exact, and nothing waits for the GPU within a step.

Skipped where there is none. The tests of the CPU hold for the rest; these are for what differs there: other attention
kernels, copies that run beside the computation, half precision as people use it.
"""

from __future__ import annotations

import functools
import warnings
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch

from diffvis_widget.tracer import Tracer
from tests.pipelines_dit import FAMILIES
from tests.tracer.families import test_families as families

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


@functools.cache
def build(name: str, dtype: torch.dtype) -> Any:
    return FAMILIES[name].build().to("cuda", dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-3)])
@pytest.mark.parametrize("name", families.TRACED)
def test_the_image_is_the_same_and_the_maps_are_exact(
    name: str, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(families, "build", lambda name: build(name, dtype))
    families.assert_same_image_and_exact_maps(name, tolerance)


def waits(name: str, pipe: Any, steps: int, traced: bool) -> int:
    """How often the CPU waits for the GPU during a call of so many steps."""
    arguments = FAMILIES[name].arguments | {"num_inference_steps": steps, "output_type": "latent"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with Tracer(pipe) if traced else nullcontext():
            torch.cuda.set_sync_debug_mode("warn")
            try:
                pipe(prompt=families.PROMPT, **arguments, generator=torch.Generator().manual_seed(1))
            finally:
                torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


@pytest.mark.parametrize("name", ["flux", "sd3", "qwen", "pixart-alpha", "sana"])
def test_a_step_waits_for_the_gpu_no_more_often_than_without_the_tracer(name: str) -> None:
    pipe = build(name, torch.bfloat16)
    waits(name, pipe, 3, traced=True)  # kernels are checked once
    per_step = {traced: waits(name, pipe, 6, traced) - waits(name, pipe, 3, traced) for traced in (False, True)}
    assert per_step[True] <= per_step[False]


def test_traces_of_two_runs_are_equal() -> None:
    """What is copied while the GPU goes on is read only once it has arrived."""
    pipe = build("flux", torch.bfloat16)
    maps: list[np.ndarray] = []
    for _ in range(3):
        with Tracer(pipe, keep="heads") as tracer:
            pipe(prompt=families.PROMPT, **FAMILIES["flux"].arguments, generator=torch.Generator().manual_seed(1))
        maps.append(np.concatenate([part.ravel() for record in tracer.trace.records for part in record.maps]))
    assert np.array_equal(maps[0], maps[1], equal_nan=True)
    assert np.array_equal(maps[0], maps[2], equal_nan=True)
