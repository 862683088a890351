"""Wan VACE: as Wan, with reference images as frames before those of the video.

Blocks of its own pass the control video on; what these attend to is not counted: their tokens are not the video's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from diffvis_widget.tracer.model_outputs import first_entry

from . import wan
from .family import modules_ending, pipelines_named
from .self_attention import at_a_third
from .video_frames import VideoFrames


def _frames(pipe: Any, prepared: Any, arguments: Mapping[str, Any], call: Mapping[str, Any]) -> VideoFrames:
    if not call:  # a loop of the user's own, which prepares the reference images itself
        return VideoFrames()
    latents = first_entry(prepared)
    output_frames = int(call.get("num_frames") or pipe.default_num_frames)
    references = latents.shape[2] - ((output_frames - 1) // pipe.vae_scale_factor_temporal + 1)
    of_each = latents.shape[3] // FAMILY.patch_size * (latents.shape[4] // FAMILY.patch_size)
    return VideoFrames(padding=references, tokens=slice(references * of_each, None))


FAMILY = replace(
    wan.FAMILY,
    name="Wan VACE",
    denoisers=("WanVACETransformer3DModel",),
    accepts=pipelines_named("WanVACEPipeline", "Wan22VaceModularPipeline"),
    attention_modules=modules_ending(".attn2", inside="blocks"),
    self_attention=at_a_third(".attn1", inside="blocks"),
    video_frames=_frames,
)
