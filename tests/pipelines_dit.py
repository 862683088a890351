"""Every tiny pipeline of the workshop beyond tests.pipelines, by family, with arguments for a fast run of it."""

from __future__ import annotations

from tests import (
    pipelines_chat,
    pipelines_control,
    pipelines_cross,
    pipelines_dreamlite,
    pipelines_joint,
    pipelines_joyimage,
    pipelines_kolors,
    pipelines_more,
    pipelines_omni,
    pipelines_recent,
    pipelines_unet,
    pipelines_unet_more,
)
from tests.tiny_parts import Case

FAMILIES: dict[str, Case] = {
    **pipelines_joint.CASES,
    **pipelines_chat.CASES,
    **pipelines_cross.CASES,
    **pipelines_unet.CASES,
    **pipelines_unet_more.CASES,
    **pipelines_more.CASES,
    **pipelines_recent.CASES,
    **pipelines_control.CASES,
    **pipelines_kolors.CASES,
    **pipelines_joyimage.CASES,
    **pipelines_dreamlite.CASES,
    **pipelines_omni.CASES,
}
