"""Predicted clean latents of a step, from the scheduler's sample, the denoiser's guided output and the noise level.

The sample of every scheduler is x = alpha * clean + sigma * noise; five kinds of schedulers store alpha and sigma in
different ways. The output is a prediction of the noise, of v = alpha * noise - sigma * clean (arXiv 2202.00512), of the
clean latents, or of the flow = noise - clean (arXiv 2210.02747).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.traces.types import Floats

# scaling of the scheduler's sample, by class name; subclasses are found along their method resolution order
_KINDS = {
    # x = sqrt(a) clean + sqrt(1 - a) noise; a is indexed by timestep
    "DDIMScheduler": "timestep",
    "DDIMParallelScheduler": "timestep",
    "CogVideoXDDIMScheduler": "timestep",
    "DDPMScheduler": "timestep",
    "DDPMParallelScheduler": "timestep",
    "PNDMScheduler": "timestep",
    "LCMScheduler": "timestep",
    "TCDScheduler": "timestep",
    # the same sample; sigma / alpha is stored by step index
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
    # x = clean + sigma noise, with a preconditioned output (arXiv 2206.00364)
    "EDMEulerScheduler": "preconditioned",
    "EDMDPMSolverMultistepScheduler": "preconditioned",
}


@dataclass(frozen=True)
class NoiseLevel:
    """Noise level of the sample that enters a step: sample = alpha * clean + sigma * noise.

    Attributes:
        alpha: Factor of the clean latents, greater than 0.
        sigma: Factor of the noise.
        prediction: What the denoiser predicts: "epsilon", "v_prediction", "sample" or "flow_prediction".
        data_sigma: Standard deviation of clean latents that a preconditioned model assumes; 0 for other models.
    """

    alpha: float
    sigma: float
    prediction: str
    data_sigma: float = 0.0

    @property
    def ratio(self) -> float:
        """Noise over signal, as in `Step.sigma`; for flow matching its own sigma."""
        return self.sigma if self.prediction == "flow_prediction" else self.sigma / max(self.alpha, 1e-12)

    @property
    def visible(self) -> float:
        """Factor that scales the sample to about unit variance; 1 for flow matching."""
        return 1.0 if self.prediction == "flow_prediction" else (self.alpha**2 + self.sigma**2) ** -0.5

    def predict_clean(self, sample: NDArray[Any], output: NDArray[Any]) -> Floats:
        """Predict the clean latents, before any clipping by the scheduler.

        Args:
            sample: The scheduler's sample, any shape.
            output: The denoiser's guided output, of the same shape.

        Returns:
            float32, of the same shape.
        """
        x: NDArray[Any] = sample.astype(np.float32)
        out: NDArray[Any] = output.astype(np.float32)
        alpha, sigma = np.float32(self.alpha), np.float32(self.sigma)
        if self.data_sigma:  # arXiv 2206.00364, table 1, "EDM"
            data = self.data_sigma
            total = self.sigma**2 + data**2
            sign = -1.0 if self.prediction == "v_prediction" else 1.0
            return np.float32(data**2 / total) * x + np.float32(sign * self.sigma * data / total**0.5) * out
        if self.prediction == "epsilon":
            return (x - sigma * out) / alpha
        if self.prediction == "v_prediction":
            # defined for a sample of unit variance; dividing by the norm covers schedulers that do not scale
            norm = self.alpha**2 + self.sigma**2
            return np.float32(self.alpha / norm) * x - np.float32(self.sigma / norm**0.5) * out
        if self.prediction == "flow_prediction":
            return x - sigma * out
        return out


class NoiseLevels:
    """Noise levels of a scheduler's steps, copied to the CPU once, so that later queries do not synchronize a device.

    Args:
        scheduler: A scheduler of diffusers, after `set_timesteps`.

    Raises:
        ValueError: The scheduler's class or its prediction type is not supported.
    """

    def __init__(self, scheduler: Any) -> None:
        self._kind = scheduler_kind(scheduler)
        config = scheduler.config
        self._prediction = str(getattr(config, "prediction_type", "epsilon"))
        self._flow = self._kind == "flow" or bool(getattr(config, "use_flow_sigmas", False))
        if self._flow:
            self._prediction = "flow_prediction"
        elif self._prediction == "original_sample":
            self._prediction = "sample"
        if self._prediction not in ("epsilon", "v_prediction", "sample", "flow_prediction"):
            raise ValueError(
                f"scheduler: {type(scheduler).__name__} has prediction_type {self._prediction!r}; supported are "
                "epsilon, v_prediction, sample and flow_prediction"
            )
        self._data_sigma = float(getattr(config, "sigma_data", 0.0))
        if self._kind == "timestep":
            self._alphas_cumprod = _numbers(scheduler.alphas_cumprod)
        else:
            self._sigmas = _numbers(scheduler.sigmas)
            self._intermediate = _intermediate_sigmas(scheduler, self._sigmas)
        self._orders: list[int] = list(getattr(scheduler, "order_list", []))

    def corrects(self, index: int | None) -> bool:
        """Whether a step of a single-step solver (DPM-Solver) consumes an evaluation inside the step.

        Args:
            index: Index of the scheduler's step; None for schedulers that do not count their steps.

        Returns:
            True for evaluations of second and third order.
        """
        return index is not None and index < len(self._orders) and self._orders[index] > 1

    def at(self, index: int | None, timestep: float, second_order: bool) -> NoiseLevel:
        """Get the noise level of the sample that enters a step.

        Args:
            index: Index of the scheduler's step; None for schedulers that do not count their steps.
            timestep: The timestep of the step.
            second_order: Whether the sample lies between two steps, see `is_second_order`.

        Returns:
            The noise level.
        """
        if self._kind == "timestep":
            a = float(self._alphas_cumprod[round(timestep)])
            return NoiseLevel(a**0.5, (1.0 - a) ** 0.5, self._prediction)
        assert index is not None  # every scheduler that stores sigmas counts its steps
        sigma = float(self._sigmas[index])
        if second_order and self._intermediate is not None:
            sigma = float(self._intermediate[index])
        if self._flow:
            return NoiseLevel(1.0 - sigma, sigma, self._prediction)
        if self._kind == "preconditioned":
            return NoiseLevel(1.0, sigma, self._prediction, self._data_sigma)
        if self._kind == "exploding":
            return NoiseLevel(1.0, sigma, self._prediction)
        alpha = (sigma * sigma + 1.0) ** -0.5
        return NoiseLevel(alpha, sigma * alpha, self._prediction)


def scheduler_kind(scheduler: Any) -> str:
    """Classify a scheduler by how it scales its sample.

    Args:
        scheduler: A scheduler of diffusers, or of a subclass.

    Returns:
        "timestep", "preserving", "exploding", "flow" or "preconditioned".

    Raises:
        ValueError: The class of the scheduler is not supported; the message lists those that are.
    """
    for base in type(scheduler).__mro__:
        if base.__name__ in _KINDS:
            return _KINDS[base.__name__]
    raise ValueError(
        f"scheduler: predicted clean latents are not supported for {type(scheduler).__name__}; use one of: "
        + ", ".join(sorted(_KINDS))
    )


def is_second_order(scheduler: Any) -> bool:
    """Whether the next step of a scheduler consumes a corrector's evaluation. Call it before the step.

    Args:
        scheduler: A scheduler of diffusers.

    Returns:
        True for the second evaluation of Heun and KDPM2 and in the warm-up of PNDM.
    """
    first_order = getattr(scheduler, "state_in_first_order", None)
    if first_order is not None:
        return not first_order
    if hasattr(scheduler, "prk_timesteps"):  # PNDM
        if scheduler.counter < len(scheduler.prk_timesteps) and not scheduler.config.skip_prk_steps:
            return scheduler.counter % 4 != 0
        return scheduler.counter == 1 and bool(scheduler.config.skip_prk_steps)
    return False


def _intermediate_sigmas(scheduler: Any, sigmas: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Sigmas (steps,) of evaluations between two steps, for schedulers that evaluate there."""
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
