"""What pipelines add to the latents of a video besides its own frames: clean frames, padding, condition tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class VideoFrames:
    """What the latents of a call hold besides the frames that are denoised.

    Attributes:
        clean_frames: (n, C, k, h, w), clean latents of the first k frames, which the denoiser receives and no step
            changes; None: every frame is denoised.
        padding: Number of frames before the first one, which the pipeline leaves out when it decodes.
        tokens: Where the tokens of the video lie in packed latents, or among the queries of cross-attention; the
            others show images to the denoiser.
        prepared_channels_first: Whether `prepare_latents` returns (n, C, F, h, w), whatever the loop keeps.
    """

    clean_frames: Tensor | None = None
    padding: int = 0
    tokens: slice = field(default_factory=lambda: slice(None))
    prepared_channels_first: bool = False


FindFrames = Callable[[Any, Any, Mapping[str, Any], Mapping[str, Any]], VideoFrames]
"""(pipeline, what its `prepare_latents` returned, arguments of that, arguments of its `__call__`) -> what the latents
hold."""


def only_frames(pipe: Any, prepared: Any, arguments: Mapping[str, Any], call: Mapping[str, Any]) -> VideoFrames:
    """Latents that hold the frames of the video alone, and all of them are denoised.

    Args:
        pipe: The pipeline.
        prepared: What its `prepare_latents` returned.
        arguments: Arguments of that.
        call: Arguments of the pipeline's `__call__`; empty outside of it.

    Returns:
        Nothing besides the frames.
    """
    return VideoFrames()


def scale_frames(vae: Any, latents: Tensor) -> Tensor:
    """Undo the scaling of latents by one factor, for an autoencoder that decodes the frames of a video as images.

    Args:
        vae: The autoencoder; its config has `scaling_factor`.
        latents: (n, C, h, w) or (n, C, F, h, w), as the loop keeps them.

    Returns:
        (n, C, h, w) or (n * F, C, h, w), what `vae.decode` takes.
    """
    latents = 1 / vae.config.scaling_factor * latents
    return latents.transpose(1, 2).flatten(0, 1) if latents.ndim == 5 else latents


def scale_video(vae: Any, latents: Tensor) -> Tensor:
    """Undo the scaling of latents by one factor for all channels.

    Args:
        vae: The autoencoder; its config has `scaling_factor`.
        latents: (n, C, h, w) or (n, C, F, h, w), as the loop keeps them.

    Returns:
        (n, C, F, h, w), what `vae.decode` takes.
    """
    return (latents[:, :, None] if latents.ndim == 4 else latents) / vae.config.scaling_factor
