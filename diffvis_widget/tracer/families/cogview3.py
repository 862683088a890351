"""CogView3-Plus: joint attention to T5."""

from __future__ import annotations

from . import sequence_layouts
from .family import Family, modules_ending
from .token_streams import TokenStream

FAMILY = Family(
    name="CogView3-Plus",
    denoisers=("CogView3PlusTransformer2DModel",),
    attention_modules=modules_ending(".attn1"),
    token_streams=(TokenStream(("tokenizer",)),),
    sequence_layout=sequence_layouts.text_first,
    patch_size=2,
)
