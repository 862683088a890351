"""Ovis-Image: joint attention to a chat template, padding included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffvis_widget.tracer.words import Token

from . import sequence_layouts
from .family import Family, modules_ending
from .token_streams import TokenStream


def _after_template(pipe: Any, tokens: Sequence[Token], length: int) -> list[Token]:
    """The beginning of the template drops out, padding stays."""
    return list(tokens[pipe.user_prompt_begin_id :])


FAMILY = Family(
    name="Ovis-Image",
    denoisers=("OvisImageTransformer2DModel",),
    attention_modules=modules_ending(".attn"),
    token_streams=(TokenStream(("tokenizer",), select=_after_template),),
    batch_axes={"img_ids": None, "txt_ids": None},
    sequence_layout=sequence_layouts.text_first,
    patch_size=2,
    packing=2,
)
