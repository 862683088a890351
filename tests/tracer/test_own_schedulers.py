"""Schedulers whose noise levels are not known, and subclasses with other signatures, in a traced run."""

# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

import diffvis_widget as dv
from diffvis_widget.tracer import Tracer
from diffvis_widget.tracer.scheduler_step import read_step, read_timestep
from tests import pipelines


def traced(scheduler: Any, **arguments: Any) -> dv.Trace:
    pipe = pipelines.stable_diffusion()
    pipe.scheduler = scheduler
    return dv.trace(pipe, "a red circle", seed=1, num_inference_steps=3, **arguments)


def plain(scheduler: Any) -> np.ndarray:
    pipe = pipelines.stable_diffusion()
    pipe.scheduler = scheduler
    generator = torch.Generator().manual_seed(1)
    image = pipe("a red circle", num_inference_steps=3, generator=generator, output_type="np").images[0]
    return np.round(image * 255).astype(np.uint8)


class Renamed(diffusers.EulerDiscreteScheduler):
    """The step of Euler with other argument names."""

    def step(self, eps: Any, t: Any, latents: Any, **kwargs: Any) -> Any:
        return super().step(eps, t, latents, **kwargs)


class Anything(diffusers.DDIMScheduler):
    """A step that passes on whatever it is given."""

    def step(self, *args: Any, **kwargs: Any) -> Any:
        return super().step(*args, **kwargs)


class Uncounted(diffusers.EulerDiscreteScheduler):
    """Euler that does not count its steps."""

    @property
    def step_index(self) -> Any:
        return None

    def scale_model_input(self, sample: Any, timestep: Any) -> Any:
        sigma = self.sigmas[int((self.timesteps == timestep).nonzero()[0])]
        return sample / (sigma**2 + 1) ** 0.5

    def step(self, model_output: Any, timestep: Any, sample: Any, **kwargs: Any) -> Any:
        place = int((self.timesteps == timestep).nonzero()[0])
        return (sample + (self.sigmas[place + 1] - self.sigmas[place]) * model_output,)


class FromZeroToOne(diffusers.DDIMScheduler):
    """DDIM that counts time from 1 to 0."""

    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
        super().set_timesteps(num_inference_steps, device)
        self.timesteps = self.timesteps / 1000

    def step(self, model_output: Any, timestep: Any, sample: Any, **kwargs: Any) -> Any:
        return super().step(model_output, round(float(timestep) * 1000), sample, **kwargs)


class OwnClass:
    """A scheduler that is none of diffusers', with the methods that a pipeline calls and nothing else."""

    init_noise_sigma = 1.0
    order = 1
    config: dict[str, Any]

    def __init__(self) -> None:
        self.config = {}

    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
        self.timesteps = torch.linspace(900, 100, num_inference_steps)

    def scale_model_input(self, sample: Any, timestep: Any) -> Any:
        return sample

    def step(self, prediction: Any, time: Any, latents: Any, **kwargs: Any) -> Any:
        return (latents - 0.1 * prediction,)


