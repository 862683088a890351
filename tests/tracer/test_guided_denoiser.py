"""The denoiser of a traced step, asked again: what the scheduler was given, for any number of latents, or why not."""

from __future__ import annotations

import functools
import gc
import threading
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline

from diffvis_widget.files import open_trace
from diffvis_widget.tracer import Tracer, denoiser, denoiser_lock, trace
from tests import pipelines
from tests.pipelines_dit import FAMILIES
from tests.tracer.families.test_families import TRACED, trace_of
from tests.traces.build import make_trace

PROMPT = "a red circle above a blue square"


def traced(pipe: Any, **arguments: Any) -> tuple[list[Any], list[np.ndarray]]:
    """The traces of a call, and what its scheduler was given at each step."""
    outputs: list[np.ndarray] = []
    step = pipe.scheduler.step

    @functools.wraps(step)
    def spy(model_output: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        outputs.append(model_output.float().numpy().copy())
        return step(model_output, *args, **kwargs)

    pipe.scheduler.step = spy
    try:
        with Tracer(pipe) as tracer:
            generator = torch.Generator().manual_seed(3)
            pipe(**({"prompt": PROMPT, "num_inference_steps": 3} | arguments), generator=generator, output_type="np")
    finally:
        del pipe.scheduler.step
    return tracer.traces, outputs


def check(pipe: Any, tolerance: float = 1e-5, **arguments: Any) -> list[Any]:
    """Compare every step and image with what the scheduler was given, after the pipeline has made another image."""
    traces, outputs = traced(pipe, **arguments)
    traced(pipe, **(arguments | {"num_inference_steps": 2}))
    for image, recorded in enumerate(traces):
        assert len(outputs) == len(recorded.steps)
        for step, expected in enumerate(outputs):
            again = denoiser(recorded, step)(recorded.latents[step][None])
            assert again.shape == (1, *recorded.latents.shape[1:])
            np.testing.assert_allclose(
                again[0].astype(np.float32), expected[image], atol=tolerance * np.abs(expected).max()
            )
    return traces


@pytest.mark.parametrize("guidance", [7.5, 1.0])
def test_stable_diffusion(guidance: float) -> None:
    check(pipelines.stable_diffusion(), guidance_scale=guidance)


def test_rescaled_guidance() -> None:
    check(pipelines.stable_diffusion(), guidance_scale=7.5, guidance_rescale=0.7)


def test_guidance_that_changes_in_the_run() -> None:
    def lower(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        pipe._guidance_scale = 4.0 - step
        return tensors

    check(pipelines.stable_diffusion(), callback_on_step_end=lower)


def test_sdxl_with_its_added_conditions() -> None:
    check(pipelines.stable_diffusion_xl(), negative_prompt="fog", prompt_2="a drawing")


def test_guidance_by_embedding() -> None:
    check(pipelines.unguided())


@pytest.mark.parametrize(
    "name",
    [
        *["DPMSolverMultistepScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler", "KDPM2DiscreteScheduler"],
        *["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"],
    ],
)
def test_schedulers_that_scale_and_correct(name: str) -> None:
    pipe = pipelines.stable_diffusion()
    pipe.scheduler = getattr(diffusers, name)(**({} if name.startswith("EDM") else pipelines.TRAIN_BETAS))
    check(pipe, num_inference_steps=4)


def test_batch_of_prompts_with_several_images() -> None:
    check(pipelines.stable_diffusion(), prompt=["a red circle", "two blue squares"], num_images_per_prompt=2)


def test_inpainting_model_with_its_mask() -> None:
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 8:24, 8:24] = 1
    check(pipelines.inpainting(channels=9), image=image, mask_image=mask, height=32, width=32, strength=1.0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 1e-2), (torch.bfloat16, 4e-2)])
def test_half_precision(dtype: torch.dtype, tolerance: float) -> None:
    traces = check(pipelines.stable_diffusion().to(dtype), tolerance)
    again = denoiser(traces[0], 0)
    assert again(traces[0].latents[:1]).dtype == (np.float16 if dtype == torch.float16 else np.float32)
    assert again(again.latents).dtype == dtype


def test_autocast_of_the_run_is_used_again() -> None:
    pipe = pipelines.stable_diffusion()
    with torch.autocast("cpu", torch.bfloat16):
        traces, outputs = traced(pipe)
    np.testing.assert_allclose(denoiser(traces[0], 1)(traces[0].latents[1:2]), outputs[1], atol=1e-3)


def test_a_run_in_inference_mode_can_be_differentiated() -> None:
    pipe = pipelines.stable_diffusion()
    with torch.inference_mode():
        (recorded,), _ = traced(pipe)
    probe = denoiser(recorded, 1)
    latents = probe.latents.clone().requires_grad_()
    with probe.held():
        (gradient,) = torch.autograd.grad(probe.answers(latents)["prompt"].sum(), latents)
    assert gradient.abs().sum() > 0


