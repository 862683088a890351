"""HiDream: joint attention to T5, then to Llama twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import sequence_layouts
from .family import Family, modules_ending
from .token_streams import TokenStream


def _lengths(results: Sequence[Any]) -> list[int]:
    """T5's text, then Llama's twice: from its last layer, and from the layer that belongs to the block."""
    t5, llama = results[0][0], results[0][2]
    return [t5.shape[1] + 2 * llama.shape[-2]] * len(t5)


FAMILY = Family(
    name="HiDream",
    denoisers=("HiDreamImageTransformer2DModel",),
    attention_modules=modules_ending(".attn1"),
    token_streams=(TokenStream(("tokenizer_3",), "T5"), TokenStream(("tokenizer_4",), "Llama", repeats=2)),
    text_argument="encoder_hidden_states_t5",
    batch_axes={"encoder_hidden_states_llama3": 1},  # one text per layer of Llama
    text_lengths=_lengths,
    sequence_layout=sequence_layouts.image_first,
    patch_size=2,
)
