"""With and without the tracer: the same pixels, the same random state, the same objects, bit for bit."""

from __future__ import annotations

from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from diffvis_widget.tracer import Tracer, trace
from tests import pipelines

PROMPT = "a red circle above a blue square"
SCHEDULERS = [
    *["DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "LCMScheduler", "TCDScheduler"],
    *["DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "DEISMultistepScheduler"],
    *["UniPCMultistepScheduler", "SASolverScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler"],
    *["HeunDiscreteScheduler", "LMSDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler"],
]


def with_scheduler(pipe: Any, name: str, **config: Any) -> Any:
    pipe.scheduler = getattr(diffusers, name)(**pipelines.TRAIN_BETAS, **config)
    return pipe


def twice(pipe: Any, keep: Any = "layers", **arguments: Any) -> Any:
    """Run with and without; compare the images, the global and the given generator, and the image in the trace."""
    results: list[tuple[np.ndarray, torch.Tensor, torch.Tensor]] = []
    arguments = {"prompt": PROMPT, "num_inference_steps": 3, "output_type": "np"} | arguments
    tracer = Tracer(pipe, keep=keep)
    for traced in (False, True):
        torch.manual_seed(11)
        generator = torch.Generator().manual_seed(5)
        if traced:
            with tracer:
                images = pipe(**arguments, generator=generator).images
        else:
            images = pipe(**arguments, generator=generator).images
        results.append((images, torch.get_rng_state(), generator.get_state()))
    for plain, seen in zip(*results, strict=True):
        assert np.array_equal(plain, seen)
    for image, recorded in zip(results[0][0], tracer.traces, strict=True):
        assert np.array_equal(recorded.image, np.round(image * 255).astype(np.uint8))
    return tracer


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers(name: str) -> None:
    tracer = twice(with_scheduler(pipelines.stable_diffusion(), name), num_inference_steps=4)
    assert len(tracer.trace.steps) >= 4


def test_sde_scheduler_that_draws_from_the_global_generator() -> None:
    twice(with_scheduler(pipelines.stable_diffusion(), "DPMSolverMultistepScheduler", algorithm_type="sde-dpmsolver++"))


@pytest.mark.parametrize("keep", ["words", "layers", "heads"])
def test_whatever_is_kept(keep: str) -> None:
    twice(pipelines.stable_diffusion(), keep=keep, num_images_per_prompt=2)


def test_guidance_rescaled() -> None:
    twice(pipelines.stable_diffusion(), guidance_rescale=0.7)


def test_without_guidance() -> None:
    tracer = twice(pipelines.stable_diffusion(), guidance_scale=1.0)
    assert tracer.trace.guidance is None
    assert twice(pipelines.unguided()).trace.guidance is None


def test_perturbed_attention_guidance() -> None:
    assert twice(pipelines.perturbed()).trace.guidance is not None
    assert twice(pipelines.perturbed(), guidance_scale=1.0).trace.guidance is None


def test_sdxl_with_two_prompts() -> None:
    twice(pipelines.stable_diffusion_xl(), prompt_2="a very old photograph", negative_prompt="fog")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    tracer = twice(pipelines.stable_diffusion().to(dtype))
    expected = np.float16 if dtype == torch.float16 else np.float32
    assert tracer.trace.latents.dtype == tracer.trace.predictions.dtype == expected


def initial_image() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8))


def test_image_to_image_begins_part_way() -> None:
    tracer = twice(pipelines.image_to_image(), image=initial_image(), strength=0.7)
    assert len(tracer.trace.steps) == tracer.trace.meta["planned_steps"] == 2


@pytest.mark.parametrize("channels", [4, 9])
def test_inpainting(channels: int) -> None:
    half = Image.fromarray(np.repeat([[0] * 16 + [255] * 16], 32, axis=0).astype(np.uint8))
    pipe = pipelines.inpainting(channels=channels)
    tracer = twice(pipe, image=initial_image(), mask_image=half, height=32, width=32)
    # with a plain U-Net the kept part is laid over the latents after each step, the last too; the trace has the result
    decoded = pipe.vae.decode(torch.from_numpy(tracer.trace.latents[-1:]) / pipe.vae.config.scaling_factor)[0]
    shown = (decoded[0] * 0.5 + 0.5).clamp(0, 1).permute(1, 2, 0).detach().numpy()
    assert np.abs(np.round(shown * 255) - tracer.trace.image).max() <= 1


