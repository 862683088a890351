"""A tiny pipeline of Z-Image Omni: text in pieces around references, which its denoiser sees twice.

Not a test: a workshop, as tests.pipelines.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ZImageOmniPipeline, ZImageTransformer2DModel

from tests import tiny_parts as parts
from tests import tiny_tokenizers as tokenizers
from tests.tiny_eyes import siglip2_eyes
from tests.tiny_parts import Case, quiet, random_image, stirred


def z_image_omni(seed: int = 0, refiners: int = 1) -> Any:
    """Z-Image Omni in small. It encodes references as bfloat16, whatever its autoencoder is."""
    torch.manual_seed(seed)
    tokenizer = tokenizers.qwen()
    config: dict[str, Any] = {"axes_dims": [4, 4, 4], "axes_lens": [1024, 64, 64]}
    transformer = ZImageTransformer2DModel(
        in_channels=16,
        dim=48,
        n_layers=2,
        n_refiner_layers=refiners,
        n_heads=4,
        n_kv_heads=4,
        cap_feat_dim=32,
        siglip_feat_dim=16,
        **config,
    )
    vae: Any = torch.nn.Module.to(parts.vae(seed=seed), torch.bfloat16)
    pipe = ZImageOmniPipeline(
        transformer=stirred(transformer, seed),
        scheduler=parts.flow(),
        vae=vae,
        text_encoder=parts.qwen3(tokenizer, seed=seed),
        tokenizer=tokenizer,
        **siglip2_eyes(seed),
    )
    return quiet(pipe)


_FAST: dict[str, Any] = {"height": 32, "width": 48, "num_inference_steps": 2, "max_sequence_length": 64}
TWO = [random_image(80, 64, seed=1), random_image(64, 96, seed=2)]

CASES = {"z-image-omni": Case(z_image_omni, {**_FAST, "guidance_scale": 4.0}, "batch")}
EDITING = {"z-image-omni-two": Case(z_image_omni, {**_FAST, "guidance_scale": 4.0, "image": TWO}, "batch")}
