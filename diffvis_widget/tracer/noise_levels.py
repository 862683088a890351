"""Predicted clean latents of a step, from the scheduler's sample, the denoiser's guided output and the noise level.

The sample of every scheduler is x = alpha * clean + sigma * noise; six kinds of schedulers store alpha and sigma in
different ways. The output is a prediction of the noise, of v = alpha * noise - sigma * clean (arXiv 2202.00512), of the
clean latents, or of the flow = noise - clean (arXiv 2210.02747). Where alpha and sigma of a scheduler are not known
here, both are NaN, and so are the predicted clean latents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
    "CogVideoXDPMScheduler": "timestep",
    "DDPMScheduler": "timestep",
    "DDPMParallelScheduler": "timestep",
    "PNDMScheduler": "timestep",
    "LCMScheduler": "timestep",
    "TCDScheduler": "timestep",
    "UnCLIPScheduler": "timestep",
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
    "LTXEulerAncestralRFScheduler": "flow",
    # x = cos(t) clean + sin(t) noise, where the timestep t is an angle; the output predicts v
    "SCMScheduler": "angle",
    # x = clean + sigma noise, with a preconditioned output (arXiv 2206.00364)
    "EDMEulerScheduler": "preconditioned",
    "EDMDPMSolverMultistepScheduler": "preconditioned",
}


@dataclass(frozen=True)
class NoiseLevel:
    """Noise level of the sample that enters a step: sample = alpha * clean + sigma * noise.

    Attributes:
        alpha: Factor of the clean latents, 0 or more; 0 where the sample is noise only (zero terminal SNR,
            arXiv 2305.08891). NaN where it is not known.
        sigma: Factor of the noise; NaN where it is not known.
        prediction: What the denoiser predicts: "epsilon", "v_prediction", "sample", "flow_prediction", or
            "reversed_flow" = clean - noise.
        data_sigma: Standard deviation of clean latents that a preconditioned model assumes; 0 for other models.
        flow: Whether alpha + sigma = 1, as in flow matching.
        scale: Factor from the sample to what the denoiser receives; None: see `input_scale`.
    """

    alpha: float
    sigma: float
    prediction: str
    data_sigma: float = 0.0
    flow: bool = False
    scale: float | None = None

    @property
    def is_known(self) -> bool:
        """Whether alpha and sigma are known."""
        return not math.isnan(self.sigma)

    @property
    def ratio(self) -> float:
        """Noise over signal, as in `Step.sigma`: infinite for pure noise; for flow matching its own sigma."""
        if self.flow:
            return self.sigma
        return self.sigma / self.alpha if self.alpha else math.inf

    @property
    def visible(self) -> float:
        """Factor that scales the sample to about unit variance; 1 for flow matching, and where it is not known."""
        return 1.0 if self.flow or not self.is_known else (self.alpha**2 + self.sigma**2) ** -0.5

    @property
    def input_scale(self) -> float:
        """Factor from the sample to what the denoiser receives."""
        if self.scale is not None:
            return self.scale
        return (self.sigma**2 + self.data_sigma**2) ** -0.5 if self.data_sigma else self.visible

    def predict_clean(self, sample: NDArray[Any], output: NDArray[Any]) -> Floats:
        """Predict the clean latents, before any clipping by the scheduler.

        Args:
            sample: The scheduler's sample, any shape.
            output: The denoiser's guided output, of the same shape.

        Returns:
            float32, of the same shape; NaN where the noise level is not known, and for the noise predicted from a
            sample without signal.
        """
        x: NDArray[Any] = sample.astype(np.float32)
        out: NDArray[Any] = output.astype(np.float32)
        alpha, sigma = np.float32(self.alpha), np.float32(self.sigma)
        if not self.is_known or (self.prediction == "epsilon" and not self.alpha and not self.data_sigma):
            return np.full_like(x, np.nan)
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
        if self.prediction == "reversed_flow":
            return x + sigma * out
        return out


UNKNOWN = NoiseLevel(math.nan, math.nan, "unknown")


def next_level(levels: Sequence[NoiseLevel], index: int) -> NoiseLevel | None:
    """Find the next level with less noise: a corrector's evaluation may come first.

    Args:
        levels: Of all steps of a run.
        index: Of the step.

    Returns:
        The level; None behind the last one.
    """
    now = levels[index].ratio
    return next((level for level in levels[index + 1 :] if level.ratio < now), None)


class NoiseLevels:
    """Noise levels of a scheduler's steps, copied to the CPU once, so that later queries do not synchronize a device.

    Args:
        scheduler: A scheduler of diffusers, or with its methods, after `set_timesteps`.
    """

    def __init__(self, scheduler: Any) -> None:
        config = getattr(scheduler, "config", {})
        kind = scheduler_kind(scheduler)
        self._flow = kind == "flow" or bool(_option(config, "use_flow_sigmas"))
        self._reversed = bool(_option(config, "invert_sigmas"))
        self._prediction = _prediction(kind, config)
        self._data_sigma = float(_option(config, "sigma_data") or 0.0) if kind in ("preconditioned", "angle") else 0.0
        self._orders: list[int] = list(getattr(scheduler, "order_list", []))
        self._timesteps = _numbers(getattr(scheduler, "timesteps", []))
        self._intermediate: NDArray[np.float64] | None = None
        # of a subclass that keeps them elsewhere, or in another shape, or counts time otherwise, nothing is known
        self._table = _numbers(getattr(scheduler, "alphas_cumprod" if kind == "timestep" else "sigmas", []))
        fits = kind != "timestep" or bool((self._timesteps == self._timesteps.round()).all())
        if kind is None or self._prediction is None or self._table.ndim != 1 or not fits:
            kind = None
        elif kind != "timestep":
            self._intermediate = _intermediate_sigmas(scheduler, self._table)
        self._kind = kind

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
            The noise level, `UNKNOWN` where it is not known.
        """
        if self._kind is None or self._prediction is None:
            return UNKNOWN
        if self._kind == "timestep":
            if timestep != round(timestep) or not 0 <= timestep < len(self._table):
                return UNKNOWN
            a = float(self._table[round(timestep)])
            return NoiseLevel(a**0.5, (1.0 - a) ** 0.5, self._prediction) if 0 <= a <= 1 else UNKNOWN
        if self._kind == "angle":
            alpha, sigma = math.cos(timestep), math.sin(timestep)
            # the model is one of flow matching (arXiv 2503.09641, equation 7), of data with a standard deviation of 1
            scale = 1.0 / (self._data_sigma * (alpha + sigma))
            return NoiseLevel(alpha, sigma, self._prediction, scale=scale)
        if index is None or index < 0:  # a subclass may not count its steps
            places = np.flatnonzero(np.isclose(self._timesteps, timestep, rtol=1e-6, atol=1e-6))
            if len(places) != 1:
                return UNKNOWN
            index = int(places[0])
        table = self._intermediate if second_order and self._intermediate is not None else self._table
        sigma = float(table[index]) if index < len(table) else math.nan
        if math.isnan(sigma) or sigma < 0:
            return UNKNOWN
        if self._flow:
            if self._reversed:
                sigma = 1.0 - sigma
            return NoiseLevel(1.0 - sigma, sigma, self._prediction, flow=True)
        if self._kind in ("preconditioned", "exploding"):
            return NoiseLevel(1.0, sigma, self._prediction, self._data_sigma)
        alpha = (sigma * sigma + 1.0) ** -0.5
        return NoiseLevel(alpha, sigma * alpha, self._prediction)


