"""Kandinsky 6, from text or an image: cross-attention of the video to Qwen's tokens; its audio is not traced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diffvis_widget.tracer.words import Token

from .family import Family, modules_ending, pipelines_named
from .self_attention import at_a_third
from .token_streams import TokenStream
from .video_frames import VideoFrames, scale_video


def _after_template(pipe: Any, tokens: Sequence[Token], length: int) -> list[Token]:
    """The beginning of the template is dropped; what follows the prompt, and padding, stays."""
    return list(tokens[len(tokens) - length :])


def _frames(pipe: Any, prepared: Any, arguments: Mapping[str, Any], call: Mapping[str, Any]) -> VideoFrames:
    """An image is one more frame behind those of the video."""
    _, frames, height, width, _ = prepared.shape
    return VideoFrames(tokens=slice(frames * (height // FAMILY.patch_size) * (width // FAMILY.patch_size)))


FAMILY = Family(
    name="Kandinsky 6",
    denoisers=("Kandinsky6Transformer3DModel",),
    accepts=pipelines_named("Kandinsky6TI2VAPipeline"),
    attention_kind="cross",
    attention_modules=modules_ending(".video_dec_block.cross_attention"),
    self_attention=at_a_third(".video_dec_block.self_attention"),
    token_streams=(TokenStream(("tokenizer",), select=_after_template),),
    embedding_indices=(0, 3),
    patch_size=2,
    channels_last=True,
    traces_videos=True,
    video_frames=_frames,
    scale_for_vae=scale_video,
)
