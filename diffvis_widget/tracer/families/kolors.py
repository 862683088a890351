"""Kolors: SDXL's U-Net, with the text of ChatGLM, which is projected inside the U-Net."""

from __future__ import annotations

from dataclasses import replace

from . import unet
from .family import pipelines_named
from .token_streams import TokenStream

FAMILY = replace(
    unet.FAMILY,
    name="Kolors",
    accepts=pipelines_named("KolorsPipeline", "KolorsImg2ImgPipeline", "KolorsPAGPipeline"),
    token_streams=(TokenStream(("tokenizer",)),),
    concept_keys=None,
    text_encoders=(),
)
