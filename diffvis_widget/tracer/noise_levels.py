"""The clean latents that a model predicts at a step, from what the scheduler was given and its noise level.

Every scheduler's sample is x = alpha * clean + sigma * noise for a known alpha and sigma; four kinds keep them
differently. The denoiser's (guided) output is then read as noise, as v = alpha * noise - sigma * clean
(arXiv 2202.00512), as the clean latents themselves, or as flow = noise - clean (arXiv 2210.02747).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# how the scheduler's sample is scaled, by class name along its method resolution order
_KINDS = {
    # x = sqrt(a) clean + sqrt(1 - a) noise, a looked up by time step
    "DDIMScheduler": "timestep",
    "DDIMParallelScheduler": "timestep",
    "CogVideoXDDIMScheduler": "timestep",
    "DDPMScheduler": "timestep",
    "DDPMParallelScheduler": "timestep",
    "PNDMScheduler": "timestep",
    "LCMScheduler": "timestep",
    "TCDScheduler": "timestep",
    # the same, but sigma / alpha is kept, by step index
    "DPMSolverMultistepScheduler": "preserving",
    "DPMSolverSinglestepScheduler": "preserving",
    "DEISMultistepScheduler": "preserving",
    "UniPCMultistepScheduler": "preserving",
    "SASolverScheduler": "preserving",
    # x = clean + sigma noise
    "EulerDiscreteScheduler": "exploding",
    "EulerAncestralDiscreteScheduler": "exploding",
    "HeunDiscreteScheduler": "exploding",
    "LMSDiscreteScheduler": "exploding",
    "KDPM2DiscreteScheduler": "exploding",
    "KDPM2AncestralDiscreteScheduler": "exploding",
    "DPMSolverSDEScheduler": "exploding",
    # x = (1 - sigma) clean + sigma noise
    "FlowMatchEulerDiscreteScheduler": "flow",
    "FlowMatchHeunDiscreteScheduler": "flow",
    "FlowMatchLCMScheduler": "flow",
    # x = clean + sigma noise, and the output is preconditioned (arXiv 2206.00364)
    "EDMEulerScheduler": "preconditioned",
    "EDMDPMSolverMultistepScheduler": "preconditioned",
}


@dataclass(frozen=True)
class Level:
    """Noise level of the sample that entered a step: sample = alpha * clean + sigma * noise.

    data: standard deviation of clean latents that a preconditioned model assumes; 0 for all others.
    """

    alpha: float
    sigma: float
    prediction: str
    data: float = 0.0

    @property
    def ratio(self) -> float:
        """What `Step.sigma` shows: noise over signal; flow matching's own sigma."""
        return self.sigma if self.prediction == "flow_prediction" else self.sigma / max(self.alpha, 1e-12)

    @property
    def visible(self) -> float:
        """The factor that brings the sample to about unit variance; 1 where the scheduler keeps it there."""
        return 1.0 if self.prediction == "flow_prediction" else (self.alpha**2 + self.sigma**2) ** -0.5

    def clean(self, sample: NDArray[Any], output: NDArray[Any]) -> Floats:
        """Predicted clean latents, float32, any shape; before any clipping that the scheduler may apply."""
        x: NDArray[Any] = sample.astype(np.float32)
        out: NDArray[Any] = output.astype(np.float32)
        alpha, sigma = np.float32(self.alpha), np.float32(self.sigma)
        if self.data:  # arXiv 2206.00364, table 1, "EDM"
            total = self.sigma**2 + self.data**2
            sign = -1.0 if self.prediction == "v_prediction" else 1.0
            return np.float32(self.data**2 / total) * x + np.float32(sign * self.sigma * self.data / total**0.5) * out
        if self.prediction == "epsilon":
            return (x - sigma * out) / alpha
        if self.prediction == "v_prediction":
            # of the sample at unit variance: this holds for schedulers with and without scaling
            norm = self.alpha**2 + self.sigma**2
            return np.float32(self.alpha / norm) * x - np.float32(self.sigma / norm**0.5) * out
        if self.prediction == "flow_prediction":
            return x - sigma * out
        return out


