"""AnimateDiff and PIA: the U-Net of Stable Diffusion with motion modules, which attend from frame to frame.

Each frame is a row of the batch in cross-attention; motion modules attend to no text.
"""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from . import unet
from .family import Modules
from .video_frames import scale_frames

_ACROSS_FRAMES = ("motion_modules", "temp_attentions", "transformer_in")


def _without_time(modules: Modules) -> Modules:
    return {name: module for name, module in modules.items() if not set(_ACROSS_FRAMES) & set(name.split("."))}


def cross_attention(denoiser: nn.Module) -> Modules:
    """Select the cross-attention of single frames.

    Args:
        denoiser: A U-Net for videos.

    Returns:
        The modules by dotted path, in order of execution.
    """
    return _without_time(unet.FAMILY.attention_modules(denoiser))


def self_attention(denoiser: nn.Module) -> Modules:
    """Select the self-attention of single frames.

    Args:
        denoiser: A U-Net for videos.

    Returns:
        The modules by dotted path, in order of execution.
    """
    return _without_time(unet.FAMILY.self_attention(denoiser))


FAMILY = replace(
    unet.FAMILY,
    name="AnimateDiff",
    denoisers=("UNetMotionModel",),
    attention_modules=cross_attention,
    self_attention=self_attention,
    traces_videos=True,
    frames_in_batch=True,
    text_by_frame=True,
    scale_for_vae=scale_frames,
    freezable=False,
    batches_steps=False,
)
