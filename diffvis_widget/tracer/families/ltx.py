"""LTX Video: cross-attention to T5; the loop keeps latents as a sequence, frame by frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from diffvis_widget.traces.types import Size

from .family import Family, modules_ending, pipelines_named
from .token_streams import TokenStream


def _latent_size(pipe: Any, arguments: Mapping[str, Any], side: int) -> Size:
    height, width = (int(arguments[name]) // pipe.vae_spatial_compression_ratio for name in ("height", "width"))
    return height, width


def _scale(vae: Any, latents: Tensor) -> Tensor:
    """Undo the normalisation of each channel, whose statistics are buffers of the autoencoder."""
    latents = latents[:, :, None] if latents.ndim == 4 else latents
    mean, deviation = (part.view(1, -1, 1, 1, 1).to(latents) for part in (vae.latents_mean, vae.latents_std))
    return latents * deviation / vae.config.scaling_factor + mean


def _decode_arguments(vae: Any, latents: Tensor) -> Mapping[str, Any]:
    """An autoencoder that denoises while it decodes is told that there is no noise left, as the pipeline does."""
    if not vae.config.timestep_conditioning:
        return {}
    return {"temb": torch.zeros(len(latents), device=latents.device, dtype=latents.dtype)}


FAMILY = Family(
    name="LTX Video",
    denoisers=("LTXVideoTransformer3DModel",),
    accepts=pipelines_named("LTXPipeline"),
    attention_kind="cross",
    attention_modules=modules_ending(".attn2"),
    token_streams=(TokenStream(("tokenizer",)),),
    embedding_indices=(0, 2),
    packing=1,
    packed_size=_latent_size,
    traces_videos=True,
    scale_for_vae=_scale,
    decode_arguments=_decode_arguments,
)
