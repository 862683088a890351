"""Cosmos 2 from a video or an image, and Cosmos 2.5, also from text: cross-attention to T5 or to Qwen's tokens.

The frames that are given take the place of noise in what the denoiser receives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor

from .family import Family, modules_ending, pipelines_named
from .self_attention import at_a_third
from .token_streams import TokenStream
from .video_frames import VideoFrames


def _frames(pipe: Any, prepared: Any, arguments: Mapping[str, Any], call: Mapping[str, Any]) -> VideoFrames:
    """`prepare_latents` also returns the latents of the given frames, and where they are: 1 in these frames."""
    _, clean, third, fourth, *_ = cast("tuple[Tensor, ...]", prepared)
    indicator = next(part for part in (third, fourth) if part.shape[-2:] == (1, 1))
    count = int(indicator[0].sum())
    return VideoFrames(clean_frames=clean[:, :, :count]) if count else VideoFrames()


FAMILY = Family(
    name="Cosmos",
    denoisers=("CosmosTransformer3DModel",),
    accepts=pipelines_named("Cosmos2VideoToWorldPipeline", "Cosmos2_5_PredictBasePipeline"),
    attention_kind="cross",
    attention_modules=modules_ending(".attn2"),
    self_attention=at_a_third(".attn1"),
    token_streams=(TokenStream(("tokenizer",)),),
    patch_size=2,
    traces_videos=True,
    video_frames=_frames,
)
