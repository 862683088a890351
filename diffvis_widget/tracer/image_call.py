"""Traces an image that exists: noised to chosen levels, and evaluated once at each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diffvis_widget.arguments import shorten
from diffvis_widget.tracer.families import Family, find_family
from diffvis_widget.traces import Trace
from diffvis_widget.traces.types import Images, Keep

from .call_output import unscale_from_vae
from .fixed_levels import check_timesteps, levels_of
from .locks import decoder_lock, own_work
from .packing import pack
from .trace_call import check_seed, private_copy, trace

NOTE = "an image that was given, noised to each level; the model made no image"


def trace_image(
    pipe: Any,
    image: Image.Image | Images,
    prompt: str,
    *,
    timesteps: Sequence[float],
    concepts: Sequence[str] = (),
    seed: int | None = None,
    negative_prompt: str | None = None,
    keep: Keep | None = None,
    output: bool = False,
    **pipe_kwargs: Any,
) -> Trace:
    """Trace how a model sees an image that exists.

    The image is encoded by the pipeline's autoencoder, noised to each level by the forward process of the pipeline's
    scheduler, and the denoiser is evaluated once at each level, with the prompt. Nothing is generated: each step of the
    trace is a level, its prediction is what the model takes the image for, and `trace.image` is the image itself.

    Args:
        pipe: A text-to-image pipeline of diffusers with an autoencoder: Stable Diffusion 1, 2 or XL, Stable Diffusion 3
            or FLUX.1.
        image: RGB or grey; its sides must be multiples of the size of an image token, 8 or 16 for most models.
        prompt: A text; "" for none. The maps of its words are traced.
        timesteps: The levels, whole numbers from 0 (hardly any noise) to 999; with flow matching, numbers from 1 to
            1000.
        concepts: Words outside the prompt whose maps are wanted, see `Tracer`.
        seed: Of the noise of the first level, 0 to 2**64 - 1; each further one has the next number. None draws one,
            which `trace.meta["seed"]` holds.
        negative_prompt: The negative prompt, or None.
        keep: Which attention maps to store, see `Tracer`.
        output: Whether to record output-space scores, see `Tracer`.
        **pipe_kwargs: Other arguments of the pipeline call, such as `guidance_scale`.

    Returns:
        The trace, with one step for each level, from the highest to the lowest.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: The image has another shape, mode or size, a level is out of range, the pipeline has no encoder, or
            it cannot be traced.

    Example:
        >>> import diffvis_widget as dv
        >>> image = dv.scenes.draw(3).image
        >>> trace = dv.trace_image(dv.load(), image, "a drawing", timesteps=[500], concepts=["circle"])
        >>> trace.heat_map("circle").shape
        (12, 12)
    """
    number = check_seed(seed) or 0
    pixels = _pixels(image)
    family, _ = find_family(pipe)
    vae = _encoder(pipe, family)
    levels = check_timesteps(pipe.scheduler, timesteps)
    height, width = pixels.shape[:2]
    side = int(getattr(pipe, "vae_scale_factor", 8)) * (family.packing or family.patch_size)
    if height % side or width % side:
        fits = max(side, round(width / side) * side), max(side, round(height / side) * side)
        raise ValueError(
            f"image: {width} x {height} pixels do not fit image tokens of {side} x {side}; "
            f"resize it, for example by image.resize({fits})"
        )
    clean = _encode(pipe, family, vae, pixels)
    noise = [
        torch.randn(clean.shape, generator=torch.Generator().manual_seed((number + index) % 2**64))
        for index in range(len(levels))
    ]

    def packed(latents: Tensor) -> Tensor:
        return pack(latents, family.packing) if family.packing else latents

    clone = private_copy(pipe)
    clone.scheduler = levels_of(pipe.scheduler, clean, levels, noise, packed)
    dtype = next(getattr(pipe, family.denoiser_attribute).parameters()).dtype
    result = trace(
        clone,
        prompt,
        seed=number,
        num_inference_steps=len(levels),
        negative_prompt=negative_prompt,
        keep=keep,
        output=output,
        concepts=concepts,
        latents=clone.scheduler.fixed_samples[0].to(dtype),
        height=height,
        width=width,
        **pipe_kwargs,
    )
    result.finish(image=pixels, decoded=result.decoded_image)
    result.meta["image_note"] = NOTE
    return result


def _pixels(image: Any) -> Images:
    if isinstance(image, Image.Image):
        if image.mode not in ("RGB", "L"):
            raise ValueError(f'image: its mode is {image.mode!r}; convert it by image.convert("RGB")')
        return np.array(image.convert("RGB"))
    if not isinstance(image, np.ndarray):
        raise TypeError(f"image must be a PIL image or an array uint8 (H, W, 3), not {shorten(image)}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"image must be uint8 (H, W, 3), not {image.dtype} {image.shape}")
    return np.array(image)


def _encoder(pipe: Any, family: Family) -> Any:
    vae = family.vae_of(pipe)
    if vae is None or not hasattr(vae, "encode") or getattr(vae, "encoder", None) is None:
        raise ValueError(
            f"{type(pipe).__name__} has no encoder that turns an image into latents: its "
            f"{'denoiser works on pixels' if vae is None else 'autoencoder has a decoder alone'}"
        )
    if family.concept_keys is None and family.concept_stream is None:
        raise ValueError(
            f"trace_image is known for Stable Diffusion 1, 2, XL and 3 and FLUX.1, not for the {family.name} of "
            f"{type(pipe).__name__}"
        )
    return vae


def _encode(pipe: Any, family: Family, vae: Any, pixels: Images) -> Tensor:
    """The latents of an image on the scale of the pipeline's loop, float32 (1, C, h, w) on the CPU."""
    weights = next(vae.parameters())
    batch = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(weights.device, weights.dtype) / 127.5 - 1
    with decoder_lock(pipe), own_work(), torch.no_grad():
        encoded = vae.encode(batch)
    latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
    shape = (int(latents.shape[1]), int(latents.shape[2]), int(latents.shape[3]))
    return unscale_from_vae(family, vae, latents, shape)