def test_many_latents_at_once_are_as_one_at_a_time() -> None:
    recorded = trace(pipelines.stable_diffusion_xl(), PROMPT, seed=1, num_inference_steps=3)
    probe = denoiser(recorded, -2)
    assert probe.index == 1
    many = np.random.default_rng(0).standard_normal((5, 4, 16, 16)).astype(np.float32)
    together = probe(many)
    assert together.shape == many.shape
    for index in range(5):
        np.testing.assert_allclose(together[index], probe(many[index : index + 1])[0], atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-2


def test_what_an_output_means() -> None:
    """Clean latents are those of the trace; a first-order step is DDIM's own step."""
    recorded = trace(pipelines.stable_diffusion(), PROMPT, seed=1, num_inference_steps=4)
    for step in range(4):
        probe = denoiser(recorded, step)
        np.testing.assert_allclose(probe.clean(probe.latents, probe.output)[0], recorded.predictions[step], atol=1e-4)
        if step < 3:
            after = probe.advance(probe.latents, probe.output)
            np.testing.assert_allclose(after[0], recorded.latents[step + 1], atol=1e-4)
    last = denoiser(recorded, 3)
    np.testing.assert_allclose(last.advance(last.latents, last.output)[0], recorded.predictions[3], atol=1e-4)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_first_order_step_of_a_scheduler_that_keeps_its_noise_unscaled(prediction: str) -> None:
    pipe = pipelines.stable_diffusion()
    pipe.scheduler = diffusers.EulerDiscreteScheduler(**pipelines.TRAIN_BETAS, prediction_type=prediction)
    recorded = trace(pipe, PROMPT, seed=1, num_inference_steps=4)
    probe = denoiser(recorded, 1)
    after = probe.advance(probe.latents, probe.output)
    np.testing.assert_allclose(after[0], recorded.visible_latents[2], atol=1e-4)


def test_inside_the_run_it_explains() -> None:
    """Probing in on_step neither disturbs the run nor is traced."""
    pipe = pipelines.stable_diffusion()
    plain = trace(pipe, PROMPT, seed=1, num_inference_steps=3)
    seen: list[float] = []
    with Tracer(pipe, on_step=lambda step: seen.append(_probe(tracer.trace, step.index))) as tracer:
        pipe(PROMPT, generator=torch.Generator().manual_seed(1), num_inference_steps=3)
    assert len(seen) == 3
    assert max(seen) < 1e-4
    assert np.array_equal(tracer.trace.latents, plain.latents)
    assert np.array_equal(tracer.trace.heat_maps(), plain.heat_maps())


def _probe(recorded: Any, step: int) -> float:
    probe = denoiser(recorded, step)
    return float(np.abs(probe.clean(probe.latents, probe.output)[0].numpy() - recorded.predictions[step]).max())


def test_it_waits_for_the_denoisers_lock() -> None:
    pipe = pipelines.stable_diffusion()
    probe = denoiser(trace(pipe, PROMPT, seed=1, num_inference_steps=1), 0)
    done = threading.Event()
    thread = threading.Thread(target=lambda: (probe(probe.latents), done.set()))
    with denoiser_lock(pipe):
        thread.start()
        assert not done.wait(0.2)
    thread.join()
    assert done.is_set()


# every family that the tracer reads, but for those whose way of running cannot be asked again
REFUSED = {
    "ideogram4": "guides in a way, perhaps by another model, that is not known here",
    "sdxl-union": "which another network",
    "z-image-controlnet-inpaint": "which another network",
}
EVALUATED = [name for name in TRACED if not name.endswith(("pag", "controlnet")) and name not in REFUSED]


@pytest.mark.parametrize("name", ["sana-sprint", "prx-pixel"])
def test_pipelines_that_convert_the_output_for_their_scheduler(name: str) -> None:
    arguments = FAMILIES[name].arguments | {"num_inference_steps": 4 if name == "prx-pixel" else 2}
    (recorded,) = check(FAMILIES[name].build(), **arguments)
    last = denoiser(recorded, -1)
    np.testing.assert_allclose(last.advance(last.latents, last.output)[0], recorded.predictions[-1], atol=1e-4)


@pytest.mark.parametrize("name", EVALUATED)
def test_every_family(name: str) -> None:
    _, tracer = trace_of(name)
    recorded = tracer.trace
    probe = denoiser(recorded, -1)
    clean = probe.clean(probe.latents, probe.output)[0].numpy()
    np.testing.assert_allclose(clean, recorded.predictions[-1], atol=1e-3 * np.abs(recorded.predictions[-1]).max())
    first = denoiser(recorded, 0)
    with first.held(), torch.no_grad():
        answers = first.answers(first.latents)
    if recorded.guidance is not None:
        channels = recorded.latents.shape[1]
        difference = (answers["prompt"] - answers["negative"])[0, :channels].float()
        expected = difference.square().mean(dim=0).sqrt().numpy()
        np.testing.assert_allclose(recorded.guidance[0], expected, atol=1e-3 * expected.max())
    others = torch.randn(3, *probe.latents.shape[1:], generator=torch.Generator().manual_seed(0))
    together = probe(others)
    for index in range(3):
        single = probe(others[index : index + 1])[0]
        np.testing.assert_allclose(together[index], single, atol=1e-4 * float(single.abs().max()))


@pytest.mark.parametrize(("name", "reason"), REFUSED.items())
def test_a_family_that_cannot_be_evaluated_again_is_refused(name: str, reason: str) -> None:
    _, tracer = trace_of(name)
    with pytest.raises(ValueError, match=reason):
        denoiser(tracer.trace, -1)(torch.zeros(3, *tracer.trace.latents[-1].shape))


# -- where it cannot ---------------------------------------------------------------------------------------------------


def test_bad_arguments() -> None:
    recorded = trace(pipelines.stable_diffusion(), PROMPT, seed=1, num_inference_steps=2)
    with pytest.raises(IndexError, match="step 2 is out of range: the indices of this trace's steps are 0 to 1"):
        denoiser(recorded, 2)
    for wrong in ("1", 1.0, None, True):
        with pytest.raises(TypeError, match="step must be an integer"):
            denoiser(recorded, wrong)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="must be a Trace"):
        denoiser("run.safetensors", 0)  # pyright: ignore[reportArgumentType]
    probe = denoiser(recorded, 0)
    for shape in ((4, 16, 16), (1, 4, 16, 8), (0, 4, 16, 16)):
        with pytest.raises(ValueError, match=r"latents must be \(n, 4, 16, 16\)"):
            probe(np.zeros(shape, np.float32))
    with pytest.raises(TypeError, match="numpy array or a tensor, not list"):
        probe([[0.0]])  # pyright: ignore[reportArgumentType, reportCallIssue]


