"""Tiny modular pipelines: the parts of the standard ones, called by blocks.

Not a test: a workshop, as tests.pipelines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers

from tests import pipelines, pipelines_chat, pipelines_joint, pipelines_more
from tests.tiny_parts import quiet


def with_parts(pipe: Any, whole: Any, **parts: Any) -> Any:
    """A modular pipeline, given those parts of a standard one that it takes.

    Args:
        pipe: The modular pipeline.
        whole: The standard pipeline.
        **parts: Further components, such as a guider.
    """
    shared = {
        part: value for part, value in whole.components.items() if part in pipe.component_names and value is not None
    }
    pipe.update_components(**shared, **parts)
    return quiet(pipe)


def modular(name: str, whole: Any, **parts: Any) -> Any:
    """A modular pipeline of the default blocks of its class, see `with_parts`."""
    return with_parts(getattr(diffusers, name)(), whole, **parts)


# the standard pipeline, its arguments for a fast run, and how the standard pipeline is guided as the guider guides
STANDARD: dict[str, tuple[str, Callable[[], Any], dict[str, Any], dict[str, Any]]] = {
    "modular-sdxl": (
        "StableDiffusionXLModularPipeline",
        pipelines.stable_diffusion_xl,
        {"height": 32, "width": 48},
        {"guidance_scale": 7.5},
    ),
    **{
        f"modular-{name}": (kind, case.build, case.arguments, guidance)
        for name, kind, case, guidance in [
            ("sd3", "StableDiffusion3ModularPipeline", pipelines_joint.CASES["sd3"], {"guidance_scale": 7.0}),
            ("flux", "FluxModularPipeline", pipelines_joint.CASES["flux"], {}),
            ("kontext", "FluxKontextModularPipeline", pipelines_more.CASES["flux-kontext"], {}),
            ("qwen", "QwenImageModularPipeline", pipelines_joint.CASES["qwen"], {"true_cfg_scale": 4.0}),
            ("z-image", "ZImageModularPipeline", pipelines_chat.CASES["z-image"], {"guidance_scale": 0.0}),
            ("flux2", "Flux2ModularPipeline", pipelines_chat.CASES["flux2"], {}),
            ("klein", "Flux2KleinBaseModularPipeline", pipelines_chat.CASES["flux2-klein"], {"guidance_scale": 4.0}),
            ("klein-distilled", "Flux2KleinModularPipeline", pipelines_chat.CASES["flux2-klein-distilled"], {}),
        ]
    },
}
