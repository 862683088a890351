"""I2VGen-XL: a U-Net for videos whose cross-attention has keys of an image behind those of the text, in one softmax."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from . import animatediff
from .family import Modules


def _self_attention(denoiser: nn.Module) -> Modules:
    """Without that of the encoder of the image, which attends from frame to frame."""
    modules = animatediff.self_attention(denoiser)
    return {name: module for name, module in modules.items() if not name.startswith("image_latents")}


FAMILY = replace(
    animatediff.FAMILY,
    name="I2VGen-XL",
    denoisers=("I2VGenXLUNet",),
    self_attention=_self_attention,
    image_among_keys=True,
    text_by_frame=False,
    concept_keys=None,  # their share of a softmax in which an image takes part was not tried
)
