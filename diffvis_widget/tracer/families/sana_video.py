"""Sana-Video, from text or an image: linear self-attention, cross-attention to Gemma as in Sana."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from . import sana
from .family import pipelines_named
from .vae_latents import scale_by_config
from .video_frames import VideoFrames


def _frames(pipe: Any, prepared: Any, arguments: Mapping[str, Any], call: Mapping[str, Any]) -> VideoFrames:
    """From an image, the first frame is that image."""
    return VideoFrames(clean_frames=prepared[:, :, :1]) if "image" in arguments else VideoFrames()


def _scale(vae: Any, latents: Tensor) -> Tensor:
    """Undo the normalisation of each channel: of Wan's autoencoder by its config, of LTX-2's by its buffers."""
    statistics = dict(vae.named_buffers(recurse=False))
    if "latents_mean" not in statistics:
        return scale_by_config(vae, latents)
    latents = latents[:, :, None] if latents.ndim == 4 else latents
    mean, deviation = (statistics[name].view(1, -1, 1, 1, 1) for name in ("latents_mean", "latents_std"))
    return latents / torch.reciprocal(deviation).to(latents) + mean.to(latents)


FAMILY = replace(
    sana.FAMILY,
    name="Sana-Video",
    denoisers=("SanaVideoTransformer3DModel",),
    accepts=pipelines_named("SanaVideoPipeline", "SanaImageToVideoPipeline"),
    patch_size=2,
    traces_videos=True,
    video_frames=_frames,
    scale_for_vae=_scale,
)
