"""estimate: memory exactly, evaluations as the scheduler plans them. Its time is measured in benchmarks/."""

from __future__ import annotations

from typing import Any

import pytest
from diffusers import EulerDiscreteScheduler, HeunDiscreteScheduler

from diffvis_widget.tracer import estimate
from diffvis_widget.tracer import trace as make_trace
from diffvis_widget.traces import Trace
from tests import pipelines
from tests.pipelines_dit import FAMILIES

PROMPT = "a red circle above a blue square"


def size(trace: Trace) -> int:
    trace.frames("prediction")
    return trace.nbytes


@pytest.mark.parametrize("keep", ["words", "layers", "heads"])
@pytest.mark.parametrize("scheduler", [EulerDiscreteScheduler, HeunDiscreteScheduler])
def test_memory_and_evaluations(keep: Any, scheduler: Any) -> None:
    pipe = pipelines.stable_diffusion()
    pipe.scheduler = scheduler(**pipelines.TRAIN_BETAS)
    estimated = estimate(pipe, PROMPT, 7, keep=keep, negative_prompt="fog")
    real = make_trace(pipe, PROMPT, num_inference_steps=7, keep=keep, negative_prompt="fog")
    assert estimated.evaluations == len(real.steps)
    assert estimated.trace_bytes == size(real)
    assert estimated.seconds > 0
    suffix = "" if keep == "layers" else f', keep="{keep}"'
    assert str(estimated).endswith(f"for {len(real.steps)} evaluations{suffix}")


def test_with_flow_matching_and_other_arguments() -> None:
    pipe = FAMILIES["flux"].build()
    arguments = {**FAMILIES["flux"].arguments}
    arguments.pop("num_inference_steps")
    estimated = estimate(pipe, PROMPT, 5, **arguments)
    real = make_trace(pipe, PROMPT, num_inference_steps=5, **arguments)
    assert (estimated.evaluations, estimated.trace_bytes) == (5, size(real))


@pytest.mark.parametrize("steps", [0, -3, 2.5, True, "7"])
def test_steps_must_be_a_number_of_steps(steps: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="steps must be an integer from 1 to 100000"):
        estimate(pipelines.stable_diffusion(), PROMPT, steps)
