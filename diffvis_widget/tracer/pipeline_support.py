"""Refuses pipelines that cannot be recorded, before they run."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from diffvis_widget.tracer.families import Family

from .video_reasons import reason_for

_VIDEOS_ALONE = ("EchoModularPipeline", "MiniMaxH3ModularPipeline", "Cosmos3OmniModularPipeline")
_LAYERS = "it denoises several layers of an image at once, and a trace has one image"
_REASONS = {
    **dict.fromkeys(
        ("AmusedPipeline", "AmusedImg2ImgPipeline", "AmusedInpaintPipeline"),
        "it fills in entries of a codebook: its latents are integers without a noise level",
    ),
    "StableDiffusionPanoramaPipeline": "it denoises overlapping crops, so that no step has latents of the whole image",
    "QwenImageLayeredPipeline": _LAYERS,
    "QwenImageLayeredModularPipeline": _LAYERS,
    "Flux2KleinKVPipeline": "it keeps the keys of reference images from its first step, so that later steps have no "
    "sequence of text, image and references",
}


def reason_why_refused(name: str) -> str | None:
    """Look up why a pipeline cannot be traced.

    Args:
        name: Name of its class.

    Returns:
        The reason, as the end of a sentence; None where none is known.
    """
    return _REASONS.get(name)


def check_pipeline(pipe: Any, family: Family, denoiser: nn.Module) -> None:
    """Check that a pipeline can be recorded, as far as that shows before it runs.

    Args:
        pipe: The pipeline.
        family: The family of its denoiser.
        denoiser: Its denoiser.

    Raises:
        ValueError: It cannot.
    """
    for kind in type(pipe).__mro__:
        if reason := reason_why_refused(kind.__name__):
            raise ValueError(f"{type(pipe).__name__} cannot be traced: {reason}")
        if kind.__name__ in _VIDEOS_ALONE:
            raise ValueError(f"{type(pipe).__name__} cannot be traced: {reason_for(kind.__name__)}")
    parameters = inspect.signature(denoiser.forward).parameters
    is_open = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if family.attention_modules(denoiser) and family.text_argument not in parameters and not is_open:
        raise ValueError(
            f"family {family.name!r}: text_argument names no argument of {type(denoiser).__name__}.forward: "
            f"{family.text_argument!r}; it takes {', '.join(parameters)}"
        )
