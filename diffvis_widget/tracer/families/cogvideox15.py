"""CogVideoX 1.5, from text and from an image: as CogVideoX, with image tokens of two latent frames each.

Pipelines fill up an odd number of latent frames by one before the first, and leave it out when they decode.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from diffvis_widget.tracer.model_outputs import first_entry

from . import cogvideox
from .video_frames import VideoFrames


def _accepts(pipe: Any) -> bool:
    return cogvideox.is_known(pipe) and pipe.transformer.config.get("patch_size_t") == 2


def _frames(pipe: Any, prepared: Any, arguments: Mapping[str, Any], call: Mapping[str, Any]) -> VideoFrames:
    if not call:  # a loop of the user's own, which fills up its latents itself
        return VideoFrames()
    output_frames = call.get("num_frames") or pipe.transformer.config.sample_frames
    frames = (int(output_frames) - 1) // pipe.vae_scale_factor_temporal + 1
    return VideoFrames(padding=first_entry(prepared).shape[1] - frames)


FAMILY = replace(cogvideox.FAMILY, name="CogVideoX 1.5", accepts=_accepts, frames_per_token=2, video_frames=_frames)
