"""Kandinsky 2 and 3, whose autoencoder is a MoVQ. Traced without word maps.

The decoder of Kandinsky 2.2 receives image embeddings only.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .family import Family


def _movq(pipe: Any) -> Any:
    return getattr(pipe, "movq", None)


def _has_movq(pipe: Any) -> bool:
    return getattr(pipe, "vae", None) is None and _movq(pipe) is not None


def _unscaled(vae: Any, latents: Tensor) -> Tensor:
    """The pipelines decode the latents of their loop as they are, whatever scaling the config of the MoVQ states."""
    return latents


FAMILY = Family(
    name="Kandinsky",
    denoisers=("UNet2DConditionModel", "Kandinsky3UNet"),
    denoiser_attribute="unet",
    accepts=_has_movq,
    vae_of=_movq,
    scale_for_vae=_unscaled,
    decode_arguments={"force_not_quantize": True},
)
