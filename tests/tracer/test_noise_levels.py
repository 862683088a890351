"""Predicted clean latents against the closed form: a model that knows the noise must give back the clean latents."""

from __future__ import annotations

from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from diffvis_widget.tracer import Tracer
from diffvis_widget.tracer.noise_levels import scheduler_kind
from tests import pipelines

VARIANCE_PRESERVING = [
    *["DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "DPMSolverMultistepScheduler"],
    *["DPMSolverSinglestepScheduler", "DEISMultistepScheduler", "UniPCMultistepScheduler", "SASolverScheduler"],
    *["LCMScheduler", "TCDScheduler"],
]
VARIANCE_EXPLODING = [
    *["EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "LMSDiscreteScheduler"],
    *["KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler"],
]
NO_SAMPLE = {  # schedulers that do not implement sample prediction
    *["KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "EulerAncestralDiscreteScheduler"],
    *["LMSDiscreteScheduler", "PNDMScheduler"],
}
CASES = [
    (name, prediction)
    for name in VARIANCE_PRESERVING + VARIANCE_EXPLODING
    for prediction in ("epsilon", "v_prediction", "sample")
    if prediction != "sample" or name not in NO_SAMPLE
]


def oracle(pipe: Any, clean: torch.Tensor, prediction: str) -> None:
    """Make the U-Net answer as a model that knows the clean latents would, from what it is given and nothing else.

    It sees x' = alpha x0 + sigma n at unit variance and its time step, so n = (x' - alpha x0) / sigma.
    """
    alphas = pipe.scheduler.alphas_cumprod.double()
    forward = pipe.unet.forward

    def predict(sample: torch.Tensor, timestep: Any, **kwargs: Any) -> Any:
        forward(sample, timestep, **kwargs)  # the attention is real
        time = float(timestep)
        low, high = int(np.floor(time)), int(np.ceil(time))
        sigmas = ((1 - alphas) / alphas).sqrt()
        # schedulers interpolate between training steps: in sigma where they start from steps
        sigma = sigmas[low] + (sigmas[high] - sigmas[low]) * (time - low)
        alpha = 1 / (1 + sigma**2).sqrt()
        noise = (sample.double() - alpha * clean) / (sigma * alpha)
        answer = {"epsilon": noise, "v_prediction": alpha * noise - sigma * alpha * clean, "sample": clean}[prediction]
        return (answer.expand_as(sample).float(),)

    pipe.unet.forward = predict


def clean_latents() -> torch.Tensor:
    return torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(42), dtype=torch.float64)


@pytest.mark.parametrize(("name", "prediction"), CASES)
def test_an_all_knowing_model_is_read_rightly(name: str, prediction: str) -> None:
    config: dict[str, Any] = {"clip_sample": False} if name in ("DDIMScheduler", "DDPMScheduler") else {}
    pipe = pipelines.stable_diffusion()
    pipe.scheduler = getattr(diffusers, name)(**pipelines.TRAIN_BETAS, **config, prediction_type=prediction)
    clean = clean_latents()
    oracle(pipe, clean, prediction)
    with Tracer(pipe) as tracer:
        pipe("a red circle", num_inference_steps=4, generator=torch.Generator().manual_seed(0), output_type="latent")
    trace = tracer.trace
    # float32 samples at sigma 14 keep about six digits of the clean part; interpolated time steps a little less
    loose = 2e-2 if any(step.timestep % 1 for step in trace.steps) else 2e-3
    assert np.abs(trace.predictions - clean.numpy()).max() < loose
    assert (np.diff([step.sigma for step in trace.steps if not step.second_order]) < 0).all()
    assert trace.visible_latents.std() < 3


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
        ("FlowMatchHeunDiscreteScheduler", {}),
        ("FlowMatchLCMScheduler", {}),
        ("DPMSolverMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}),
        ("UniPCMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 2.0}),
    ],
)
def test_flow_matching(name: str, config: dict[str, Any]) -> None:
    pipe = pipelines.stable_diffusion()
    scheduler: Any = getattr(diffusers, name)(**config)
    # flow schedulers name their start otherwise; the pipeline under test asks for these
    if not hasattr(scheduler, "init_noise_sigma"):
        scheduler.init_noise_sigma = 1.0
    pipe.scheduler = scheduler
    clean = clean_latents()
    forward = pipe.unet.forward
    seen: list[float] = []

    def predict(sample: torch.Tensor, timestep: Any, **kwargs: Any) -> Any:
        forward(sample, timestep, **kwargs)
        index = scheduler.step_index if scheduler.step_index is not None else 0
        sigma = float(scheduler.sigmas[index])
        seen.append(sigma)
        return (((sample.double() - clean) / sigma).float(),)  # x = (1 - s) x0 + s n, so n - x0 = (x - x0) / s

    pipe.unet.forward = predict
    with Tracer(pipe) as tracer:
        pipe("a red circle", num_inference_steps=5, output_type="latent")
    assert np.abs(tracer.trace.predictions - clean.numpy()).max() < 1e-3
    np.testing.assert_allclose(tracer.trace.sigmas, seen, rtol=1e-6)


@pytest.mark.parametrize("name", ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_preconditioned_models(name: str, prediction: str) -> None:
    """Karras et al. 2022: D(x) = c_skip x + c_out F; a model whose D is the clean latents must be read as such."""
    pipe = pipelines.stable_diffusion()
    scheduler: Any = getattr(diffusers, name)(prediction_type=prediction, sigma_data=0.7)
    pipe.scheduler = scheduler
    clean = clean_latents()
    forward = pipe.unet.forward

    def predict(sample: torch.Tensor, timestep: Any, **kwargs: Any) -> Any:
        forward(sample, timestep, **kwargs)
        sigma = float(scheduler.sigmas[scheduler.step_index])
        x = sample.double() * (sigma**2 + 0.7**2) ** 0.5  # it is given c_in x
        skip, out = 0.7**2 / (sigma**2 + 0.7**2), sigma * 0.7 / (sigma**2 + 0.7**2) ** 0.5
        return (((clean - skip * x) / (out if prediction == "epsilon" else -out)).float(),)

    pipe.unet.forward = predict
    with Tracer(pipe) as tracer:
        pipe("a red circle", num_inference_steps=4, output_type="latent")
    assert np.abs(tracer.trace.predictions - clean.numpy()).max() < 1e-3


def test_sigmas_are_noise_over_signal_everywhere() -> None:
    sigmas: list[list[float]] = []
    for name in ("DDIMScheduler", "DPMSolverMultistepScheduler", "EulerDiscreteScheduler"):
        pipe = pipelines.stable_diffusion()
        pipe.scheduler = getattr(diffusers, name)(**pipelines.TRAIN_BETAS, timestep_spacing="trailing")
        with Tracer(pipe) as tracer:
            pipe("x", num_inference_steps=5, output_type="latent")
        sigmas.append(tracer.trace.sigmas.tolist())
    assert sigmas[1] == pytest.approx(sigmas[0], rel=1e-4)
    assert sigmas[2] == pytest.approx(sigmas[0], rel=1e-4)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("HeunDiscreteScheduler", [False, True, False, True, False, True, False]),
        ("KDPM2DiscreteScheduler", [False, True, False, True, False, True, False]),
        ("KDPM2AncestralDiscreteScheduler", [False, True, False, True, False, True, False]),
        ("EulerDiscreteScheduler", [False] * 4),
        ("DPMSolverMultistepScheduler", [False] * 4),
    ],
)
def test_second_order_evaluations_are_marked(name: str, pattern: list[bool]) -> None:
    pipe = pipelines.stable_diffusion()
    pipe.scheduler = getattr(diffusers, name)(**pipelines.TRAIN_BETAS)
    with Tracer(pipe) as tracer:
        pipe("x", num_inference_steps=4, output_type="latent")
    assert [step.second_order for step in tracer.trace.steps] == pattern
    assert [step.index for step in tracer.trace.steps] == list(range(len(pattern)))


@pytest.mark.parametrize(
    ("skip", "pattern"), [(True, [False, True, False, False]), (False, ([False, True, True, True] * 3)[:12])]
)
def test_the_warm_up_of_pndm_is_marked(skip: bool, pattern: list[bool]) -> None:
    pipe = pipelines.stable_diffusion()
    pipe.scheduler = diffusers.PNDMScheduler(**pipelines.TRAIN_BETAS, skip_prk_steps=skip)
    with Tracer(pipe) as tracer:
        pipe("x", num_inference_steps=5, output_type="latent")
    assert [step.second_order for step in tracer.trace.steps][: len(pattern)] == pattern


def test_singlestep_solver_is_marked() -> None:
    pipe = pipelines.stable_diffusion()
    pipe.scheduler = diffusers.DPMSolverSinglestepScheduler(**pipelines.TRAIN_BETAS)
    with Tracer(pipe) as tracer:
        pipe("x", num_inference_steps=6, output_type="latent")
    marks = [step.second_order for step in tracer.trace.steps]
    assert marks[:4] == [False, True, False, True]


def test_a_subclass_is_read_as_its_parent() -> None:
    class Mine(diffusers.DDIMScheduler):
        pass

    assert scheduler_kind(Mine()) == "timestep"


def test_guidance_is_the_difference_of_the_two_halves() -> None:
    pipe = pipelines.stable_diffusion()
    outputs: list[torch.Tensor] = []
    pipe.unet.register_forward_hook(lambda module, args, output: outputs.append(output[0].clone()))
    with Tracer(pipe) as tracer:
        pipe(["a red circle", "fog"], num_inference_steps=2, output_type="latent")
    for image, trace in enumerate(tracer.traces):
        assert trace.guidance is not None
        for step, output in enumerate(outputs):
            difference = output[2 + image] - output[image]
            np.testing.assert_allclose(trace.guidance[step], difference.pow(2).mean(0).sqrt().numpy(), rtol=1e-5)
