"""Latents in forms of their own: an image among its references, in one tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from diffvis_widget.traces.types import Size


@dataclass(frozen=True)
class LatentForm:
    """How the loop of a pipeline keeps its latents, where that is neither (n, C, h, w) nor packed.

    Attributes:
        axes: Number of axes of the latents.
        size: (pipeline, arguments of `prepare_latents`, latents) -> (h, w) of the images in latent pixels.
        take: (latents, (h, w)) -> (n, C, h, w) of the images that are made.
        put: (latents, (n, C, h, w)) -> a copy of the latents with these images.
    """

    axes: int
    size: Callable[[Any, Mapping[str, Any], Tensor], Size]
    take: Callable[[Tensor, Size], Tensor]
    put: Callable[[Tensor, Tensor], Tensor]

    def image(self, latents: Tensor, size: Size) -> Tensor:
        """Take the images that are made.

        Args:
            latents: In this form, or already (n, C, h, w).
            size: (h, w) of the images.

        Returns:
            (n, C, h, w).
        """
        return self.take(latents, size) if latents.ndim == self.axes else latents


def even_latent_size(pipe: Any, arguments: Mapping[str, Any], side: int) -> Size:
    """The latent size of a pipeline that rounds to whole squares of two by two latent pixels.

    Args:
        pipe: The pipeline.
        arguments: Arguments of its `prepare_latents`, with "height" and "width" in pixels.
        side: Latent pixels along one side of a packed square.

    Returns:
        (h, w) in latent pixels, as `packing` counts them.
    """
    squares = [int(arguments[name]) // (2 * pipe.vae_scale_factor) for name in ("height", "width")]
    return squares[0] * side, squares[1] * side
