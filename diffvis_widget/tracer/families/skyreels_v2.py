"""SkyReels V2, from text or an image: as Wan 2.1."""

from __future__ import annotations

from dataclasses import replace

from . import wan
from .family import pipelines_named
from .video_frames import only_frames

FAMILY = replace(
    wan.FAMILY,
    name="SkyReels V2",
    denoisers=("SkyReelsV2Transformer3DModel",),
    accepts=pipelines_named("SkyReelsV2Pipeline", "SkyReelsV2ImageToVideoPipeline"),
    video_frames=only_frames,
    second_denoiser=None,
)
