"""CogVideoX, from text and from an image: joint attention to T5, text first; the loop keeps frames before channels."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from . import sequence_layouts
from .family import Family, modules_ending, pipelines_named
from .token_streams import TokenStream

is_known = pipelines_named("CogVideoXPipeline", "CogVideoXImageToVideoPipeline")


def _accepts(pipe: Any) -> bool:
    """CogVideoX 1.5 has tokens of two latent frames each, and a family of its own."""
    return is_known(pipe) and pipe.transformer.config.get("patch_size_t") is None


def scale(vae: Any, latents: Tensor) -> Tensor:
    """Undo the scaling of latents by one factor, multiplied by its reciprocal as the pipelines do.

    Args:
        vae: The autoencoder; its config has `scaling_factor`.
        latents: (n, C, h, w) or (n, C, F, h, w).

    Returns:
        (n, C, F, h, w), what `decode` of the autoencoder takes.
    """
    latents = latents[:, :, None] if latents.ndim == 4 else latents
    return 1 / vae.config.scaling_factor * latents


FAMILY = Family(
    name="CogVideoX",
    denoisers=("CogVideoXTransformer3DModel",),
    accepts=_accepts,
    attention_modules=modules_ending(".attn1"),
    token_streams=(TokenStream(("tokenizer",)),),
    sequence_layout=sequence_layouts.text_first,
    patch_size=2,
    traces_videos=True,
    frames_first=True,
    scale_for_vae=scale,
)
