"""PRX: text and image as keys of one attention, and only image tokens as queries."""

from __future__ import annotations

from . import sequence_layouts
from .family import Family, modules_ending
from .token_streams import TokenStream

FAMILY = Family(
    name="PRX",
    denoisers=("PRXTransformer2DModel",),
    attention_modules=modules_ending(".attention"),
    token_streams=(TokenStream(("tokenizer",)),),
    embedding_indices=(0, 2),
    sequence_layout=sequence_layouts.text_first,
    text_queries=False,
    patch_size=2,
)
