"""Generated Python makes the recorded image again, or is refused with the reason."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler, HeunDiscreteScheduler

import diffvis_widget as dv
from diffvis_widget.export.repeatable import check_repeatable
from diffvis_widget.export.source_code import trace_source
from tests import pipelines
from tests.tracer.test_own_loop import loop

PROMPT = "a red circle"


def scenes() -> Any:
    pipe = dv.load()
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_inference_steps": 3, "guidance_rescale": 0.7},
        {"timesteps": [999, 700, 300, 100]},
        {"num_inference_steps": 3, "height": 64, "width": 128},
        {"num_inference_steps": 3, "schedule": "late"},
    ],
    ids=["guidance_rescale", "timesteps", "size", "schedule"],
)
def test_the_code_of_a_run_with_further_arguments_makes_its_latents_again(arguments: dict[str, Any]) -> None:
    trace = dv.trace(scenes(), PROMPT, seed=1, **arguments)
    names: dict[str, Any] = {}
    exec(compile(trace_source(trace), "copied", "exec"), names)
    np.testing.assert_array_equal(names["trace"].latents, trace.latents)


def _second_image(pipe: Any) -> None:
    pipe(PROMPT, num_images_per_prompt=2, generator=torch.Generator().manual_seed(5), num_inference_steps=2)


def _second_call(pipe: Any) -> None:
    generator = torch.Generator().manual_seed(5)
    for _ in range(2):
        pipe(PROMPT, generator=generator, num_inference_steps=2)


def _list_of_a_generator_twice(pipe: Any) -> None:
    pipe([PROMPT] * 2, generator=[torch.Generator().manual_seed(5)] * 2, num_inference_steps=2)


@pytest.mark.parametrize("call", [_second_image, _second_call, _list_of_a_generator_twice])
def test_a_later_use_of_a_generator_has_no_seed(call: Callable[[Any], None]) -> None:
    pipe = scenes()
    with dv.Tracer(pipe) as tracer:
        call(pipe)
    first, later = tracer.traces
    assert first.meta["seed"] == 5
    assert later.meta["seed"] is None
    assert later.meta["generator"]["seed"] == 5
    with pytest.raises(ValueError, match="seed of this run is not known"):
        trace_source(later)


def test_new_generators_with_equal_seeds_each_keep_their_seed() -> None:
    pipe = scenes()
    with dv.Tracer(pipe) as tracer:
        generators = [torch.Generator().manual_seed(5) for _ in range(2)]
        pipe([PROMPT] * 2, generator=generators, num_inference_steps=2)
    assert [trace.meta["seed"] for trace in tracer.traces] == [5, 5]


def test_the_code_of_another_scheduler_of_the_scenes_model_is_refused() -> None:
    pipe = scenes()
    pipe.scheduler = EulerAncestralDiscreteScheduler.from_config(pipe.scheduler.config)
    with pytest.raises(ValueError, match="another scheduler"):
        trace_source(dv.trace(pipe, PROMPT, seed=1, num_inference_steps=2))


def test_the_code_of_another_setting_of_the_scheduler_is_refused() -> None:
    pipe = scenes()
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, use_karras_sigmas=True)
    with pytest.raises(ValueError, match="use_karras_sigmas"):
        trace_source(dv.trace(pipe, PROMPT, seed=1, num_inference_steps=3))


def test_the_code_of_a_run_with_latents_of_its_own_is_refused() -> None:
    trace = dv.trace(scenes(), PROMPT, seed=1, num_inference_steps=2, latents=torch.randn(1, 4, 16, 16))
    assert trace.meta["arguments_not_recorded"] == {"latents": "Tensor"}
    with pytest.raises(ValueError, match="latents"):
        trace_source(trace)


def test_the_number_of_steps_is_the_requested_one_with_a_second_order_scheduler() -> None:
    pipe = pipelines.stable_diffusion()
    pipe.scheduler = HeunDiscreteScheduler.from_config(pipe.scheduler.config)
    trace = dv.trace(pipe, "a cat", seed=1, num_inference_steps=4)
    assert len(trace.steps) == 7
    widget = dv.DiffVis(trace)
    assert widget.steps == 4
    widget.close()
    assert "num_inference_steps=4," in trace_source(trace)


def test_the_code_of_a_loop_of_ones_own_is_no_call_of_the_pipeline() -> None:
    pipe = scenes()
    with dv.Tracer(pipe) as tracer:
        loop(pipe)
    trace = tracer.trace
    assert trace.meta["own_loop"] is True
    source = dv.export.code(trace, step=1)
    assert "# A loop of its own made this run, not a call of the pipeline" in source
    tree = ast.parse(source)
    called = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert called == ["dv.export.png"]  # of `tracer.trace`, which the reader's own loop makes
    with pytest.raises(ValueError, match="a loop of its own made this run"):
        check_repeatable(trace.meta)
    assert "own_loop" not in dv.trace(pipe, PROMPT, seed=0, num_inference_steps=1).meta
