"""What takes the place of latents that a mask hides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from diffvis_widget.tracer import Denoiser

Hidden = Literal["zeros", "noise"]
HIDDEN = ("zeros", "noise")


def hidden_latents(probe: Denoiser, hidden: Hidden) -> Callable[[np.random.Generator, int], Tensor]:
    """Choose what takes the place of hidden latents.

    Zeros are latents of no noise level: the denoiser never saw them in training. Noise of the step's level around the
    mean of the predicted clean latents is what a blank image would be at this step.

    Args:
        probe: The denoiser of the step.
        hidden: "zeros" or "noise".

    Returns:
        A function of a random generator and a number of masks n that returns latents (n, C, h, w), or (1, C, h, w)
        for all of them; noise is drawn again at each call.

    Raises:
        ValueError: For "noise", if the noise levels of the run's scheduler are not known.
    """
    if hidden == "zeros":
        return lambda rng, number: torch.zeros_like(probe.latents)
    alpha, sigma = probe.level.alpha, probe.level.sigma
    mean = probe.clean(probe.latents, probe.output).mean(dim=(2, 3), keepdim=True) * alpha

    def draw(rng: np.random.Generator, number: int) -> Tensor:
        noise = rng.standard_normal((number, *probe.latents.shape[1:]), dtype=np.float32)
        return (mean + sigma * torch.from_numpy(noise).to(mean)).to(probe.latents)

    return draw
