"""FLUX.2: joint attention; latents are patched before they are normalised."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from diffvis_widget.tracer.packing import unpack

from . import sequence_layouts
from .family import Family, modules_ending
from .reference_grids import from_position_ids
from .token_streams import TokenStream
from .vae_latents import scale_by_config


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
    return unpack_squares(without_batch_norm(vae, latents, vae.config.batch_norm_eps).flatten(2).mT, latents)


def without_batch_norm(vae: Any, latents: Tensor, epsilon: float) -> Tensor:
    """Undo the normalisation of each channel by the statistics in an autoencoder.

    Args:
        vae: The autoencoder.
        latents: (n, C, h, w).
        epsilon: What is added to the variance.

    Returns:
        (n, C, h, w).
    """
    mean = vae.bn.running_mean.view(1, -1, 1, 1).to(latents.device, latents.dtype)
    deviation = torch.sqrt(vae.bn.running_var.view(1, -1, 1, 1) + epsilon).to(latents.device, latents.dtype)
    return latents * deviation + mean


def unpack_squares(rows: Tensor, latents: Tensor) -> Tensor:
    """Lay out squares of two by two latent pixels.

    Args:
        rows: (n, h w, 4 C), the squares.
        latents: (n, 4 C, h, w), whose height and width are those of the grid of squares.

    Returns:
        (n, C, 2 h, 2 w).
    """
    return unpack(rows, (2 * latents.shape[2], 2 * latents.shape[3]), 2)


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
