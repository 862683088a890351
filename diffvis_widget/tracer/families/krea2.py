"""Krea 2: joint attention to a chat template that is padded in its middle; several layers of the encoder are mixed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffvis_widget.tracer.words import Token

from . import sequence_layouts
from .family import Family, modules_ending
from .token_streams import TokenStream, special_tokens

_ENDING = 5  # tokens of the template behind the prompt and its padding


def _prompt_and_ending(pipe: Any, tokens: Sequence[Token], length: int) -> list[Token]:
    """The prompt and its padding without the template's beginning; the template's ending is tokenized apart."""
    return [*tokens[len(tokens) + _ENDING - length :], *special_tokens(_ENDING)]


FAMILY = Family(
    name="Krea 2",
    denoisers=("Krea2Transformer2DModel",),
    attention_modules=modules_ending(".attn", inside="transformer_blocks"),
    token_streams=(TokenStream(("tokenizer",), select=_prompt_and_ending),),
    batch_axes={"position_ids": None},
    embedding_indices=(0, None),
    sequence_layout=sequence_layouts.text_first,
    patch_size=2,
    packing=2,
)
