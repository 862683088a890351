"""ERNIE-Image: joint attention, image first; each text has a tensor of its own length, padded in the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from . import sequence_layouts
from .family import Family, modules_ending
from .flux2 import unpack_squares, without_batch_norm
from .token_streams import TokenStream


def _encoded(result: Any) -> Sequence[Any]:
    """`encode_prompt` returns the rows themselves; a modular pipeline has them among others."""
    return result if isinstance(result[0], list) else (result,)


def _scale(vae: Any, latents: Tensor) -> Tensor:
    """As FLUX.2, but with an epsilon of the pipeline's own."""
    return unpack_squares(without_batch_norm(vae, latents, 1e-5).flatten(2).mT, latents)


FAMILY = Family(
    name="ERNIE-Image",
    denoisers=("ErnieImageTransformer2DModel",),
    attention_modules=modules_ending(".self_attention"),
    token_streams=(TokenStream(("tokenizer",)),),
    text_argument="text_bth",
    encoded=_encoded,
    embedding_indices=(0, None),
    sequence_layout=sequence_layouts.image_then_text,
    scale_for_vae=_scale,
)
