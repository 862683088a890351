"""AuraFlow: joint attention behind register tokens."""

from __future__ import annotations

from .family import Family, modules_ending
from .sequence_layouts import Spans
from .token_streams import TokenStream


def _registers_first(keys: int, text: int, image: int) -> Spans | None:
    """Register tokens, text, image: the image closes the sequence."""
    start = keys - image
    return (slice(start - text, start), slice(start, keys)) if text + image <= keys else None


FAMILY = Family(
    name="AuraFlow",
    denoisers=("AuraFlowTransformer2DModel",),
    attention_modules=modules_ending(".attn"),
    token_streams=(TokenStream(("tokenizer",)),),
    embedding_indices=(0, 2),
    sequence_layout=_registers_first,
    patch_size=2,
)
