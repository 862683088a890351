"""Latte: PixArt's cross-attention to T5 for each frame, between blocks that attend from frame to frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .family import Family, modules_ending
from .token_streams import TokenStream, padded_behind
from .video_frames import scale_frames


def _decode_arguments(vae: Any, latents: Tensor) -> Mapping[str, Any]:
    """An autoencoder that decodes frames together is told their number."""
    return {"num_frames": len(latents)} if type(vae).__name__ == "AutoencoderKLTemporalDecoder" else {}


FAMILY = Family(
    name="Latte",
    denoisers=("LatteTransformer3DModel",),
    attention_kind="cross",
    attention_modules=modules_ending(".attn2", inside="transformer_blocks"),
    self_attention=modules_ending(".attn1", inside="transformer_blocks"),
    token_streams=(TokenStream(("tokenizer",), select=padded_behind),),
    patch_size=2,
    traces_videos=True,
    frames_in_batch=True,
    scale_for_vae=scale_frames,
    decode_arguments=_decode_arguments,
)
