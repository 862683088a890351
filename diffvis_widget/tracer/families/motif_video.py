"""Motif-Video, from text or an image: joint attention, image first, then tokens of a given image, then the text.

The last blocks have no text in their sequence. Cross-attention beside the joint one is not counted.
"""

from __future__ import annotations

from torch import nn

from . import sequence_layouts
from .family import Family, Modules, modules_ending, pipelines_named
from .token_streams import TokenStream

_attention = modules_ending(".attn")


def _modules(denoiser: nn.Module) -> Modules:
    modules = list(_attention(denoiser).items())
    decoding = int(getattr(denoiser, "num_decoder_layers", 0))
    return dict(modules[: len(modules) - decoding])


FAMILY = Family(
    name="Motif-Video",
    denoisers=("MotifVideoTransformer3DModel",),
    accepts=pipelines_named("MotifVideoPipeline", "MotifVideoImage2VideoPipeline"),
    attention_modules=_modules,
    token_streams=(TokenStream(("tokenizer",)),),
    sequence_layout=sequence_layouts.image_first,
    patch_size=2,
    traces_videos=True,
)
