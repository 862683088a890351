"""Schedules of time steps: uniform, early or late.

"early" and "late" are the exponential time-step sampling (Eq. 12-14) of J.-H. Park, Y.-J. Ju, S.-W. Lee, "Explaining
generative diffusion models via visual analysis for interpretable decision-making process", Expert Systems with
Applications 248 (2024) 123231, arXiv 2402.10404.
"""

from __future__ import annotations

import inspect
import itertools
import math
import operator
from typing import Any, Literal, SupportsIndex, cast

from diffvis_widget.arguments import choice, real, shorten

ScheduleKind = Literal["uniform", "early", "late"]

TAKE_TIMESTEPS = (
    "DDPMScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LCMScheduler",
    "TCDScheduler",
)
"""Schedulers of diffusers that take a list of time steps; named in errors."""
TAKE_SIGMAS = ("FlowMatchEulerDiscreteScheduler", "UniPCMultistepScheduler (with use_flow_sigmas=True)")
"""Schedulers for flow matching that take a list of sigmas; named in errors."""
MOST_STEPS = 1_000_000
_MOST_STRENGTH = 1e9
_OWN_SPACING = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas")


def timesteps(
    kind: Literal["early", "late"], steps: int = 30, strength: float = 60, train_steps: int = 1000
) -> list[int]:
    """Computes time steps that are denser in the early (noisy) or the late (nearly clean) part of a generation.

    Args:
        kind: "early" or "late".
        steps: number of time steps, 1 or more.
        strength: 0 to 1e9; the larger, the closer together the steps.
        train_steps: number of time steps that the model was trained with.

    Returns:
        ``steps`` distinct integers in falling order, below ``train_steps``.

    Raises:
        TypeError: an argument has a wrong type.
        ValueError: an argument is out of range, or rounding to integers repeats a time step (many steps, small
            strength); the message names the smallest integer strength that works.

    Example:
        >>> timesteps("early", steps=4)
        [999, 277, 195, 103]
    """
    if not isinstance(kind, str) or kind not in ("early", "late"):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(
            f'kind must be "early" or "late", not {shorten(kind)}; "uniform" is the scheduler\'s own spacing'
        )
    count = _count("steps", steps)
    total = _count("train_steps", train_steps)
    gamma = _strength(strength)
    sampled = _sample(kind, count, gamma, total)
    if _distinct(sampled):
        return sampled
    # beyond train_steps * ln(train_steps) all steps together span less than their number
    limit = math.ceil(total * math.log(total)) + 1
    candidates = (gamma for gamma in range(limit) if _may_be_distinct(count, gamma, total))
    smallest = next((gamma for gamma in candidates if _distinct(_sample(kind, count, gamma, total))), None)
    advice = f"the smallest that works is {smallest}"
    if smallest is None:
        advice = f"no strength works for {count} steps: use fewer"
    raise ValueError(f"strength {strength} repeats time steps for {count} {kind} steps of {total}: {advice}")


def _sample(kind: str, steps: int, gamma: float, total: int) -> list[int]:
    delta = total ** (1.0 / (steps + gamma))
    powers = [int(delta ** (index + 1 + gamma)) for index in range(steps)]
    if kind == "early":
        return [total - 1, *(total - power for power in powers)][:steps]
    late = powers[::-1]
    return [min(late[0], total - 1), *late[1:]]


def _may_be_distinct(steps: int, gamma: float, total: int) -> bool:
    """Whether the first steps lie far enough apart before rounding: a quick test before the exact one."""
    delta = total ** (1.0 / (steps + gamma))
    first = delta ** (1 + gamma)
    return all(first * (delta**later - 1) > later - 1 for later in (8, 32, 128) if later < steps - 1)


def _distinct(steps: list[int]) -> bool:
    falling = all(later < sooner for sooner, later in itertools.pairwise(steps))
    return falling and steps[-1] >= 0


def pipeline_arguments(scheduler: Any, kind: ScheduleKind, steps: int | None, strength: float) -> dict[str, Any]:
    """Computes the arguments of a pipeline call for a schedule.

    Args:
        scheduler: the scheduler of the pipeline.
        kind: "uniform", "early" or "late".
        steps: number of denoising steps, 1 or more; None for the pipeline's own, which "uniform" alone allows.
        strength: of "early" and "late", 0 to 1e9.

    Returns:
        {"num_inference_steps": n} for "uniform"; otherwise {"timesteps": [...]}, or {"sigmas": ...}, a list or an
        array, for flow matching (time steps over train steps, before the shift of the pipeline).

    Raises:
        TypeError: the number of steps is no integer.
        ValueError: the scheduler takes no such list (the message names those that do), or time steps repeat.
    """
    choice("schedule", kind, ("uniform", "early", "late"))
    gamma = _strength(strength, "schedule_strength")
    if steps is None and kind == "uniform":
        return {}
    count = _count("num_inference_steps", steps)
    if kind == "uniform":
        return {"num_inference_steps": count}
    config = scheduler.config
    name = type(scheduler).__name__
    spacing = next((option for option in _OWN_SPACING if getattr(config, option, False)), None)
    if spacing is not None:
        raise ValueError(f"schedule {kind!r} needs a scheduler without its own spacing; {name} has {spacing}=True")
    total = int(getattr(config, "num_train_timesteps", 1000))
    accepted = inspect.signature(scheduler.set_timesteps).parameters
    times = timesteps(kind, count, gamma, total)
    if name.startswith("FlowMatch") or getattr(config, "use_flow_sigmas", False):
        if "sigmas" not in accepted:
            raise ValueError(_refusal(name, kind, "sigmas", TAKE_SIGMAS))
        sigmas = [time / total for time in times]
        if name.startswith("FlowMatch"):
            return {"sigmas": sigmas}
        import numpy as np

        return {"sigmas": np.array(sigmas)}  # UniPC multiplies what it is given
    if "timesteps" not in accepted:
        raise ValueError(_refusal(name, kind, "timesteps", TAKE_TIMESTEPS))
    return {"timesteps": times}


def _refusal(name: str, kind: str, argument: str, schedulers: tuple[str, ...]) -> str:
    return f"{name} takes no custom {argument}, which schedule {kind!r} needs; use one of: {', '.join(schedulers)}"


def _count(name: str, value: object) -> int:
    try:
        number = operator.index(cast(SupportsIndex, value))
    except TypeError:
        raise TypeError(f"{name} must be an integer of 1 or more, not {shorten(value)}") from None
    if isinstance(value, bool) or not 1 <= number <= MOST_STEPS:
        raise ValueError(f"{name} must be an integer of 1 or more, at most {MOST_STEPS}, not {shorten(value)}")
    return number


def _strength(value: object, name: str = "strength") -> float:
    return real(name, value, 0, _MOST_STRENGTH)
