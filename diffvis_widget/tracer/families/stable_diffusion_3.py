"""Stable Diffusion 3 and 3.5: joint attention, the text tokens of two CLIPs on the same positions, then those of T5."""

from __future__ import annotations

from . import sequence_layouts
from .concept_streams import ConceptStream, embed_context, pass_context
from .family import Family, modules_ending
from .token_streams import TokenStream

FAMILY = Family(
    name="Stable Diffusion 3",
    denoisers=("SD3Transformer2DModel",),
    attention_modules=modules_ending(".attn"),  # attn2 of SD 3.5 is the image's alone
    token_streams=(TokenStream(("tokenizer", "tokenizer_2"), "CLIP"), TokenStream(("tokenizer_3",), "T5")),
    sequence_layout=sequence_layouts.image_first,
    patch_size=2,
    concept_stream=ConceptStream(embed_context, pass_context),
)
