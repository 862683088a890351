"""Sana: linear self-attention, cross-attention to Gemma behind a long template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffvis_widget.tracer.words import Token

from .family import Family, modules_ending
from .token_streams import TokenStream


def _first_and_last(pipe: Any, tokens: Sequence[Token], length: int) -> list[Token]:
    """The start token and the end of the rest, so that a long template drops out."""
    return [*tokens[:1], *tokens[len(tokens) - length + 1 :]]


FAMILY = Family(
    name="Sana",
    denoisers=("SanaTransformer2DModel",),
    attention_kind="cross",
    attention_modules=modules_ending(".attn2"),
    token_streams=(TokenStream(("tokenizer",), select=_first_and_last),),
    embedding_indices=(0, 2),
)
