"""Reads the arguments and the result of `scheduler.step`, also of schedulers with other argument names."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from torch import Tensor

_NAMES = ("model_output", "timestep", "sample")
_SAMPLE_NAMES = ("sample", "latent", "x_t", "xt")


@dataclass(frozen=True)
class StepArguments:
    """What a scheduler is given for a step.

    Attributes:
        output: The denoiser's guided output; where each token has a timestep of its own, scaled to the step's.
        timestep: The timestep; NaN where there is none.
        sample: The latents before the step.
    """

    output: Tensor
    timestep: Tensor | float
    sample: Tensor


def check_scheduler(scheduler: Any) -> None:
    """Check that a scheduler can be followed.

    Args:
        scheduler: The pipeline's scheduler.

    Raises:
        ValueError: It lacks a method, or its step takes no sample.
    """
    name = type(scheduler).__name__
    for method in ("set_timesteps", "step"):
        if not callable(getattr(scheduler, method, None)):
            raise ValueError(f"scheduler: {name} has no method {method}, by which runs are traced")
    parameters = inspect.signature(scheduler.step).parameters
    free = any(parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) for parameter in parameters.values())
    if len(parameters) < 2 and not free:
        raise ValueError(
            f"scheduler: {name}.step takes ({', '.join(parameters)}); a run is traced through a step that takes "
            "model_output, timestep and sample"
        )


def read_step(step: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> StepArguments | None:
    """Find output, timestep and sample among the arguments of a step.

    Arguments with the names of diffusers are taken by name. Otherwise the latents are the argument whose name says so,
    or the second of two tensors, and the timestep is the first number.

    Args:
        step: `scheduler.step`.
        args: Its positional arguments.
        kwargs: Its keyword arguments.

    Returns:
        The arguments; None where they cannot be told apart.
    """
    try:
        bound = inspect.signature(step).bind(*args, **kwargs)
    except TypeError:
        return None  # the call itself will say so
    arguments = dict(bound.arguments)
    for parameter in bound.signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            arguments |= arguments.pop(parameter.name, {})
        elif parameter.kind is parameter.VAR_POSITIONAL:
            values = arguments.pop(parameter.name, ())
            arguments |= {f"{parameter.name}[{place}]": value for place, value in enumerate(values)}
    output, timestep, sample = (arguments.get(name) for name in _NAMES)
    if not (isinstance(output, Tensor) and isinstance(sample, Tensor)):
        tensors = [name for name, value in arguments.items() if isinstance(value, Tensor) and value.ndim > 2]
        if len(tensors) != 2:
            return None
        named = [name for name in tensors if any(part in name.lower() for part in _SAMPLE_NAMES) or name == "x"]
        latents = named[0] if len(named) == 1 else tensors[1]
        sample = arguments[latents]
        output = arguments[next(name for name in tensors if name != latents)]
    if not _is_time(timestep):
        timestep = next((value for value in arguments.values() if _is_time(value)), math.nan)
    per_token = arguments.get("per_token_timesteps")
    if isinstance(per_token, Tensor):
        output = _of_step(inspect.unwrap(step).__self__, output, timestep, per_token)
    return StepArguments(output, timestep if isinstance(timestep, Tensor) else float(timestep), sample)


def read_timestep(timestep: Tensor | float) -> float:
    """Read a timestep that was copied to the CPU.

    Args:
        timestep: A number, or a tensor of any shape.

    Returns:
        The timestep; NaN where the tensor holds several.
    """
    if not isinstance(timestep, Tensor):
        return timestep
    values: list[float] = timestep.flatten().tolist()
    return float(values[0]) if len(set(values)) == 1 else math.nan


def _is_time(value: Any) -> TypeGuard[Tensor | float]:
    if isinstance(value, Tensor):
        return value.numel() > 0 and value.ndim < 2
    return isinstance(value, int | float) and not isinstance(value, bool)


def _of_step(scheduler: Any, output: Tensor, timestep: Any, per_token: Tensor) -> Tensor:
    """A flow as of a step whose tokens all have the same noise level, from one where each has its own.

    Args:
        scheduler: Flow matching of diffusers; it adds such an output, times each token's noise level.
        output: (n, tokens, channels).
        timestep: The timestep of the step.
        per_token: (n, tokens or 1), the timestep of each token.
    """
    index = scheduler.step_index
    level = scheduler.sigmas[scheduler.index_for_timestep(timestep) if index is None else index]
    levels = per_token[..., None] / scheduler.config.num_train_timesteps
    return -output * (levels / level).to(output)
