"""Where the steps are spent: uniform, early or late time steps.

Early and late are the exponential time-step sampling (Eq. 12-14) of J.-H. Park, Y.-J. Ju, S.-W. Lee, "Explaining
generative diffusion models via visual analysis for interpretable decision-making process", Expert Systems with
Applications 248 (2024) 123231, arXiv 2402.10404.
"""

from __future__ import annotations

import inspect
import itertools
import math
import operator
from typing import Any, Literal, SupportsIndex, cast

Kind = Literal["uniform", "early", "late"]

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
_OWN_SPACING = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas")


def timesteps(
    kind: Literal["early", "late"], steps: int = 30, strength: float = 60, train_steps: int = 1000
) -> list[int]:
    """Time steps in falling order that dwell on the early (noisy) or late (nearly clean) part of a generation.

    kind: "early" or "late". steps: how many, 1 or more. strength: 0 or more; the larger, the closer the steps lie
    together. train_steps: of the model. Raises ValueError where whole numbers repeat (many steps, small strength),
    naming the smallest whole strength that works, or saying that none does.
    """
    if kind not in ("early", "late"):
        raise ValueError(f'kind must be "early" or "late", not {kind!r}; "uniform" is the scheduler\'s own spacing')
    count = _count("steps", steps)
    total = _count("train_steps", train_steps)
    gamma = _strength(strength)
    found = _sample(kind, count, gamma, total)
    if _distinct(found):
        return found
    # beyond train_steps * ln(train_steps) all steps together span less than their number
    limit = math.ceil(total * math.log(total)) + 1
    hopeful = (one for one in range(limit) if _may_be_distinct(count, one, total))
    works = next((one for one in hopeful if _distinct(_sample(kind, count, one, total))), None)
    advice = (
        f"no strength works for {count} steps: use fewer" if works is None else f"the smallest that works is {works}"
    )
    raise ValueError(f"strength {strength} repeats time steps for {count} {kind} steps of {total}: {advice}")


def _sample(kind: str, steps: int, gamma: float, total: int) -> list[int]:
    delta = total ** (1.0 / (steps + gamma))
    powers = [int(delta ** (index + 1 + gamma)) for index in range(steps)]
    if kind == "early":
        return [total - 1, *(total - power for power in powers)][:steps]
    late = powers[::-1]
    return [min(late[0], total - 1), *late[1:]]


def _may_be_distinct(steps: int, gamma: float, total: int) -> bool:
    """Whether the real numbers behind the first steps lie far enough apart: a quick look before the exact one."""
    delta = total ** (1.0 / (steps + gamma))
    first = delta ** (1 + gamma)
    return all(first * (delta**later - 1) > later - 1 for later in (8, 32, 128) if later < steps - 1)


def _distinct(found: list[int]) -> bool:
    falling = all(later < sooner for sooner, later in itertools.pairwise(found))
    return falling and found[-1] >= 0


def pipeline_arguments(scheduler: Any, kind: Kind, steps: int, strength: float) -> dict[str, Any]:
    """What to pass to a pipeline's call so that it takes these steps with this scheduler.

    {"num_inference_steps": n} for "uniform", {"timesteps": [...]} otherwise, {"sigmas": [...]} (time step over train
    steps, before the pipeline's own shift) for flow matching. Raises ValueError for a scheduler that takes no such
    list, naming those that do, and for repeats (see `timesteps`); TypeError for a number of steps that is no integer.
    """
    count = _count("num_inference_steps", steps)
    if kind == "uniform":
        return {"num_inference_steps": count}
    if kind not in ("early", "late"):
        raise ValueError(f'schedule must be "uniform", "early" or "late", not {kind!r}')
    config = scheduler.config
    name = type(scheduler).__name__
    own = next((option for option in _OWN_SPACING if getattr(config, option, False)), None)
    if own is not None:
        raise ValueError(f"schedule {kind!r} needs a scheduler without its own spacing; {name} has {own}=True")
    total = int(getattr(config, "num_train_timesteps", 1000))
    accepted = inspect.signature(scheduler.set_timesteps).parameters
    found = timesteps(kind, count, strength, total)
    if name.startswith("FlowMatch") or getattr(config, "use_flow_sigmas", False):
        if "sigmas" not in accepted:
            raise ValueError(_refusal(name, kind, "sigmas", TAKE_SIGMAS))
        return {"sigmas": [one / total for one in found]}
    if "timesteps" not in accepted:
        raise ValueError(_refusal(name, kind, "timesteps", TAKE_TIMESTEPS))
    return {"timesteps": found}


def _refusal(name: str, kind: str, what: str, takers: tuple[str, ...]) -> str:
    return f"{name} takes no custom {what}, which schedule {kind!r} needs; use one of: {', '.join(takers)}"


def _count(name: str, value: object) -> int:
    try:
        number = operator.index(cast(SupportsIndex, value))
    except TypeError:
        raise TypeError(f"{name} must be an integer of 1 or more, not {value!r}") from None
    if isinstance(value, bool) or number < 1:
        raise ValueError(f"{name} must be an integer of 1 or more, not {value!r}")
    return number


def _strength(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"strength must be a number of 0 or more, not {value!r}")
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"strength must be a number of 0 or more, not {value!r}")
    return float(value)
