"""NucleusMoE-Image: image tokens attend to the image and, behind it, to a chat template."""

from __future__ import annotations

from diffvis_widget.tracer.guidance import norm_preserving

from . import sequence_layouts
from .family import Family, modules_ending
from .token_streams import TokenStream

FAMILY = Family(
    name="NucleusMoE-Image",
    denoisers=("NucleusMoEImageTransformer2DModel",),
    attention_modules=modules_ending(".attn"),
    token_streams=(TokenStream(("processor",)),),
    embedding_indices=(0, None),
    guidance_candidates=norm_preserving(2),
    sequence_layout=sequence_layouts.image_then_text,
    text_queries=False,
    patch_size=2,
    packing=2,
)
