"""Tiny pipelines whose text has references in between: Z-Image Omni, and OmniGen.

Not a test: a workshop, as tests.pipelines.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import OmniGenPipeline, OmniGenTransformer2DModel, ZImageOmniPipeline, ZImageTransformer2DModel

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


def omnigen(seed: int = 0) -> Any:
    """OmniGen in small: a token for 16 x 16 pixels, which its processor counts on."""
    torch.manual_seed(seed)
    tokenizer = tokenizers.phi3()
    rotary: Any = {"short_factor": [1.0] * 4, "long_factor": [1.0] * 4}
    transformer = OmniGenTransformer2DModel(
        in_channels=4,
        hidden_size=32,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=32,
        num_layers=2,
        pad_token_id=2,
        vocab_size=len(tokenizer),
        rope_scaling=rotary,
        pos_embed_max_size=32,
        time_step_dim=16,
    )
    pipe = OmniGenPipeline(
        transformer=stirred(transformer, seed, {"to_q": 3}),
        scheduler=parts.flow(invert_sigmas=True, shift=1.0),
        vae=parts.vae(4, seed, levels=4),
        tokenizer=tokenizer,
    )
    return quiet(pipe)


_FAST: dict[str, Any] = {"height": 32, "width": 48, "num_inference_steps": 2, "max_sequence_length": 64}
TWO = [random_image(80, 64, seed=1), random_image(64, 96, seed=2)]

_OMNIGEN: dict[str, Any] = {"height": 64, "width": 96, "num_inference_steps": 2}
IN_PLACES = "A tiny red circle, <img><|image_2|></img> above a blue square of <img><|image_1|></img> here"

CASES = {
    "z-image-omni": Case(z_image_omni, {**_FAST, "guidance_scale": 4.0}, "batch"),
    "omnigen": Case(omnigen, _OMNIGEN, "batch"),
}
EDITING = {
    "z-image-omni-two": Case(z_image_omni, {**_FAST, "guidance_scale": 4.0, "image": TWO}, "batch"),
    "omnigen-two": Case(omnigen, {**_OMNIGEN, "prompt": IN_PLACES, "input_images": TWO}, "batch"),
}
