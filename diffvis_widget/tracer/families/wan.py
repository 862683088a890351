"""Wan 2.1 and 2.2, from text, an image or a video: cross-attention to UMT5; Wan 2.2 (A14B) has two transformers.

Wan 2.2 TI2V (5B) is given the first frame of a video from an image in the place of noise. Lucy Edit sees the video that
it edits in further channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from .family import Family, modules_ending, pipelines_named
from .self_attention import at_a_third
from .token_streams import TokenStream
from .video_frames import VideoFrames

_MODULAR = (
    "WanModularPipeline",
    "WanImage2VideoModularPipeline",
    "Wan22ModularPipeline",
    "Wan22Image2VideoModularPipeline",
)


def _frames(pipe: Any, prepared: Any, arguments: Mapping[str, Any], call: Mapping[str, Any]) -> VideoFrames:
    """With expanded timesteps and an image, `prepare_latents` returns the latents, those of the image, and a mask."""
    is_given = isinstance(prepared, tuple) and len(cast("tuple[Any, ...]", prepared)) == 3
    return VideoFrames(clean_frames=prepared[1]) if is_given else VideoFrames()


FAMILY = Family(
    name="Wan",
    denoisers=("WanTransformer3DModel",),
    accepts=pipelines_named("WanPipeline", "WanImageToVideoPipeline", "LucyEditPipeline", *_MODULAR),
    attention_kind="cross",
    attention_modules=modules_ending(".attn2"),
    self_attention=at_a_third(".attn1"),
    token_streams=(TokenStream(("tokenizer",)),),
    patch_size=2,
    traces_videos=True,
    video_frames=_frames,
    second_denoiser="transformer_2",
)
