"""ChronoEdit: as Wan from an image; it edits the image by way of a short video, whose last frame is the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from diffvis_widget.tracer.fault_guard import CannotRecordError

from . import wan
from .family import pipelines_named
from .video_frames import VideoFrames


def _frames(pipe: Any, prepared: Any, arguments: Mapping[str, Any], call: Mapping[str, Any]) -> VideoFrames:
    if call.get("enable_temporal_reasoning"):
        raise CannotRecordError(
            "enable_temporal_reasoning: it drops frames in the middle of a run, and a trace has as many at every step; "
            "leave it out"
        )
    return VideoFrames()


FAMILY = replace(
    wan.FAMILY,
    name="ChronoEdit",
    denoisers=("ChronoEditTransformer3DModel",),
    accepts=pipelines_named("ChronoEditPipeline"),
    video_frames=_frames,
    second_denoiser=None,
)
