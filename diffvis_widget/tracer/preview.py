"""Latents to RGB: exactly by the pipeline's VAE, or nearly and at once by a linear map fitted to one exact decode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffvis_widget.tracer.families import find_family

from .locks import denoiser_lock, own_work

Images = NDArray[np.uint8]
Latents = NDArray[Any] | Tensor


def decode(pipe: Any, latents: Latents) -> Images:
    """Latents (n, C, h, w), as the pipeline's loop holds them, decoded by its VAE to uint8 (n, H, W, 3).

    The same arithmetic as the pipeline's own last lines, so the same pixels. Raises ValueError for another shape.
    """
    if latents.ndim != 4:
        raise ValueError(f"latents must be (n, C, h, w), not of shape {tuple(latents.shape)}")
    family, _ = find_family(pipe)
    vae = family.vae_of(pipe)
    tensor = latents if isinstance(latents, Tensor) else torch.from_numpy(np.ascontiguousarray(latents))
    if vae is None:  # a model that paints pixels
        return to_pixels(tensor.float())
    with torch.no_grad(), own_work():
        # SDXL's VAE overflows in half precision: its pipeline decodes in float32, and says so in the VAE's config
        upcast = vae.dtype == torch.float16 and bool(getattr(vae.config, "force_upcast", False))
        if upcast:
            vae.to(torch.float32)
        try:
            tensor = tensor.to(device=pipe._execution_device, dtype=vae.dtype)
            scaled = family.scale_for_vae(vae, tensor)
            return to_pixels(vae.decode(scaled, return_dict=False, **family.decode_arguments)[0])
        finally:
            if upcast:
                vae.to(torch.float16)


def decoder(pipe: Any) -> Callable[[NDArray[Any]], Images]:
    """`decode` for a Trace: waits while another thread uses the pipeline's denoiser."""

    def run(latents: NDArray[Any]) -> Images:
        with denoiser_lock(pipe):
            return decode(pipe, latents)

    return run


def to_pixels(decoded: Tensor) -> Images:
    """VAE output (n, 3, H, W) in -1..1 to uint8 (n, H, W, 3), in the order of operations of VaeImageProcessor."""
    decoded = decoded[:, :, 0] if decoded.ndim == 5 else decoded
    pictures = (decoded * 0.5 + 0.5).clamp(0, 1).cpu().permute(0, 2, 3, 1).float().numpy()
    return np.round(pictures * 255).astype(np.uint8)


class Preview:
    """A cheap live view: each latent pixel through one affine map, fitted to exact decodes.

    Least squares between the latents (C and a constant) and the exactly decoded picture averaged over the pixels that
    one latent pixel stands for: the known "latent to RGB" factors, but for any VAE.
    """

    def __init__(self, pipe: Any) -> None:
        self._decode = decoder(pipe)
        self._factors: NDArray[Any] | None = None
        self._gram: NDArray[np.float64] | float = 0.0
        self._moment: NDArray[np.float64] | float = 0.0
        self._scale = (1, 1)

    def image(self, latents: Latents) -> Images:
        """Latents (C, h, w) to uint8 (H, W, 3), H and W as the VAE would give. The first call decodes exactly."""
        array = latents.detach().float().cpu().numpy() if isinstance(latents, Tensor) else latents
        if array.ndim != 3:
            raise ValueError(f"latents must be (C, h, w), not of shape {tuple(array.shape)}")
        if self._factors is None:
            return self.fit(array)
        colours = np.clip(np.round(_design(array) @ self._factors * 255), 0, 255).astype(np.uint8)
        small = colours.reshape(*array.shape[1:], 3)
        return small.repeat(self._scale[0], axis=0).repeat(self._scale[1], axis=1)

    def fit(self, latents: NDArray[Any]) -> Images:
        """Decode latents (C, h, w) exactly, fit the map to this and all earlier decodes; uint8 (H, W, 3)."""
        exact = self._decode(latents[None])[0]
        _, height, width = latents.shape
        self._scale = exact.shape[0] // height, exact.shape[1] // width
        blocks = exact.reshape(height, self._scale[0], width, self._scale[1], 3).mean(axis=(1, 3)) / 255
        design = _design(latents)
        self._gram = self._gram + design.T @ design
        self._moment = self._moment + design.T @ blocks.reshape(-1, 3)
        self._factors = np.linalg.lstsq(self._gram, self._moment, rcond=None)[0]
        return exact


def _design(latents: NDArray[Any]) -> NDArray[np.float64]:
    """(h * w, C + 1): one row per latent pixel, with a constant."""
    columns = latents.reshape(len(latents), -1).T.astype(np.float64)
    return np.concatenate([columns, np.ones_like(columns[:, :1])], axis=1)
