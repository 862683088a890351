"""HunyuanImage 2.1: joint attention, image first, then quoted text by ByT5, then Qwen's tokens, then all padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from diffvis_widget.tracer.words import Token

from . import sequence_layouts
from .family import Family, modules_ending
from .token_streams import TokenStream, attended_tokens, special_tokens


def _lengths(results: Sequence[Any]) -> list[int]:
    """The tokens of both encoders without padding, which comes behind them."""
    first, second = results[0][1], results[0][3]
    lengths: Tensor = first.sum(dim=1) + second.sum(dim=1)
    return [int(length) for length in lengths.tolist()]


def _quoted_then_prompt(pipe: Any, tokens: Sequence[Token], length: int) -> list[Token]:
    """The bytes of quoted text, which have no words of their own, then the prompt behind the template's beginning."""
    prompt = attended_tokens(pipe, tokens, length)[int(pipe.prompt_template_encode_start_idx) :]
    return [*special_tokens(length - len(prompt)), *prompt]


FAMILY = Family(
    name="HunyuanImage 2.1",
    denoisers=("HunyuanImageTransformer2DModel",),
    attention_modules=modules_ending(".attn", inside=("transformer_blocks", "single_transformer_blocks")),
    token_streams=(TokenStream(("tokenizer",), select=_quoted_then_prompt),),
    embedding_indices=(0, None),
    text_lengths=_lengths,
    sequence_layout=sequence_layouts.image_then_text,
)
