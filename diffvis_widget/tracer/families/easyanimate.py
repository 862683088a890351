"""EasyAnimate, from text, with a mask or with a control video: joint attention to Qwen's tokens, text first."""

from __future__ import annotations

from . import cogvideox, sequence_layouts
from .family import Family, modules_ending, pipelines_named
from .token_streams import TokenStream

FAMILY = Family(
    name="EasyAnimate",
    denoisers=("EasyAnimateTransformer3DModel",),
    accepts=pipelines_named("EasyAnimatePipeline", "EasyAnimateInpaintPipeline", "EasyAnimateControlPipeline"),
    attention_modules=modules_ending(".attn1"),
    token_streams=(TokenStream(("tokenizer",)),),
    sequence_layout=sequence_layouts.text_first,
    patch_size=2,
    traces_videos=True,
    scale_for_vae=cogvideox.scale,
)
