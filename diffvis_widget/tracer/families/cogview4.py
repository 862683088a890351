"""CogView4: joint attention to GLM, padded on the left."""

from __future__ import annotations

from . import sequence_layouts
from .family import Family, modules_ending
from .token_streams import TokenStream, padded_in_front

FAMILY = Family(
    name="CogView4",
    denoisers=("CogView4Transformer2DModel",),
    attention_modules=modules_ending(".attn1"),
    token_streams=(TokenStream(("tokenizer",), select=padded_in_front),),
    sequence_layout=sequence_layouts.text_first,
    patch_size=2,
)