class NoiseLevels:
    """Reads a scheduler's noise level without touching it or its device: copies are taken when its steps are set."""

    def __init__(self, scheduler: Any) -> None:
        self.kind = kind_of(scheduler)
        config = scheduler.config
        self.prediction = str(getattr(config, "prediction_type", "epsilon"))
        self.flow = self.kind == "flow" or bool(getattr(config, "use_flow_sigmas", False))
        if self.flow:
            self.prediction = "flow_prediction"
        elif self.prediction == "original_sample":
            self.prediction = "sample"
        if self.prediction not in ("epsilon", "v_prediction", "sample", "flow_prediction"):
            raise ValueError(
                f"{type(scheduler).__name__} has prediction_type {self.prediction!r}; predicted clean latents are "
                "known for epsilon, v_prediction, sample and flow_prediction"
            )
        self.timesteps = _numbers(scheduler.timesteps)
        self.data = float(getattr(config, "sigma_data", 0.0))
        if self.kind == "timestep":
            self.alphas_cumprod = _numbers(scheduler.alphas_cumprod)
        else:
            self.sigmas = _numbers(scheduler.sigmas)
            self.between = _between(scheduler, self.sigmas)
        self.orders: list[int] = list(getattr(scheduler, "order_list", []))

    def corrects(self, index: int | None) -> bool:
        """Whether step `index` of a single-step solver consumes an evaluation inside the step."""
        return index is not None and index < len(self.orders) and self.orders[index] > 1

    def at(self, index: int | None, timestep: float, second_order: bool) -> Level:
        """The level of the sample given to the scheduler's step `index`, at `timestep`."""
        if self.kind == "timestep":
            a = float(self.alphas_cumprod[round(timestep)])
            return Level(a**0.5, (1.0 - a) ** 0.5, self.prediction)
        assert index is not None  # every scheduler that keeps sigmas counts its steps
        sigma = float(self.sigmas[index])
        if second_order and self.between is not None:
            sigma = float(self.between[index])
        if self.flow:
            return Level(1.0 - sigma, sigma, self.prediction)
        if self.kind == "preconditioned":
            return Level(1.0, sigma, self.prediction, self.data)
        if self.kind == "exploding":
            return Level(1.0, sigma, self.prediction)
        alpha = (sigma * sigma + 1.0) ** -0.5
        return Level(alpha, sigma * alpha, self.prediction)


def kind_of(scheduler: Any) -> str:
    """How the scheduler scales its sample. Raises ValueError, naming those that are known, for an unknown one."""
    for base in type(scheduler).__mro__:
        if base.__name__ in _KINDS:
            return _KINDS[base.__name__]
    raise ValueError(
        f"{type(scheduler).__name__} is no scheduler whose predicted clean latents are known; use one of: "
        + ", ".join(sorted(_KINDS))
    )


def is_second_order(scheduler: Any) -> bool:
    """Whether the step about to be made consumes a corrector's evaluation. Ask before the step."""
    first = getattr(scheduler, "state_in_first_order", None)
    if first is not None:
        return not first
    if hasattr(scheduler, "prk_timesteps"):  # PNDM
        if scheduler.counter < len(scheduler.prk_timesteps) and not scheduler.config.skip_prk_steps:
            return scheduler.counter % 4 != 0
        return scheduler.counter == 1 and bool(scheduler.config.skip_prk_steps)
    return False


def _between(scheduler: Any, sigmas: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Sigma of the evaluations between two steps, by step index, for the schedulers that evaluate there."""
    names = {base.__name__ for base in type(scheduler).__mro__}
    if "KDPM2DiscreteScheduler" in names:
        return _numbers(scheduler.sigmas_interpol)
    if "KDPM2AncestralDiscreteScheduler" in names:
        return np.roll(_numbers(scheduler.sigmas_interpol), 1)
    if "DPMSolverSDEScheduler" in names:
        return np.sqrt(np.roll(sigmas, 1) * sigmas)
    return None


def _numbers(tensor: Any) -> NDArray[np.float64]:
    values = tensor.detach().cpu().double().numpy() if hasattr(tensor, "detach") else np.asarray(tensor)
    return np.array(values, dtype=np.float64)
