"""Where in its scheduler's steps a denoising loop began, for loops that the user's own code makes."""

from __future__ import annotations

from typing import Any

import torch


def skipped_steps(scheduler: Any, timestep: Any) -> int:
    """Count the steps that a loop left out at its start. Call it after the loop's first step.

    Args:
        scheduler: A scheduler of diffusers.
        timestep: The timestep of the first step.

    Returns:
        The index of the first step; 0 where finding it would wait for a GPU.
    """
    index = getattr(scheduler, "step_index", None)
    if index is not None:
        return max(int(index) - 1, 0)
    timesteps = torch.as_tensor(getattr(scheduler, "timesteps", ()))
    if timesteps.is_cuda or (isinstance(timestep, torch.Tensor) and timestep.is_cuda):
        return 0
    places = (timesteps == timestep).nonzero()
    return int(places[0]) if len(places) else 0
