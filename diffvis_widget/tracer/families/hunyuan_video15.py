"""HunyuanVideo 1.5: joint attention, image first, then tokens of an image and of quoted text, then Qwen 2.5 VL's.

Quoted text is encoded a second time, by ByT5; the maps of its words are those of their Qwen tokens alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from diffvis_widget.tracer.words import Token

from . import sequence_layouts
from .family import Family, modules_ending, pipelines_named
from .token_streams import TokenStream
from .video_frames import scale_video


def _attended(pipe: Any, tokens: Sequence[Token], length: int) -> list[Token]:
    """Behind the beginning of the template, without padding: that lies elsewhere in the sequence."""
    return [token for token in tokens[len(tokens) - length :] if token.attended]


def _row_layouts(arguments: Mapping[str, Any]) -> Sequence[sequence_layouts.SequenceLayout]:
    """Valid tokens of the image, where there is one, and of quoted text stand before the text."""
    quoted: Tensor = arguments["encoder_attention_mask_2"].bool().sum(dim=1)
    image: Tensor = arguments["image_embeds"]
    starts = quoted + image.shape[1] * torch.any(image != 0)
    return [sequence_layouts.text_after(sequence_layouts.image_then_rest, int(start)) for start in starts.tolist()]


FAMILY = Family(
    name="HunyuanVideo 1.5",
    denoisers=("HunyuanVideo15Transformer3DModel",),
    accepts=pipelines_named(
        "HunyuanVideo15Pipeline", "HunyuanVideo15ImageToVideoPipeline", "HunyuanVideo15ModularPipeline"
    ),
    attention_modules=modules_ending(".attn"),
    token_streams=(TokenStream(("tokenizer",), select=_attended),),
    embedding_indices=(0, None),
    sequence_layout=sequence_layouts.image_then_rest,
    row_layouts=_row_layouts,
    traces_videos=True,
    scale_for_vae=scale_video,
)
