"""Tiny modular pipelines that make videos: standard pipelines of the same parts, and how these are guided alike.

Not a test: a workshop, as tests.pipelines.
"""

from __future__ import annotations

from typing import Any

from tests.pipelines_video import VIDEOS
from tests.pipelines_video_joint import JOINT_VIDEOS
from tests.pipelines_video_more import MORE_VIDEOS
from tests.tiny_parts import Case

_WAN_TWO = {"guidance_scale": 5.0, "guidance_scale_2": 3.0}  # as its two guiders

MODULAR_VIDEOS: dict[str, tuple[str, Case, dict[str, Any]]] = {
    "wan": ("WanModularPipeline", VIDEOS["wan"], {}),
    "wan-image": ("WanImage2VideoModularPipeline", VIDEOS["wan-image"], {}),
    "wan-two": ("Wan22ModularPipeline", VIDEOS["wan-two"], _WAN_TWO),
    "wan-two-image": ("Wan22Image2VideoModularPipeline", VIDEOS["wan-two-image"], _WAN_TWO),
    "wan-vace": ("Wan22VaceModularPipeline", MORE_VIDEOS["wan-vace-reference"], _WAN_TWO),
    "ltx": ("LTXModularPipeline", VIDEOS["ltx"], {}),
    "ltx-image": ("LTXModularPipeline", VIDEOS["ltx-image"], {}),
    "ltx2": ("LTX2ModularPipeline", JOINT_VIDEOS["ltx2"], {}),
    "ltx2-image": ("LTX2ModularPipeline", JOINT_VIDEOS["ltx2-image"], {}),
}
# its template is longer than that of the small standard one
HUNYUAN = "HunyuanVideo15ModularPipeline", JOINT_VIDEOS["hunyuan15"]
