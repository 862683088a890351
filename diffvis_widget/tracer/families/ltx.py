"""LTX Video, from text, an image or conditions: cross-attention to T5; latents are a sequence, frame by frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from diffvis_widget.tracer.packing import unpack_video
from diffvis_widget.traces.types import Size

from .family import Family, modules_ending, pipelines_named
from .self_attention import at_a_third
from .token_streams import TokenStream
from .video_frames import VideoFrames


def latent_size(pipe: Any, arguments: Mapping[str, Any], side: int) -> Size:
    """The size of the latents of LTX Video and LTX-2.

    Args:
        pipe: The pipeline.
        arguments: Arguments of `prepare_latents`, with "height" and "width" in pixels.
        side: Latent pixels along one side of a packed square; always 1.

    Returns:
        (h, w) in latent pixels.
    """
    height, width = (int(arguments[name]) // pipe.vae_spatial_compression_ratio for name in ("height", "width"))
    return height, width


def scale(vae: Any, latents: Tensor) -> Tensor:
    """Undo the normalisation of each channel, whose statistics are buffers of the autoencoder.

    Args:
        vae: The autoencoder.
        latents: (n, C, h, w) or (n, C, F, h, w), as the loop keeps them.

    Returns:
        (n, C, F, h, w), what `vae.decode` takes.
    """
    latents = latents[:, :, None] if latents.ndim == 4 else latents
    mean, deviation = (part.view(1, -1, 1, 1, 1).to(latents) for part in (vae.latents_mean, vae.latents_std))
    return latents * deviation / vae.config.scaling_factor + mean


def decode_arguments(vae: Any, latents: Tensor) -> Mapping[str, Any]:
    """An autoencoder that denoises while it decodes is told that there is no noise left, as the pipelines do.

    Args:
        vae: The autoencoder.
        latents: What its `decode` takes.

    Returns:
        Further arguments of `decode`.
    """
    if not vae.config.timestep_conditioning:
        return {}
    return {"temb": torch.zeros(len(latents), device=latents.device, dtype=latents.dtype)}


def first_frame(pipe: Any, prepared: Any, arguments: Mapping[str, Any]) -> VideoFrames:
    """The clean first frame of a video from an image.

    Args:
        pipe: The pipeline.
        prepared: Packed latents, and a mask (n, tokens) that is 1 in the first frame.
        arguments: Arguments of `prepare_latents`.

    Returns:
        The first frame, given.
    """
    latents, mask = prepared
    return VideoFrames(clean_frames=unpack_video(latents[:, : int(mask[0].sum())], latent_size(pipe, arguments, 1), 1))


def _frames(pipe: Any, prepared: Any, arguments: Mapping[str, Any], call: Mapping[str, Any]) -> VideoFrames:
    """With conditions, `prepare_latents` also returns positions, and the number of tokens of images on later frames."""
    if not isinstance(prepared, tuple):
        return VideoFrames()
    if len(cast("tuple[Any, ...]", prepared)) == 4:
        return VideoFrames(tokens=slice(int(prepared[3]), None))
    return first_frame(pipe, prepared, arguments)


FAMILY = Family(
    name="LTX Video",
    denoisers=("LTXVideoTransformer3DModel",),
    accepts=pipelines_named("LTXPipeline", "LTXImageToVideoPipeline", "LTXConditionPipeline", "LTXModularPipeline"),
    attention_kind="cross",
    attention_modules=modules_ending(".attn2"),
    self_attention=at_a_third(".attn1"),
    token_streams=(TokenStream(("tokenizer",)),),
    embedding_indices=(0, 2),
    packing=1,
    packed_size=latent_size,
    traces_videos=True,
    video_frames=_frames,
    scale_for_vae=scale,
    decode_arguments=decode_arguments,
)
