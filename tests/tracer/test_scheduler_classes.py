"""Noise levels of every scheduler class that diffusers exports, against the scheduler's own forward process.

`add_noise` (flow matching: `scale_noise`) of a scheduler is an independent statement of alpha and sigma at a timestep.
A sample made by it from known clean latents and noise, with the output of a model that knows both, must give back the
clean latents. Classes whose levels are not known here must give NaN at every step.
"""

from __future__ import annotations

from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from diffvis_widget.tracer.noise_levels import NoiseLevels

TOKENS = {  # schedulers of discrete tokens and of proteins: no latents, no noise level
    *["AmusedScheduler", "BlockRefinementScheduler", "DiscreteDDIMScheduler", "EntropyBoundScheduler"],
    *["VQDiffusionScheduler", "RFD4ProteinaScheduler"],
}
UNKNOWN = {  # for video, audio, inversion or retired models, or of another parametrisation: NaN
    *["CMStochasticIterativeScheduler", "CosineDPMSolverMultistepScheduler", "DDIMInverseScheduler"],
    *["DDPMWuerstchenScheduler", "DPMSolverMultistepInverseScheduler", "FlowMapEulerDiscreteScheduler"],
    *["HeliosDMDScheduler", "HeliosScheduler", "IPNDMScheduler", "KarrasVeScheduler", "MiniMaxH3Scheduler"],
    *["PiflowScheduler", "RePaintScheduler"],
}
ANGLES = {"SCMScheduler"}  # timesteps are angles, and there is no add_noise
NEED_TORCHSDE = {"CosineDPMSolverMultistepScheduler", "DPMSolverSDEScheduler"}
FLOW = {"FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler", "FlowMatchLCMScheduler"}
SOLVERS = {  # these also take sigmas of flow matching
    *["DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "DEISMultistepScheduler"],
    *["UniPCMultistepScheduler", "SASolverScheduler"],
}
EDM = {"EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"}
LTX_SIGMAS = [1.0, 0.7, 0.4, 0.1]
ZERO_SNR = {  # rescale_betas_zero_snr
    *["DDIMScheduler", "DDIMParallelScheduler", "DDPMScheduler", "DDPMParallelScheduler", "LCMScheduler"],
    *["TCDScheduler", "CogVideoXDDIMScheduler", "CogVideoXDPMScheduler", "EulerDiscreteScheduler"],
    *["EulerAncestralDiscreteScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler"],
}


def exported() -> list[str]:
    """List the classes of diffusers that make steps, those included that need a missing library."""
    names = [name for name in dir(diffusers) if name.endswith("Scheduler")]
    return [name for name in names if name in NEED_TORCHSDE or hasattr(getattr(diffusers, name), "step")]


KNOWN = [name for name in exported() if name not in TOKENS | UNKNOWN | ANGLES]


def predictions_of(name: str) -> tuple[str, ...]:
    if name in FLOW or name == "LTXEulerAncestralRFScheduler":
        return ("flow_prediction",)
    if name in EDM or name == "PNDMScheduler":
        return ("epsilon", "v_prediction")
    return ("epsilon", "sample") if name == "UnCLIPScheduler" else ("epsilon", "v_prediction", "sample")


def cases() -> list[tuple[str, str, dict[str, Any]]]:
    rows = [(name, prediction, {}) for name in KNOWN for prediction in predictions_of(name)]
    for name in sorted(SOLVERS):
        options = {"use_flow_sigmas": True, "flow_shift": 3.0}
        rows += [(name, prediction, options) for prediction in ("flow_prediction", "epsilon", "sample")]
    rows += [(name, "v_prediction", {"rescale_betas_zero_snr": True}) for name in sorted(ZERO_SNR)]
    for name in ["EulerDiscreteScheduler", *sorted(SOLVERS)]:
        rows += [(name, "epsilon", {option: True}) for option in ("use_karras_sigmas", "use_exponential_sigmas")]
    rows += [(name, "flow_prediction", {"shift": 3.0}) for name in sorted(FLOW)]
    rows += [
        (name, "reversed_flow", {"invert_sigmas": True})
        for name in ("FlowMatchEulerDiscreteScheduler", "FlowMatchLCMScheduler")
    ]
    return rows


def make(name: str, prediction: str, config: dict[str, Any]) -> Any:
    if name in NEED_TORCHSDE:
        pytest.importorskip("torchsde")
    options = dict(config)
    if prediction not in ("flow_prediction", "reversed_flow") or name in SOLVERS:
        options["prediction_type"] = prediction
    scheduler = getattr(diffusers, name)(**options)
    if name == "LTXEulerAncestralRFScheduler":
        scheduler.set_timesteps(sigmas=[*LTX_SIGMAS, 0.0])
    else:
        scheduler.set_timesteps(5)
    return scheduler


def noised(scheduler: Any, clean: torch.Tensor, noise: torch.Tensor, timestep: Any) -> torch.Tensor:
    """What the scheduler itself makes of clean latents and noise at one of its timesteps."""
    times = torch.as_tensor(timestep).reshape(1)
    if isinstance(scheduler, diffusers.SASolverScheduler):  # its own add_noise ignores its sigmas
        scheduler = diffusers.DPMSolverMultistepScheduler.from_config(scheduler.config)
        scheduler.set_timesteps(5)
    if isinstance(scheduler, diffusers.LTXEulerAncestralRFScheduler):  # has none; the same process
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
        scheduler.set_timesteps(sigmas=[*LTX_SIGMAS, 0.0])
    if getattr(scheduler.config, "invert_sigmas", False):  # its sigma is the share of the clean latents (Mochi)
        clean, noise = noise, clean
    if type(scheduler).__name__ == "FlowMatchHeunDiscreteScheduler":
        scheduler._step_index = None  # its scale_noise counts steps
    if hasattr(scheduler, "scale_noise"):
        return scheduler.scale_noise(clean, times, noise)
    return scheduler.add_noise(clean, noise, times)


def perfect(
    scheduler: Any, prediction: str, clean: torch.Tensor, noise: torch.Tensor, timestep: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """A sample, and the output of a model that knows clean latents and noise."""
    zero, unit = torch.zeros_like(clean), torch.ones_like(clean)
    alpha, sigma = (noised(scheduler, *pair, timestep).double() for pair in ((unit, zero), (zero, unit)))
    sample = noised(scheduler, clean, noise, timestep).double()
    if type(scheduler).__name__ in EDM:  # arXiv 2206.00364, eq. 7: D(x) = c_skip x + c_out F
        data = scheduler.config.sigma_data
        skip, out = data**2 / (sigma**2 + data**2), sigma * data / (sigma**2 + data**2).sqrt()
        return sample, (clean - skip * sample) / (out if prediction == "epsilon" else -out)
    norm = (alpha**2 + sigma**2).sqrt()  # a model of v sees latents of unit variance
    outputs = {
        "epsilon": noise,
        "v_prediction": (alpha * noise - sigma * clean) / norm,
        "sample": clean,
        "flow_prediction": noise - clean,
        "reversed_flow": clean - noise,
    }
    return sample, outputs[prediction].double()


@pytest.mark.parametrize(("name", "prediction", "config"), cases(), ids=str)
def test_a_perfect_prediction_gives_back_the_clean_latents(name: str, prediction: str, config: dict[str, Any]) -> None:
    scheduler = make(name, prediction, config)
    levels = NoiseLevels(scheduler)
    random = torch.Generator().manual_seed(5)
    clean, noise = (torch.randn(1, 4, 6, 6, generator=random) for _ in range(2))
    checked = 0
    times = scheduler.timesteps.tolist()
    for index, time in enumerate(times):
        if times.index(time) != index:
            continue  # a second evaluation at the same timestep
        if ("KDPM2" in name or "SDE" in name) and index % 2:
            continue  # between two steps, which add_noise does not know: see test_noise_levels
        timestep = scheduler.timesteps[index]
        counts = "Flow" in name or hasattr(scheduler, "sigmas")
        level = levels.at(index if counts else None, float(time), False)
        sample, output = perfect(scheduler, prediction, clean, noise, timestep)
        predicted = level.predict_clean(sample.numpy(), output.numpy())
        # float32 samples with much noise hold fewer digits of the clean latents
        loose = 1e-4 * max(1.0, level.sigma / level.alpha if level.alpha and prediction == "epsilon" else level.sigma)
        assert np.abs(predicted - clean.numpy()).max() < loose
        checked += 1
    assert checked >= 3


def test_steps_at_angles_predict_what_their_scheduler_predicts() -> None:
    scheduler: Any = diffusers.SCMScheduler(sigma_data=0.5)
    scheduler.set_timesteps(4, intermediate_timesteps=None)
    levels = NoiseLevels(scheduler)
    random = torch.Generator().manual_seed(5)
    sample, output = (torch.randn(1, 4, 6, 6, generator=random) for _ in range(2))
    for index, time in enumerate(scheduler.timesteps[:-1]):
        level = levels.at(index, float(time), False)
        _, clean = scheduler.step(output, time, sample, generator=random, return_dict=False)
        np.testing.assert_allclose(level.predict_clean(sample.numpy(), output.numpy()), clean.numpy(), atol=1e-6)
        # arXiv 2503.09641, equation 7: the share of the noise in the model's flow, and the scale of its input
        share = np.sin(float(time)) / (np.cos(float(time)) + np.sin(float(time)))
        np.testing.assert_allclose(level.input_scale, np.sqrt(share**2 + (1 - share) ** 2) / 0.5, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(UNKNOWN))
def test_levels_that_are_not_known_are_nan_and_nothing_else(name: str) -> None:
    if name in NEED_TORCHSDE:
        pytest.importorskip("torchsde")
    scheduler = getattr(diffusers, name)()
    levels = NoiseLevels(scheduler)
    for index in (None, 0, 3):
        level = levels.at(index, 500.0, False)
        assert np.isnan([level.alpha, level.sigma, level.ratio]).all()
        assert level.visible == 1.0
        ones = np.ones((1, 4, 2, 2), np.float32)
        assert np.isnan(level.predict_clean(ones, ones)).all()


def test_every_other_class_of_this_diffusers_is_known() -> None:
    for name in set(KNOWN) - NEED_TORCHSDE:
        scheduler = make(name, predictions_of(name)[0], {})
        counts = hasattr(scheduler, "sigmas")
        level = NoiseLevels(scheduler).at(2 if counts else None, float(scheduler.timesteps[2]), False)
        assert level.is_known, f"{name}: add it to the schedulers of noise_levels.py, or to UNKNOWN here"
    assert len(KNOWN) >= 25


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("DPMSolverMultistepScheduler", {"prediction_type": "flow_prediction"}),  # without flow sigmas
        ("UniPCMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "v_prediction"}),
        ("DDIMScheduler", {"prediction_type": "score"}),
        ("EDMEulerScheduler", {"prediction_type": "sample"}),
    ],
)
def test_predictions_that_do_not_fit_their_scheduler_are_not_read(name: str, config: dict[str, Any]) -> None:
    scheduler = getattr(diffusers, name)(**config)
    scheduler.set_timesteps(4)
    levels = NoiseLevels(scheduler)
    assert not levels.at(0, 751.0, False).is_known


@pytest.mark.parametrize("name", ["DDIMScheduler", "DDPMScheduler", "LCMScheduler", "TCDScheduler"])
def test_pure_noise_has_an_infinite_level_and_a_prediction_only_of_v_and_sample(name: str) -> None:
    for prediction in ("epsilon", "v_prediction", "sample"):
        scheduler = getattr(diffusers, name)(rescale_betas_zero_snr=True, prediction_type=prediction)
        scheduler.set_timesteps(4)
        level = NoiseLevels(scheduler).at(None, 999.0, False)
        assert level.alpha == 0
        assert level.ratio == np.inf
        assert level.visible == 1
        ones = np.ones((1, 1, 1, 1), np.float32)
        expected = {"epsilon": np.nan, "v_prediction": -3.0, "sample": 3.0}[prediction]
        np.testing.assert_array_equal(level.predict_clean(ones, 3 * ones).ravel(), [expected])
