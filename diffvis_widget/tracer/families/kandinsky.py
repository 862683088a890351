"""Kandinsky 2, whose autoencoder is a MoVQ. Traced without word maps.

A prior makes an image embedding of the prompt, which a decoder paints. The decoder of Kandinsky 2.2 receives nothing
else.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .family import Family


def movq(pipe: Any) -> Any:
    """The autoencoder of a Kandinsky pipeline.

    Args:
        pipe: The pipeline.

    Returns:
        The MoVQ, or None.
    """
    return getattr(pipe, "movq", None)


def _has_movq(pipe: Any) -> bool:
    return getattr(pipe, "vae", None) is None and movq(pipe) is not None


def unscaled(vae: Any, latents: Tensor) -> Tensor:
    """The pipelines decode the latents of their loop as they are, whatever scaling the config of the MoVQ states.

    Args:
        vae: The MoVQ.
        latents: (n, C, h, w), as the loop keeps them.

    Returns:
        The same latents.
    """
    return latents


FAMILY = Family(
    name="Kandinsky",
    denoisers=("UNet2DConditionModel",),
    denoiser_attribute="unet",
    accepts=_has_movq,
    vae_of=movq,
    scale_for_vae=unscaled,
    decode_arguments={"force_not_quantize": True},
)
