"""dv.trace: one image from a prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UNet2DConditionModel

from diffvis_widget.schedule import timesteps
from diffvis_widget.tracer import Tracer, fingerprint, private_copy, trace
from tests import pipelines

PROMPT = "a red circle above a blue square"


def solver_pipeline() -> Any:
    pipe = pipelines.stable_diffusion()
    pipe.scheduler = DPMSolverMultistepScheduler(**pipelines.TRAIN_BETAS)
    return pipe


def test_is_what_the_pipeline_does_with_that_seed() -> None:
    pipe = solver_pipeline()
    recorded = trace(pipe, PROMPT, seed=7, num_inference_steps=4, negative_prompt="fog", guidance_scale=5.0)
    image = pipe(
        PROMPT,
        num_inference_steps=4,
        negative_prompt="fog",
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(7),
    ).images[0]
    assert np.array_equal(recorded.image, np.asarray(image))
    assert (recorded.prompt, recorded.negative_prompt) == (PROMPT, "fog")
    assert (recorded.meta["seed"], recorded.meta["guidance_scale"], recorded.meta["planned_steps"]) == (7, 5.0, 4)


def test_meta_says_where_it_comes_from_in_plain_json(tmp_path: Path) -> None:
    pipe = solver_pipeline()
    meta = trace(pipe, PROMPT, seed=7, num_inference_steps=1).meta
    assert json.loads(json.dumps(meta)) == meta
    assert (meta["pipeline"], meta["scheduler"]) == ("StableDiffusionPipeline", "DPMSolverMultistepScheduler")
    assert meta["scheduler_config"]["beta_end"] == 0.012
    assert meta["versions"]["torch"] == torch.__version__.split("+")[0]
    assert meta["date"].endswith("+00:00")
    same = trace(solver_pipeline(), PROMPT, seed=1, num_inference_steps=1).meta["fingerprint"]
    assert meta["fingerprint"] == same
    assert fingerprint(solver_pipeline().unet.half()) == same
    pipe.unet.save_pretrained(tmp_path)
    assert fingerprint(UNet2DConditionModel.from_pretrained(tmp_path)) == same
    with torch.no_grad():
        pipe.unet.conv_in.weight[0, 0, 0, 0] += 1
    assert trace(pipe, PROMPT, seed=7, num_inference_steps=1).meta["fingerprint"] != same


def test_without_a_seed_the_drawn_one_is_told() -> None:
    pipe = solver_pipeline()
    first = trace(pipe, PROMPT, num_inference_steps=2)
    again = trace(pipe, PROMPT, seed=first.meta["seed"], num_inference_steps=2)
    assert np.array_equal(first.latents, again.latents)


@pytest.mark.parametrize("kind", ["early", "late"])
def test_schedules_reach_the_scheduler(kind: Any) -> None:
    recorded = trace(solver_pipeline(), PROMPT, seed=1, num_inference_steps=6, schedule=kind, schedule_strength=20)
    assert recorded.timesteps.tolist() == timesteps(kind, steps=6, strength=20)


def test_a_schedule_without_a_number_of_steps_takes_the_pipelines_own() -> None:
    class Enough(Exception):
        pass

    seen: list[float] = []

    def stop(step: Any) -> None:
        seen.append(step.timestep)
        if len(seen) == 3:
            raise Enough

    with pytest.raises(Enough):
        trace(solver_pipeline(), PROMPT, seed=1, schedule="late", on_step=stop)
    assert seen == timesteps("late", steps=50, strength=60)[:3]


@pytest.mark.filterwarnings("ignore:embeddings of the prompt reached")
def test_arguments_go_on_to_the_pipeline() -> None:
    recorded = trace(solver_pipeline(), PROMPT, seed=1, num_inference_steps=2, height=40, width=48)
    assert recorded.image.shape == (40, 48, 3)
    pipe = solver_pipeline()
    embeddings, negative = pipe.encode_prompt(PROMPT, "cpu", 1, True)
    from_embeddings = trace(
        pipe, None, num_inference_steps=2, prompt_embeds=embeddings, negative_prompt_embeds=negative
    )
    assert len(from_embeddings.words) == 77
    image = torch.rand(1, 3, 32, 32)
    late = trace(pipelines.image_to_image(), PROMPT, seed=1, num_inference_steps=4, image=image, strength=0.5)
    assert len(late.steps) == 2
    with pytest.raises(TypeError, match=r"StableDiffusionPipeline takes no hieght=.*height"):
        trace(solver_pipeline(), PROMPT, seed=1, num_inference_steps=1, hieght=40)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_inference_steps": 0}, ValueError, "num_inference_steps must be an integer .*, not 0"),
        ({"num_inference_steps": -1}, ValueError, "not -1"),
        ({"num_inference_steps": 1.5}, TypeError, "num_inference_steps must be an integer of 1 or more, not 1.5"),
        ({"num_inference_steps": "30"}, TypeError, "not '30'"),
        ({"num_inference_steps": True}, ValueError, "not True"),
        ({"seed": 1.5}, TypeError, "seed must be an integer, not 1.5"),
        ({"seed": "seven"}, TypeError, "not 'seven'"),
        ({"seed": True}, TypeError, "not True"),
        ({"seed": -1}, ValueError, "not -1"),
        ({"seed": 2**64}, ValueError, "2\\*\\*64 - 1"),
        ({"prompt": ["a", "b"]}, TypeError, "prompt must be one text, not list; for several use Tracer"),
        ({"prompt": 3}, TypeError, "not int"),
        ({"prompt": None}, TypeError, "prompt_embeds"),
        ({"negative_prompt": ["fog"]}, TypeError, "negative_prompt must be one text or None, not list"),
        ({"num_images_per_prompt": 2}, ValueError, "one image"),
        ({"seed": 1, "generator": torch.Generator()}, ValueError, "seed= or generator="),
        ({"schedule": "soon"}, ValueError, "schedule must be one of 'uniform', 'early', 'late', not 'soon'"),
        ({"schedule": "early", "schedule_strength": -1}, ValueError, "strength must be"),
        ({"schedule": "early", "num_inference_steps": 100, "schedule_strength": 5}, ValueError, "works is 77"),
        ({"keep": "none"}, ValueError, "keep must be"),
    ],
)
def test_bad_arguments_stop_before_anything_runs(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    pipe = solver_pipeline()
    pipe.unet.register_forward_pre_hook(lambda *args: pytest.fail("the denoiser ran"))
    with pytest.raises(error, match=message):
        trace(**({"pipe": pipe, "prompt": PROMPT} | arguments))


def test_a_scheduler_without_custom_steps_is_named() -> None:
    with pytest.raises(ValueError, match="DDIMScheduler takes no custom timesteps"):
        trace(pipelines.stable_diffusion(), PROMPT, num_inference_steps=10, schedule="early")


def test_numpy_integers_are_integers() -> None:
    numbers: dict[str, Any] = {"seed": np.int64(3), "num_inference_steps": np.int32(2)}
    assert len(trace(solver_pipeline(), PROMPT, **numbers).steps) == 2


def test_inside_a_tracer_of_the_same_pipeline() -> None:
    pipe = solver_pipeline()
    with Tracer(pipe) as outer:
        pipe("outer", num_inference_steps=2)
        inner = trace(pipe, "inner", seed=1, num_inference_steps=3)
    assert [(recorded.prompt, len(recorded.steps)) for recorded in outer.traces] == [("outer", 2)]
    assert (inner.prompt, len(inner.steps)) == ("inner", 3)


def test_a_private_copy_shares_weights_and_nothing_of_a_run() -> None:
    pipe = pipelines.stable_diffusion()
    pipe.scheduler = DDIMScheduler(**pipelines.TRAIN_BETAS)
    pipe.scheduler.set_timesteps(7)
    with pytest.warns(UserWarning, match="nothing was traced"), Tracer(pipe):
        clone = private_copy(pipe)
    assert clone.unet is pipe.unet
    assert clone.scheduler is not pipe.scheduler
    assert clone.scheduler.num_inference_steps == 7
    assert not vars(clone).keys() & {"encode_prompt", "prepare_latents"}
    assert not vars(clone.scheduler).keys() & {"step", "set_timesteps"}
    clone.scheduler.set_timesteps(3)
    assert len(pipe.scheduler.timesteps) == 7
