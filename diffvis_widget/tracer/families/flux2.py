"""FLUX.2: joint attention; latents are patched before they are normalised."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from diffvis_widget.tracer.packing import unpack

from . import sequence_layouts
from .family import Family, modules_ending, scale_by_config
from .reference_grids import from_position_ids
from .token_streams import TokenStream


def scale_by_batch_norm(vae: Any, latents: Tensor) -> Tensor:
    """Undo a normalisation of squares of two by two latent pixels, by statistics in the autoencoder.

    Args:
        vae: The autoencoder.
        latents: (n, 4 C, h, w), squares as pixels.

    Returns:
        (n, C, 2 h, 2 w).
    """
    if getattr(vae, "bn", None) is None:
        return scale_by_config(vae, latents)
    size = (2 * latents.shape[2], 2 * latents.shape[3])
    mean = vae.bn.running_mean.view(1, -1, 1, 1).to(latents.device, latents.dtype)
    variance = vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps
    scaled = latents * torch.sqrt(variance).to(latents.device, latents.dtype) + mean
    return unpack(scaled.flatten(2).mT, size, 2)


FAMILY = Family(
    name="FLUX.2",
    denoisers=("Flux2Transformer2DModel",),
    attention_modules=modules_ending(".attn"),
    token_streams=(TokenStream(("tokenizer",)),),
    batch_axes={"img_ids": None, "txt_ids": None},
    embedding_indices=(0, None),
    sequence_layout=sequence_layouts.text_first,
    packing=1,
    reference_grids=from_position_ids,
    scale_for_vae=scale_by_batch_norm,
)