@pytest.mark.parametrize(
    ("mine", "parent"),
    [
        (Renamed, diffusers.EulerDiscreteScheduler),
        (Anything, diffusers.DDIMScheduler),
        (Uncounted, diffusers.EulerDiscreteScheduler),
    ],
    ids=lambda scheduler: scheduler.__name__,
)
def test_a_subclass_with_another_signature_is_read_as_its_parent(mine: Any, parent: Any) -> None:
    ours, theirs = (traced(scheduler(**pipelines.TRAIN_BETAS)) for scheduler in (mine, parent))
    assert "noise_levels" not in ours.meta
    np.testing.assert_array_equal(ours.sigmas, theirs.sigmas)
    np.testing.assert_allclose(ours.predictions, theirs.predictions, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(ours.image, plain(mine(**pipelines.TRAIN_BETAS)))


@pytest.mark.parametrize(
    "scheduler", [diffusers.IPNDMScheduler, OwnClass, FromZeroToOne], ids=lambda scheduler: scheduler.__name__
)
def test_a_run_without_known_noise_levels_is_recorded_with_nan(scheduler: Any, tmp_path: Path) -> None:
    trace = traced(scheduler())
    assert np.isnan(trace.sigmas).all()
    assert np.isnan(trace.predictions).all()
    assert trace.meta["noise_levels"] == "unknown"
    assert np.isfinite(trace.latents).all()
    assert trace.heat_map("circle").any()
    np.testing.assert_array_equal(trace.image, plain(scheduler()))
    assert (trace.frames("prediction") == 127).all()  # no image is claimed
    trace.save(tmp_path / "run.safetensors")
    again = dv.open_trace(tmp_path / "run.safetensors")
    assert np.isnan(again.sigmas).all()
    assert again.meta["noise_levels"] == "unknown"


def test_what_needs_noise_levels_is_refused_and_what_does_not_is_computed() -> None:
    pipe = pipelines.stable_diffusion()
    pipe.scheduler = diffusers.IPNDMScheduler()
    trace = dv.trace(pipe, "a red circle", seed=1, num_inference_steps=3)
    probe = dv.denoiser(trace, 1)  # IPNDM does not scale the denoiser's input
    assert np.isfinite(probe(trace.latents[1:2])).all()
    with pytest.raises(ValueError, match="noise levels of its scheduler are not known"):
        probe.clean(probe.latents, probe.output)
    with pytest.raises(ValueError, match="noise levels"):
        dv.concept_scores(trace, ["circle"], meter=dv.ConceptMeter())
    with pytest.raises(ValueError, match="noise levels"):
        dv.compare(trace, trace, align="noise")


def test_pure_noise_is_an_infinite_level_in_the_trace_and_in_its_file(tmp_path: Path) -> None:
    scheduler = diffusers.DDIMScheduler(
        **pipelines.TRAIN_BETAS,
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        prediction_type="v_prediction",
        clip_sample=False,
    )
    trace = traced(scheduler)
    assert trace.sigmas[0] == np.inf
    assert np.isfinite(trace.sigmas[1:]).all()
    assert np.isfinite(trace.predictions).all()
    assert "noise_levels" not in trace.meta
    np.testing.assert_allclose(trace.visible_latents[0], trace.latents[0], rtol=1e-6)
    trace.save(tmp_path / "run.safetensors")
    np.testing.assert_array_equal(dv.open_trace(tmp_path / "run.safetensors").sigmas, trace.sigmas)


def test_the_arguments_of_a_step_are_told_apart() -> None:
    output, sample = torch.zeros(1, 4, 2, 2), torch.ones(1, 4, 2, 2)

    def swapped(latents: Any, eps: Any, t: Any) -> None: ...
    def unnamed(a: Any, b: Any, c: Any, d: Any = None) -> None: ...
    def named(model_output: Any, old: Any, timestep: Any, back: Any, sample: Any) -> None: ...
    def free(*args: Any, **kwargs: Any) -> None: ...

    for step, args, kwargs in (
        (swapped, (sample, output, 7), {}),
        (unnamed, (output, torch.tensor(7), sample), {"d": True}),
        (named, (output, torch.full_like(output, 9), 7, 3, sample), {}),
        (free, (output, 7), {"sample": sample}),
    ):
        arguments = read_step(step, args, kwargs)
        assert arguments is not None
        assert arguments.sample is sample
        assert arguments.output is output
        assert read_timestep(arguments.timestep) == 7
    assert read_step(unnamed, (1, 2, 3), {}) is None
    assert read_step(unnamed, (), {}) is None
    assert read_timestep(torch.tensor([7, 7])) == 7
    assert np.isnan(read_timestep(torch.tensor([7, 8])))


def test_a_scheduler_without_a_step_is_refused_before_the_run() -> None:
    pipe = pipelines.stable_diffusion()
    pipe.scheduler = type("Empty", (), {"set_timesteps": lambda self: None})()
    with pytest.raises(ValueError, match="scheduler: Empty has no method step"), Tracer(pipe):
        pass
