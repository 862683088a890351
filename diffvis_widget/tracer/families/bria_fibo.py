"""Bria FIBO: joint attention to SmolLM3, whose layers feed the blocks; the latents are packed pixel by pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffvis_widget.traces.types import Size

from . import sequence_layouts
from .family import Family, modules_ending
from .reference_grids import from_position_ids
from .token_streams import TokenStream


def _latent_size(pipe: Any, arguments: Mapping[str, Any], side: int) -> Size:
    height, width = (int(arguments[name]) // pipe.vae_scale_factor for name in ("height", "width"))
    return height, width


FAMILY = Family(
    name="Bria FIBO",
    denoisers=("BriaFiboTransformer2DModel",),
    attention_modules=modules_ending(".attn"),
    token_streams=(TokenStream(("tokenizer",)),),
    batch_axes={"img_ids": None, "txt_ids": None},
    sequence_layout=sequence_layouts.text_first,
    packing=1,
    packed_size=_latent_size,
    reference_grids=from_position_ids,
)
