"""LongCat-Image: joint attention to a prompt whose quoted parts are tokenized by characters; padding counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffvis_widget.tracer.words import Token

from . import sequence_layouts
from .family import Family, modules_ending
from .token_streams import TokenStream, padding_tokens


def _padded(pipe: Any, tokens: Sequence[Token], length: int) -> list[Token]:
    """Padding is added behind the pieces; the template around them drops out."""
    return [*tokens[:length], *padding_tokens(length - len(tokens))]


FAMILY = Family(
    name="LongCat-Image",
    denoisers=("LongCatImageTransformer2DModel",),
    attention_modules=modules_ending(".attn"),
    token_streams=(TokenStream(("tokenizer",), select=_padded, in_pieces=True),),
    batch_axes={"img_ids": None, "txt_ids": None},
    embedding_indices=(0, None),
    sequence_layout=sequence_layouts.text_first,
    patch_size=2,
    packing=2,
)
