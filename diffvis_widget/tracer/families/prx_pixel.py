"""PRXPixel: PRX on the pixels of the image, which predicts the clean image; its loop makes a flow of it."""

from __future__ import annotations

from dataclasses import replace

from diffvis_widget.tracer.noise_levels import NoiseLevel

from . import prx
from .family import pipelines_named

_LEAST_TIME = 0.05
"""The loop divides by no smaller time."""


def _as_flow(level: NoiseLevel) -> tuple[float, float]:
    time = max(level.sigma, _LEAST_TIME)
    return 1.0 / time, -1.0 / time


FAMILY = replace(
    prx.FAMILY,
    name="PRXPixel",
    accepts=pipelines_named("PRXPixelPipeline"),
    patch_size_in_config=True,
    scheduler_output=_as_flow,
)
