"""Latents to RGB: exactly by the pipeline's VAE, or approximately by a linear map fitted to exact decodes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffvis_widget._compat.diffusers_devices import execution_device
from diffvis_widget.processor_threads import single_threaded
from diffvis_widget.shipped import has_scenes_mark
from diffvis_widget.tracer.families import Family, find_family
from diffvis_widget.traces.types import Images

from .locks import decoder_lock, own_work

Latents = NDArray[Any] | Tensor
GREY = 127
"""The colour of an image that is not known."""

_FRAMES_AT_ONCE = 14  # as Latte's pipeline, whose autoencoder decodes them together; to others their number is the same


def decode(pipe: Any, latents: Latents) -> Images:
    """Decode latents by the VAE of a pipeline, to the pixels that the pipeline itself would return.

    Args:
        pipe: The pipeline.
        latents: (n, C, h, w), or (n, C, F, h, w) of videos, scaled as in the pipeline's loop.

    Returns:
        uint8 (n, H, W, 3), or (n, frames, H, W, 3) of videos; grey for latents that are all NaN, as predicted clean
        latents are that are not known.

    Raises:
        ValueError: `latents` has another number of dimensions.
    """
    if latents.ndim not in (4, 5):
        raise ValueError(f"latents must be (n, C, h, w) or (n, C, F, h, w), not of shape {tuple(latents.shape)}")
    if isinstance(latents, np.ndarray):
        unknown = np.array([bool(np.isnan(image).all()) for image in latents], dtype=bool)
        if unknown.any():
            images = decode(
                pipe, np.where(unknown.reshape(-1, *[1] * (latents.ndim - 1)), 0, latents).astype(latents.dtype)
            )
            images[unknown] = GREY
            return images
    if has_scenes_mark(pipe) and len(latents) > 1:
        # the last bits depend on the number of images and of threads: a figure is the same wherever it is made
        return np.concatenate(
            [decode(pipe, image) for image in (latents[index : index + 1] for index in range(len(latents)))]
        )
    family, _ = find_family(pipe)
    vae = family.vae_of(pipe)
    tensor = latents if isinstance(latents, Tensor) else torch.from_numpy(np.ascontiguousarray(latents))
    if vae is None:  # a model that denoises pixels
        return to_pixels(tensor.float())
    threads = single_threaded() if has_scenes_mark(pipe) else contextlib.nullcontext()
    with torch.no_grad(), own_work(), threads:
        # SDXL's VAE overflows in half precision: its pipeline decodes in float32, as `force_upcast` states
        upcast = vae.dtype == torch.float16 and bool(getattr(vae.config, "force_upcast", False))
        if upcast:
            vae.to(torch.float32)
        try:
            tensor = tensor.to(device=execution_device(pipe), dtype=vae.dtype)
            scaled = family.scale_for_vae(vae, tensor)
            if family.frames_in_batch and tensor.ndim == 5:
                images = torch.cat([_decoded(vae, family, frames) for frames in scaled.split(_FRAMES_AT_ONCE)])
                return to_pixels(images.unflatten(0, (len(tensor), -1)).transpose(1, 2))
            return to_pixels(_decoded(vae, family, scaled))
        finally:
            if upcast:
                vae.to(torch.float16)


def _decoded(vae: Any, family: Family, scaled: Tensor) -> Tensor:
    more = family.decode_arguments
    arguments = more(vae, scaled) if callable(more) else more
    return vae.decode(scaled, return_dict=False, **arguments)[0]


def make_decoder(pipe: Any) -> Callable[[NDArray[Any]], Images]:
    """Make the decoder of a trace, which waits while another thread holds the pipeline's `decoder_lock`.

    Args:
        pipe: The pipeline.

    Returns:
        (n, C, h, w) -> uint8 (n, H, W, 3); of videos, (n, C, F, h, w) -> uint8 (n, frames, H, W, 3).
    """

    def run(latents: NDArray[Any]) -> Images:
        with decoder_lock(pipe):
            return decode(pipe, latents)

    return run


def to_pixels(decoded: Tensor) -> Images:
    """Convert the output of a VAE to images, in the order of operations of diffusers' VaeImageProcessor.

    Args:
        decoded: (n, 3, H, W), or (n, 3, frames, H, W) of videos, in -1..1; a fourth channel, the opacity, is left out.

    Returns:
        uint8 (n, H, W, 3); for more than one frame (n, frames, H, W, 3).
    """
    decoded = decoded[:, :, 0] if decoded.ndim == 5 and decoded.shape[2] == 1 else decoded
    images = (decoded[:, :3] * 0.5 + 0.5).clamp(0, 1).cpu().movedim(1, -1).float().numpy()
    return np.round(images * 255).astype(np.uint8)


class Preview:
    """Cheap approximate decoder: one affine map from the channels of a latent pixel to RGB, for any VAE.

    The map is the least-squares solution between the latents and the exactly decoded images, averaged over the pixels
    that one latent pixel covers.

    Args:
        pipe: The pipeline.
    """

    def __init__(self, pipe: Any) -> None:
        self._decode = make_decoder(pipe)
        self._factors: NDArray[Any] | None = None
        self._gram: NDArray[np.float64] | float = 0.0
        self._moment: NDArray[np.float64] | float = 0.0
        self._scale = (1, 1)

    def image(self, latents: Latents) -> Images:
        """Decode latents approximately; the first call decodes exactly, to fit the map.

        Args:
            latents: (C, h, w).

        Returns:
            uint8 (H, W, 3), the size of the VAE's output.

        Raises:
            ValueError: `latents` has another number of dimensions.
        """
        array = latents.detach().float().cpu().numpy() if isinstance(latents, Tensor) else latents
        if array.ndim != 3:
            raise ValueError(f"latents must be (C, h, w), not of shape {tuple(array.shape)}")
        if self._factors is None:
            return self.fit(array)
        if np.isnan(array).all():
            height, width = array.shape[1] * self._scale[0], array.shape[2] * self._scale[1]
            return np.full((height, width, 3), GREY, np.uint8)
        colours = np.clip(np.round(_design(array) @ self._factors * 255), 0, 255).astype(np.uint8)
        small = colours.reshape(*array.shape[1:], 3)
        return small.repeat(self._scale[0], axis=0).repeat(self._scale[1], axis=1)

    def fit(self, latents: NDArray[Any], frames_per_latent: int | None = None) -> Images:
        """Decode latents exactly, and fit the map to this and all earlier exact decodes.

        Args:
            latents: (C, h, w), or (C, F, h, w) of a video.
            frames_per_latent: Of a video, how many of its frames a latent frame after the first stands for.

        Returns:
            uint8 (H, W, 3), the exact image; of a video (F, H, W, 3), the middle one of those of each latent frame.
        """
        exact = self._decode(latents[None])[0]
        if latents.ndim == 3:
            return self._fit(latents, exact)
        factor = frames_per_latent or 1
        middles = [0, *(1 + frame * factor + factor // 2 for frame in range(latents.shape[1] - 1))]
        shown = exact[[min(middle, len(exact) - 1) for middle in middles]]
        for frame, image in enumerate(shown):
            self._fit(latents[:, frame], image)
        return shown

    def _fit(self, latents: NDArray[Any], exact: Images) -> Images:
        _, height, width = latents.shape
        self._scale = exact.shape[0] // height, exact.shape[1] // width
        if np.isnan(latents).all():
            return exact
        blocks = exact.reshape(height, self._scale[0], width, self._scale[1], 3).mean(axis=(1, 3)) / 255
        design = _design(latents)
        self._gram = self._gram + design.T @ design
        self._moment = self._moment + design.T @ blocks.reshape(-1, 3)
        self._factors = np.linalg.lstsq(self._gram, self._moment, rcond=None)[0]
        return exact


def _design(latents: NDArray[Any]) -> NDArray[np.float64]:
    """Design matrix (h * w, C + 1): one row per latent pixel, and a constant column."""
    columns = latents.reshape(len(latents), -1).T.astype(np.float64)
    return np.concatenate([columns, np.ones_like(columns[:, :1])], axis=1)
