"""ERNIE-Image: joint attention, image first; each text has a tensor of its own length, padded in the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffvis_widget.tracer.packing import unpack

from . import sequence_layouts
from .family import Family, modules_ending
from .token_streams import TokenStream


def _encoded(result: Any) -> Sequence[Any]:
    """`encode_prompt` returns the rows themselves; a modular pipeline has them among others."""
    return result if isinstance(result[0], list) else (result,)


def _scale_by_batch_norm(vae: Any, latents: Tensor) -> Tensor:
    """As FLUX.2, but with an epsilon of the pipeline's own."""
    size = (2 * latents.shape[2], 2 * latents.shape[3])
    mean = vae.bn.running_mean.view(1, -1, 1, 1).to(latents.device, latents.dtype)
    deviation = torch.sqrt(vae.bn.running_var.view(1, -1, 1, 1) + 1e-5).to(latents.device, latents.dtype)
    return unpack((latents * deviation + mean).flatten(2).mT, size, 2)


FAMILY = Family(
    name="ERNIE-Image",
    denoisers=("ErnieImageTransformer2DModel",),
    attention_modules=modules_ending(".self_attention"),
    token_streams=(TokenStream(("tokenizer",)),),
    text_argument="text_bth",
    encoded=_encoded,
    embedding_indices=(0, None),
    sequence_layout=sequence_layouts.image_then_text,
    scale_for_vae=_scale_by_batch_norm,
)
