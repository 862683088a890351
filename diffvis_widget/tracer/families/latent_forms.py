"""Latents in forms of their own: an image among its references, in one tensor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class LatentForm:
    """How the loop of a pipeline keeps its latents, where that is neither (n, C, h, w) nor packed.

    Attributes:
        axes: Number of axes of the latents.
        take: Latents -> (n, C, h, w) of the images that are made.
        put: (latents, (n, C, h, w)) -> a copy of the latents with these images.
    """

    axes: int
    take: Callable[[Tensor], Tensor]
    put: Callable[[Tensor, Tensor], Tensor]

    def image(self, latents: Tensor) -> Tensor:
        """Take the images that are made.

        Args:
            latents: In this form, or already (n, C, h, w).

        Returns:
            (n, C, h, w).
        """
        return self.take(latents) if latents.ndim == self.axes else latents
