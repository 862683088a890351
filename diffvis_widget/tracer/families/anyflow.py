"""AnyFlow: as Wan, but its loop keeps frames before channels, unlike its `prepare_latents`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from diffvis_widget.tracer.fault_guard import CannotRecordError

from . import wan
from .family import pipelines_named
from .video_frames import VideoFrames


def _frames(pipe: Any, prepared: Any, arguments: Mapping[str, Any], call: Mapping[str, Any]) -> VideoFrames:
    if any(call.get(name) is not None for name in ("video", "video_latents")):
        raise CannotRecordError(
            "video, video_latents: videos that continue given frames are not traced, because no step of this pipeline "
            "has them in its latents; leave them out"
        )
    return VideoFrames(prepared_channels_first=True)


FAMILY = replace(
    wan.FAMILY,
    name="AnyFlow",
    denoisers=("AnyFlowTransformer3DModel",),
    accepts=pipelines_named("AnyFlowPipeline"),
    video_frames=_frames,
    frames_first=True,
    second_denoiser=None,
)
