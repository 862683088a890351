"""A tiny pipeline of GLM-Image, whose denoiser is given the letters of quoted text.

Not a test: a workshop, as tests.pipelines. The language model that writes the prompt into tokens of the image is left
out: the call is given these tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import GlmImagePipeline, GlmImageTransformer2DModel
from transformers import ByT5Tokenizer, T5Config, T5EncoderModel

from tests import tiny_parts as parts
from tests.tiny_parts import quiet, stirred

_WIDTH = 16
SIZE: dict[str, Any] = {
    "height": 32,
    "width": 48,
    "num_inference_steps": 2,
    "guidance_scale": 2.0,
    "prior_token_ids": torch.arange(96)[None] % 20,
}


def glm_image(seed: int = 0) -> Any:
    """GLM-Image in small, without its language model."""
    torch.manual_seed(seed)
    transformer = GlmImageTransformer2DModel(
        patch_size=2,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        text_embed_dim=_WIDTH,
        time_embed_dim=16,
        condition_dim=8,
        prior_vq_quantizer_codebook_size=20,
    )
    letters: dict[str, Any] = {"vocab_size": 384, "d_model": _WIDTH, "d_kv": 4, "d_ff": 16, "num_layers": 1}
    encoder: Any = T5EncoderModel(T5Config(**letters, num_heads=2, feed_forward_proj="gated-gelu"))
    absent: Any = None
    return quiet(
        GlmImagePipeline(
            tokenizer=ByT5Tokenizer(),
            processor=absent,
            text_encoder=stirred(encoder, seed),
            vision_language_encoder=absent,
            vae=parts.vae(seed=seed, latents_mean=[0.1] * 16, latents_std=[1.5] * 16),
            transformer=stirred(transformer, seed, {"to_q": 2.5}),
            scheduler=parts.flow(use_dynamic_shifting=True),
        )
    )
