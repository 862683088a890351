"""A scheduler that visits noise levels of one image: every step's result is the image, noised to the next level."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from diffvis_widget.arguments import items, shorten

from .noise_levels import scheduler_kind

_KINDS = ("timestep", "preserving", "exploding", "flow")


class _FixedLevels:
    """What replaces the methods of a scheduler; `levels_of` puts it before the scheduler's own class.

    Attributes:
        timesteps: As every scheduler has it.
        sigmas: As schedulers that store them have them.
        num_inference_steps: Number of levels.
        fixed_timesteps: The levels.
        fixed_sigmas: Their sigmas and a 0; None where the scheduler stores none.
        fixed_samples: The latents at each level, then without noise.
    """

    timesteps: Tensor
    sigmas: Tensor
    num_inference_steps: int
    fixed_timesteps: Tensor
    fixed_sigmas: Tensor | None
    fixed_samples: Sequence[Tensor]
    _step_index: int | None

    @property
    def init_noise_sigma(self) -> float:
        """1: the latents that the pipeline is given are noised already."""
        return 1.0

    @init_noise_sigma.setter
    def init_noise_sigma(self, value: Any) -> None:
        """Set nothing.

        Args:
            value: Not used.
        """

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        *,
        timesteps: Any = None,
        sigmas: Any = None,
        mu: Any = None,
        **kwargs: Any,
    ) -> None:
        """Set the chosen levels, whatever the pipeline passes.

        Args:
            num_inference_steps: Not used, as all others but the device.
            device: Where the timesteps lie.
            timesteps: Not used.
            sigmas: Not used.
            mu: Not used.
            **kwargs: Not used.
        """
        self.timesteps = self.fixed_timesteps.to(device)
        self.num_inference_steps = len(self.timesteps)
        if self.fixed_sigmas is not None:
            self.sigmas = self.fixed_sigmas
        self._step_index = self._begin_index = None
        if hasattr(self, "prk_timesteps"):  # PNDM has no warm-up here
            self.prk_timesteps, self.counter = (), 2

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor, return_dict: bool = True, **kwargs: Any) -> Any:
        """Go to the next level.

        Args:
            model_output: Not used: the trace reads it.
            timestep: Not used.
            sample: The latents before the step.
            return_dict: Whether to return an object with `prev_sample`.
            **kwargs: Not used.

        Returns:
            The image's latents noised to the next level; behind the last one, without noise.
        """
        index = self._step_index or 0
        self._step_index = index + 1
        following = self.fixed_samples[index + 1].to(sample.device, sample.dtype)
        if not return_dict:
            return (following,)
        from diffusers.schedulers.scheduling_utils import SchedulerOutput

        return SchedulerOutput(prev_sample=cast(Any, following))


def check_timesteps(scheduler: Any, timesteps: Any) -> list[float]:
    """Check the levels that an image is to be noised to.

    Args:
        scheduler: The pipeline's scheduler.
        timesteps: The levels.

    Returns:
        The levels in falling order.

    Raises:
        TypeError: They are no list of numbers.
        ValueError: A level is out of range or occurs twice, or the scheduler's forward process is not known.
    """
    kind, name = scheduler_kind(scheduler), type(scheduler).__name__
    if kind not in _KINDS:
        raise ValueError(
            f"{name} noises images in a way that is not known here; use a scheduler of the model's pipeline"
        )
    most = int(scheduler.config.num_train_timesteps)
    flow = kind == "flow"
    last = most if flow else most - 1
    first = 1 if flow else 0
    expected = f"a list of {'numbers' if flow else 'whole numbers'} from {first} to {last}, such as [{most // 2}]"
    levels: list[float] = []
    for level in items("timesteps", timesteps, expected):
        if isinstance(level, bool) or not isinstance(level, int | float):
            raise TypeError(f"timesteps must be {expected}; one is {shorten(level)}")
        if not first <= level <= last or (not flow and level != int(level)):
            raise ValueError(f"timesteps must be {expected}; one is {shorten(level)}")
        levels.append(float(level))
    if not levels or len(set(levels)) < len(levels):
        raise ValueError(f"timesteps must be {expected}, each once, not {shorten(timesteps)}")
    return sorted(levels, reverse=True)


def levels_of(scheduler: Any, clean: Tensor, timesteps: Sequence[float], noise: Sequence[Tensor], packed: Any) -> Any:
    """Make a scheduler that visits noise levels of one image.

    Args:
        scheduler: The pipeline's scheduler, which stays as it is.
        clean: (1, C, h, w), the latents of the image, on the scale of the pipeline's loop.
        timesteps: The levels in falling order.
        noise: Noise of each level, of the shape of `clean`.
        packed: Lays latents out as the pipeline's loop keeps them.

    Returns:
        The scheduler; `fixed_samples[0]` are the latents to begin with.
    """
    kind = scheduler_kind(scheduler)
    levels = copy.deepcopy(scheduler)
    levels.__class__ = type(type(scheduler).__name__, (_FixedLevels, type(scheduler)), {})
    whole = kind == "timestep" or all(level == int(level) for level in timesteps)
    levels.fixed_timesteps = torch.tensor(timesteps, dtype=torch.float32)
    sigmas: Tensor | None = None
    if kind == "flow":
        sigmas = levels.fixed_timesteps / levels.config.num_train_timesteps
    else:
        levels.fixed_timesteps = levels.fixed_timesteps.long() if whole else levels.fixed_timesteps
        alphas = levels.alphas_cumprod.cpu()[levels.fixed_timesteps.long()].double()
        sigmas = None if kind == "timestep" else ((1 - alphas) / alphas).sqrt().float()
    levels.fixed_sigmas = None if sigmas is None else torch.cat([sigmas, torch.zeros(1)])
    levels.fixed_samples = ()
    levels.set_timesteps()
    forward = getattr(levels, "scale_noise", None) if kind == "flow" else levels.add_noise
    samples: list[Tensor] = []
    for level, part in zip(levels.timesteps, noise, strict=True):
        noised = (
            forward(clean, level[None], part)
            if kind == "flow" and forward
            else levels.add_noise(clean, part, level[None])
        )
        samples.append(packed(noised))
    levels.fixed_samples = [*samples, packed(clean)]
    return levels
