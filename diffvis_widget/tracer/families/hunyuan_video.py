"""HunyuanVideo: joint attention to Llama inside a template, image first; Skyreels V1 makes videos from images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffvis_widget.tracer.words import Token

from . import sequence_layouts
from .family import Family, modules_ending, pipelines_named
from .token_streams import TokenStream
from .video_frames import scale_video


def _after_template(pipe: Any, tokens: Sequence[Token], length: int) -> list[Token]:
    """The beginning of the template is dropped; what follows the prompt, and padding, stays."""
    return list(tokens[len(tokens) - length :])


FAMILY = Family(
    name="HunyuanVideo",
    denoisers=("HunyuanVideoTransformer3DModel",),
    accepts=pipelines_named("HunyuanVideoPipeline", "HunyuanSkyreelsImageToVideoPipeline"),
    attention_modules=modules_ending(".attn"),
    token_streams=(TokenStream(("tokenizer",), select=_after_template),),
    embedding_indices=(0, None),
    sequence_layout=sequence_layouts.image_first,
    patch_size=2,
    traces_videos=True,
    scale_for_vae=scale_video,
)
