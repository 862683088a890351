"""A denoising loop of the user's own code inside a Tracer: nothing of an earlier call is taken for the loop's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler

import diffvis_widget as dv
from tests import pipelines, pipelines_joint

PROMPT = "a red circle"


def loop(
    pipe: Any, steps: int = 4, guidance: float = 5.0, begin: int = 0, end: int | None = None, images: int = 1
) -> torch.Tensor:
    """The loop that tutorials show: encode, noise, evaluate, guide, step."""
    guided = guidance > 1
    with torch.no_grad():
        text, negative = pipe.encode_prompt([PROMPT] * images, "cpu", 1, guided)
        pipe.scheduler.set_timesteps(steps)
        times = pipe.scheduler.timesteps[begin:end]
        if begin and hasattr(pipe.scheduler, "set_begin_index"):
            pipe.scheduler.set_begin_index(begin)
        noise = torch.randn(images, 4, 16, 16, generator=torch.Generator().manual_seed(5))
        latents = noise * pipe.scheduler.init_noise_sigma
        for time in times:
            model_input = pipe.scheduler.scale_model_input(torch.cat([latents] * (1 + guided)), time)
            embeddings = torch.cat([negative, text]) if guided else text
            output = pipe.unet(model_input, time, encoder_hidden_states=embeddings).sample
            if guided:
                unconditional, conditional = output.chunk(2)
                output = unconditional + guidance * (conditional - unconditional)
            latents = pipe.scheduler.step(output, time, latents).prev_sample
        return latents


def earlier_call(pipe: Any) -> None:
    """A call of the pipeline with other settings, of two images."""
    generator = torch.Generator().manual_seed(9)
    pipe("a blue square", num_inference_steps=7, guidance_scale=3.0, num_images_per_prompt=2, generator=generator)


@pytest.mark.parametrize("earlier", ["none", "before the block", "in the block"])
@pytest.mark.parametrize("guidance", [5.0, 1.0], ids=["guided", "unguided"])
def test_the_settings_of_an_earlier_call_are_not_those_of_the_loop(earlier: str, guidance: float) -> None:
    pipe = pipelines.stable_diffusion()
    alone = loop(pipe, guidance=guidance)
    if earlier == "before the block":
        earlier_call(pipe)
    with dv.Tracer(pipe) as tracer:
        if earlier == "in the block":
            earlier_call(pipe)
        latents = loop(pipe, guidance=guidance)
    assert torch.equal(latents, alone)
    assert len(tracer.traces) == (3 if earlier == "in the block" else 1)
    trace = tracer.traces[-1]
    assert (trace.prompt, len(trace.steps)) == (PROMPT, 4)
    assert {name: trace.meta[name] for name in ("guidance_scale", "seed", "planned_steps")} == {
        "guidance_scale": None,
        "seed": None,
        "planned_steps": 4,
    }
    assert trace.is_complete
    assert np.array_equal(trace.latents[-1], latents[0].numpy())
    assert (trace.guidance is not None) == (guidance > 1)


def test_an_earlier_call_keeps_its_own_settings() -> None:
    pipe = pipelines.stable_diffusion()
    with dv.Tracer(pipe) as tracer:
        loop(pipe)
        earlier_call(pipe)
    assert [trace.meta["guidance_scale"] for trace in tracer.traces] == [None, 3.0, 3.0]
    assert [trace.meta["seed"] for trace in tracer.traces] == [None, 9, None]
    assert [trace.meta["planned_steps"] for trace in tracer.traces] == [4, 7, 7]


def test_a_generator_that_the_loop_itself_prepares_latents_with_is_the_loops() -> None:
    pipe = pipelines.stable_diffusion()
    with dv.Tracer(pipe) as tracer:
        earlier_call(pipe)
        for seed in (11, 12):
            generator = torch.Generator().manual_seed(seed)
            pipe.prepare_latents(1, 4, 32, 32, torch.float32, "cpu", generator)
            loop(pipe)
    assert [trace.meta["seed"] for trace in tracer.traces] == [9, None, 11, 12]


@pytest.mark.parametrize(
    "scheduler",
    [DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler],
    ids=lambda scheduler: scheduler.__name__,
)
@pytest.mark.parametrize(
    ("begin", "end", "complete"),
    [(0, None, True), (0, -1, False), (1, None, True), (1, -1, False)],
    ids=["whole", "broken off", "as image to image", "as image to image, broken off"],
)
def test_a_loop_is_complete_when_it_reaches_the_end_of_the_schedule(
    scheduler: Any, begin: int, end: int | None, complete: bool
) -> None:
    pipe = pipelines.stable_diffusion()
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    earlier_call(pipe)
    with dv.Tracer(pipe) as tracer:
        loop(pipe, begin=begin, end=end)
    assert tracer.trace.is_complete is complete


def test_the_denoiser_of_the_loop_has_the_guidance_of_the_loop() -> None:
    pipe = pipelines.stable_diffusion()
    earlier_call(pipe)
    with dv.Tracer(pipe) as tracer:
        loop(pipe, guidance=5.0)
    trace = tracer.trace
    guided = dv.denoiser(trace, 1)(torch.from_numpy(trace.latents[1:2]))
    with torch.no_grad():
        text, negative = pipe.encode_prompt(PROMPT, "cpu", 1, True)
        both = pipe.unet(
            torch.from_numpy(trace.latents[1:2]).repeat(2, 1, 1, 1),
            trace.steps[1].timestep,
            encoder_hidden_states=torch.cat([negative, text]),
        ).sample
    unconditional, conditional = both.chunk(2)
    expected = unconditional + 5.0 * (conditional - unconditional)
    assert torch.allclose(guided, expected, atol=1e-4)


def test_a_loop_of_joint_attention_is_traced_after_an_earlier_call_of_another_size() -> None:
    pipe = pipelines_joint.stable_diffusion_3()
    with dv.Tracer(pipe) as tracer:
        pipe("a blue square", num_inference_steps=2, guidance_scale=3.0, height=48, width=32)
        with torch.no_grad():
            text, _, pooled, _ = pipe.encode_prompt(PROMPT, None, None, do_classifier_free_guidance=False)
            pipe.scheduler.set_timesteps(3)
            latents = pipe.prepare_latents(
                1, pipe.transformer.config.in_channels, 32, 32, torch.float32, "cpu", torch.Generator().manual_seed(1)
            )
            for time in pipe.scheduler.timesteps:
                output = pipe.transformer(
                    latents, text, pooled, time.expand(1), return_dict=False
                )[0]  # fmt: skip
                latents = pipe.scheduler.step(output, time, latents).prev_sample
    trace = tracer.traces[-1]
    assert (trace.prompt, len(trace.steps), trace.is_complete) == (PROMPT, 3, True)
    assert (trace.meta["guidance_scale"], trace.meta["seed"]) == (None, 1)
    assert np.isfinite(trace.heat_map("circle")).all()
