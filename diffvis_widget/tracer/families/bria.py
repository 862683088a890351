"""Bria 3: joint attention to T5, padding included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffvis_widget.traces.types import Size

from . import sequence_layouts
from .family import Family, modules_ending
from .token_streams import TokenStream


def _latent_size(pipe: Any, arguments: Mapping[str, Any], side: int) -> Size:
    """The scale factor of the pipeline counts whole squares, not latent pixels."""
    height, width = (side * (int(arguments[name]) // pipe.vae_scale_factor) for name in ("height", "width"))
    return height, width


FAMILY = Family(
    name="Bria",
    denoisers=("BriaTransformer2DModel",),
    attention_modules=modules_ending(".attn"),
    token_streams=(TokenStream(("tokenizer",)),),
    batch_axes={"img_ids": None, "txt_ids": None},
    sequence_layout=sequence_layouts.text_first,
    patch_size=2,
    packing=2,
    packed_size=_latent_size,
)
