"""Mochi: joint attention to T5, image first; each row of the batch attends by itself, to its own text tokens alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import sequence_layouts
from .family import Family, modules_ending
from .token_streams import TokenStream
from .video_frames import scale_video


def _scale(vae: Any, latents: Tensor) -> Tensor:
    """Undo the normalisation of each channel, where the config states it."""
    mean, deviation = (vae.config.get(name) for name in ("latents_mean", "latents_std"))
    if mean is None or deviation is None:
        return scale_video(vae, latents)
    latents = latents[:, :, None] if latents.ndim == 4 else latents
    means, deviations = (torch.tensor(part).view(1, -1, 1, 1, 1).to(latents) for part in (mean, deviation))
    return latents * deviations / vae.config.scaling_factor + means


FAMILY = Family(
    name="Mochi",
    denoisers=("MochiTransformer3DModel",),
    attention_modules=modules_ending(".attn1"),
    token_streams=(TokenStream(("tokenizer",)),),
    embedding_indices=(0, 2),
    sequence_layout=sequence_layouts.image_then_rest,
    attends_by_row=True,
    patch_size=2,
    traces_videos=True,
    scale_for_vae=_scale,
)