def test_a_trace_from_a_file(tmp_path: Any) -> None:
    recorded = trace(pipelines.stable_diffusion(), PROMPT, seed=1, num_inference_steps=1)
    opened = open_trace(recorded.save(tmp_path / "run.safetensors"))
    for other in (opened, make_trace()):
        with pytest.raises(ValueError, match="no live pipeline: it was opened from a file"):
            denoiser(other, 0)


def test_a_pipeline_that_is_gone() -> None:
    recorded = trace(pipelines.stable_diffusion(), PROMPT, seed=1, num_inference_steps=1)
    recorded._decoder = None  # what keeps the pipeline of a trace
    gc.collect()
    with pytest.raises(ValueError, match="pipeline of this trace is gone"):
        denoiser(recorded, 0)


def test_weights_that_were_changed() -> None:
    pipe = pipelines.stable_diffusion()
    recorded = trace(pipe, PROMPT, seed=1, num_inference_steps=1)
    with torch.no_grad():
        pipe.unet.conv_in.weight.add_(0.1)
    with pytest.raises(ValueError, match="weights have been changed"):
        denoiser(recorded, 0)


def test_a_change_that_the_fingerprint_does_not_see() -> None:
    pipe = pipelines.stable_diffusion()
    recorded = trace(pipe, PROMPT, seed=1, num_inference_steps=1)
    handle = pipe.unet.mid_block.register_forward_hook(lambda module, args, output: output * 2)
    with pytest.raises(ValueError, match="no longer answers as it did"):
        denoiser(recorded, 0)
    handle.remove()
    denoiser(recorded, 0)


def test_perturbed_attention_guidance_is_refused() -> None:
    recorded = trace(pipelines.perturbed(), PROMPT, seed=1, num_inference_steps=1)
    with pytest.raises(ValueError, match="3 parts per step, 2 of them for its prompts"):
        denoiser(recorded, 0)


def test_controlnet_is_refused() -> None:
    base = pipelines.stable_diffusion()
    control = ControlNetModel.from_unet(base.unet, conditioning_embedding_out_channels=(8, 16)).eval()
    parts = {name: part for name, part in base.components.items() if name != "image_encoder"}
    pipe: Any = StableDiffusionControlNetPipeline(**parts, controlnet=control, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    recorded = trace(pipe, PROMPT, seed=1, num_inference_steps=1, image=torch.rand(1, 3, 32, 32))
    with pytest.raises(ValueError, match="down_block_additional_residuals, which another network"):
        denoiser(recorded, 0)