def test_attention_slicing_and_fused_projections() -> None:
    pipe = pipelines.stable_diffusion()
    pipe.enable_attention_slicing(1)
    twice(pipe)
    pipe = pipelines.stable_diffusion()
    pipe.fuse_qkv_projections(vae=False)
    twice(pipe)


def test_vae_slicing_and_tiling() -> None:
    pipe = pipelines.stable_diffusion()
    pipe.vae.enable_slicing()
    pipe.vae.enable_tiling()
    twice(pipe, num_images_per_prompt=2)


def test_latents_are_those_of_the_pipeline() -> None:
    pipe = pipelines.stable_diffusion()
    seen: list[np.ndarray] = []

    def note(pipe: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        seen.append(values["latents"][0].numpy().copy())
        return {}

    start = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    with Tracer(pipe) as tracer:
        pipe(PROMPT, num_inference_steps=4, latents=start, callback_on_step_end=note)
    assert np.array_equal(tracer.trace.latents[0], start[0].numpy() * float(pipe.scheduler.init_noise_sigma))
    assert np.array_equal(tracer.trace.latents[1:], np.stack(seen))


def test_a_callback_that_changes_the_latents() -> None:
    pipe = pipelines.stable_diffusion()

    def halve(pipe: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        return {"latents": values["latents"] * 0.5}

    with Tracer(pipe) as tracer:
        final = pipe(
            PROMPT, num_inference_steps=3, callback_on_step_end=halve, generator=torch.Generator().manual_seed(2)
        )
    again = torch.Generator().manual_seed(2)
    latent = pipe(
        PROMPT, num_inference_steps=3, callback_on_step_end=halve, generator=again, output_type="latent"
    ).images
    np.testing.assert_allclose(tracer.trace.latents[-1], latent[0].numpy(), rtol=1e-4, atol=1e-5)
    assert np.array_equal(tracer.trace.image, np.asarray(final.images[0]))


def test_output_as_latents_is_decoded_when_asked_for() -> None:
    pipe = pipelines.stable_diffusion()
    with Tracer(pipe) as tracer:
        pipe(PROMPT, num_inference_steps=2, output_type="latent", generator=torch.Generator().manual_seed(2))
    image = pipe(PROMPT, num_inference_steps=2, generator=torch.Generator().manual_seed(2)).images[0]
    assert np.array_equal(tracer.trace.image, np.asarray(image))


def snapshot(pipe: Any) -> dict[str, Any]:
    """Everything that a tracer could have left behind."""
    modules = {
        name: (
            dict(module._forward_hooks),
            dict(module._forward_pre_hooks),
            sorted(key for key in vars(module) if not key.startswith("_")),
            id(getattr(module, "processor", None)),
        )
        for component in (getattr(pipe, "unet", None) or pipe.transformer, pipe.vae, pipe.text_encoder)
        for name, module in component.named_modules()
    }
    return {
        "modules": modules,
        "pipe": {key: id(value) for key, value in vars(pipe).items() if not key.startswith("_")},
        "scheduler": sorted(set(vars(pipe.scheduler)) & {"step", "set_timesteps"}),
        "call": vars(type(pipe)).get("__call__"),
        "sdpa": id(F.scaled_dot_product_attention),
        "modes": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
    }


def test_nothing_is_left_behind() -> None:
    pipe = pipelines.stable_diffusion()
    before = snapshot(pipe)
    with Tracer(pipe):
        pipe(PROMPT, num_inference_steps=2)
    assert snapshot(pipe) == before


def test_trace_leaves_pipeline_and_scheduler_alone() -> None:
    pipe = with_scheduler(pipelines.stable_diffusion(), "DPMSolverMultistepScheduler")
    before, scheduler = snapshot(pipe), pipe.scheduler
    state = {key: str(value) for key, value in vars(scheduler).items()}
    torch.manual_seed(3)
    random_state = torch.get_rng_state()
    recorded = trace(pipe, PROMPT, seed=5, num_inference_steps=4, schedule="early")
    assert torch.equal(torch.get_rng_state(), random_state)
    assert snapshot(pipe) == before
    assert pipe.scheduler is scheduler
    assert {key: str(value) for key, value in vars(scheduler).items()} == state
    assert len(recorded.steps) == 4
