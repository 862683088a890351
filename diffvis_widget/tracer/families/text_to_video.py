"""ModelScope and Zeroscope: a U-Net with attention from frame to frame between its blocks for single frames."""

from __future__ import annotations

from dataclasses import replace

from . import animatediff

FAMILY = replace(
    animatediff.FAMILY,
    name="U-Net for videos",
    denoisers=("UNet3DConditionModel",),
    text_by_frame=False,
)
