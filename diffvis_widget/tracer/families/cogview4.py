"""CogView4: joint attention to GLM, padded on the left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffvis_widget.tracer.words import Token

from . import sequence_layouts
from .family import Family, modules_ending
from .token_streams import TokenStream, padding_tokens


def _padded_on_the_left(pipe: Any, tokens: Sequence[Token], length: int) -> list[Token]:
    """The pipeline adds padding in front, up to a multiple of 16."""
    return [*padding_tokens(length - len(tokens)), *tokens]


FAMILY = Family(
    name="CogView4",
    denoisers=("CogView4Transformer2DModel",),
    attention_modules=modules_ending(".attn1"),
    token_streams=(TokenStream(("tokenizer",), select=_padded_on_the_left),),
    sequence_layout=sequence_layouts.text_first,
    patch_size=2,
)