def scheduler_kind(scheduler: Any) -> str | None:
    """Classify a scheduler by how it scales its sample.

    Args:
        scheduler: A scheduler of diffusers, or of a subclass.

    Returns:
        "timestep", "preserving", "exploding", "flow", "angle" or "preconditioned"; None where the class
        is not known here.
    """
    return next((_KINDS[base.__name__] for base in type(scheduler).__mro__ if base.__name__ in _KINDS), None)


def _prediction(kind: str | None, config: Any) -> str | None:
    """What the denoiser predicts; None where the scheduler does not say it, or it does not fit the scheduler."""
    prediction = str(_option(config, "prediction_type") or "epsilon")
    if kind == "angle":
        return "v_prediction" if prediction == "trigflow" else None
    flow_sigmas = bool(_option(config, "use_flow_sigmas"))
    if kind == "flow":
        return "reversed_flow" if _option(config, "invert_sigmas") else "flow_prediction"
    if prediction == "original_sample":
        prediction = "sample"
    if flow_sigmas:
        # v is defined for alpha^2 + sigma^2 = 1 only
        return prediction if prediction in ("flow_prediction", "epsilon", "sample") else None
    if kind == "preconditioned" and prediction == "sample":
        return None
    return prediction if prediction in ("epsilon", "v_prediction", "sample") else None


def _option(config: Any, name: str) -> Any:
    return config.get(name) if isinstance(config, Mapping) else getattr(config, name, None)


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
