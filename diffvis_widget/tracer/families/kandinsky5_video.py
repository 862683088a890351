"""Kandinsky 5 for videos, from text or an image: as for images, with the frames before height and width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from diffvis_widget.tracer.fault_guard import CannotRecordError

from . import kandinsky5
from .family import pipelines_named
from .self_attention import at_a_third
from .video_frames import VideoFrames, scale_video


def _frames(pipe: Any, prepared: Any, arguments: Mapping[str, Any], call: Mapping[str, Any]) -> VideoFrames:
    """From an image, the first frame of the prepared latents is that image; further channels tell the denoiser so."""
    if pipe.transformer.config.attention_type == "nabla":
        raise CannotRecordError(
            "Kandinsky 5 with nabla attention is not traced: it reorders the image tokens in blocks of 8 x 8; use a "
            "checkpoint with regular attention"
        )
    if "image" not in arguments:
        return VideoFrames()
    channels = pipe.transformer.config.in_visual_dim
    return VideoFrames(clean_frames=prepared[:, :1, :, :, :channels].permute(0, 4, 1, 2, 3))


FAMILY = replace(
    kandinsky5.FAMILY,
    name="Kandinsky 5 for videos",
    accepts=pipelines_named("Kandinsky5T2VPipeline", "Kandinsky5I2VPipeline"),
    self_attention=at_a_third(".self_attention", inside="visual_transformer_blocks"),
    traces_videos=True,
    video_frames=_frames,
    scale_for_vae=scale_video,
)
