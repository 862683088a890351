"""The autoencoder of a pipeline, and what it takes of the latents of the loop."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def pipeline_vae(pipe: Any) -> Any:
    """The autoencoder that a pipeline keeps in its attribute `vae`.

    Args:
        pipe: The pipeline.

    Returns:
        The autoencoder, or None for a model that denoises pixels.
    """
    return getattr(pipe, "vae", None)


def scale_by_config(vae: Any, latents: Tensor) -> Tensor:
    """Undo the scaling in which a pipeline's loop keeps its latents, as the VAE's config states it.

    Args:
        vae: The autoencoder; its config has `scaling_factor`, `shift_factor`, `latents_mean` and `latents_std`, or not.
        latents: (n, C, h, w), or (n, C, F, h, w) of videos, as the loop keeps them.

    Returns:
        What `vae.decode` takes: the same form; for an autoencoder for videos, an image as a video of one frame.
    """
    config = vae.config
    scaling = getattr(config, "scaling_factor", None)
    if getattr(config, "z_dim", None) is not None:
        # an autoencoder for videos, scaled per channel; an image is a video of one frame
        latents = latents[:, :, None] if latents.ndim == 4 else latents
        means = torch.tensor(config.latents_mean, dtype=torch.float32).view(1, -1, 1, 1, 1)
        scales = 1.0 / torch.tensor(config.latents_std, dtype=torch.float32).view(1, -1, 1, 1, 1)
        return latents / scales.to(latents) + means.to(latents)
    if scaling is None:
        return latents
    scaling = float(scaling)
    mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is not None and std is not None:
        means = torch.tensor(mean, dtype=latents.dtype, device=latents.device).view(1, -1, 1, 1)
        stds = torch.tensor(std, dtype=latents.dtype, device=latents.device).view(1, -1, 1, 1)
        return latents * stds / scaling + means
    shift = getattr(config, "shift_factor", None)
    latents = latents / scaling
    return latents if shift is None else latents + shift
