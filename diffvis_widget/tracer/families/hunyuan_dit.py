"""Hunyuan-DiT: cross-attention to the text tokens of CLIP, then those of T5."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .family import Family, modules_ending
from .token_streams import TokenStream


def _summed_lengths(results: Sequence[Any]) -> list[int]:
    """The texts of both encoders stand one behind the other."""
    return [sum(result[0].shape[1] for result in results)] * len(results[0][0])


FAMILY = Family(
    name="HunyuanDiT",
    denoisers=("HunyuanDiT2DModel",),
    attention_kind="cross",
    attention_modules=modules_ending(".attn2"),
    self_attention=modules_ending(".attn1"),
    token_streams=(TokenStream(("tokenizer",), "CLIP"), TokenStream(("tokenizer_2",), "T5")),
    encode_calls=2,
    text_lengths=_summed_lengths,
    patch_size=2,
)
