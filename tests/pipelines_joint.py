"""Tiny pipelines whose transformers attend to text and image together: SD3, FLUX and their like.

Not a test: a workshop, as tests.pipelines. Images are 32 x 48: 16 x 24 latents, 8 x 12 image tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    FluxImg2ImgPipeline,
    FluxInpaintPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Img2ImgPipeline,
    StableDiffusion3InpaintPipeline,
    StableDiffusion3Pipeline,
)

from tests import tiny_parts as parts
from tests import tiny_tokenizers as tokenizers
from tests.pipelines import clip_tokenizer
from tests.tiny_parts import CLIP_WIDTH, T5_WIDTH, Case, left_half, quiet, random_image, stirred

SIZE = {"height": 32, "width": 48}


def _sd3_parts(seed: int) -> dict[str, Any]:
    torch.manual_seed(seed)
    first, second, third = clip_tokenizer(), clip_tokenizer(pad_token="!"), tokenizers.t5(256)
    transformer = SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=16,
        num_layers=3,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=T5_WIDTH,
        caption_projection_dim=32,
        pooled_projection_dim=2 * CLIP_WIDTH,
        pos_embed_max_size=24,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )
    return {
        "transformer": stirred(transformer, seed),
        "scheduler": parts.flow(),
        "vae": parts.vae(seed=seed),
        "text_encoder": parts.clip(first, projection=True, seed=seed),
        "tokenizer": first,
        "text_encoder_2": parts.clip(second, projection=True, seed=seed + 1),
        "tokenizer_2": second,
        "text_encoder_3": parts.t5(third, seed=seed),
        "tokenizer_3": third,
    }


def stable_diffusion_3(seed: int = 0) -> Any:
    """SD 3.5 medium in small: normalised queries and keys, one block with a second, image-only attention."""
    return quiet(StableDiffusion3Pipeline(**_sd3_parts(seed)))


def stable_diffusion_3_image_to_image(seed: int = 0) -> Any:
    return quiet(StableDiffusion3Img2ImgPipeline(**_sd3_parts(seed)))


def stable_diffusion_3_inpainting(seed: int = 0) -> Any:
    return quiet(StableDiffusion3InpaintPipeline(**_sd3_parts(seed)))


def _flux_parts(seed: int, guidance_embeds: bool) -> dict[str, Any]:
    torch.manual_seed(seed)
    first, second = clip_tokenizer(), tokenizers.t5(512)
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=64,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=12,
        num_attention_heads=4,
        joint_attention_dim=T5_WIDTH,
        pooled_projection_dim=CLIP_WIDTH,
        guidance_embeds=guidance_embeds,
        axes_dims_rope=(4, 4, 4),
    )
    return {
        "transformer": stirred(transformer, seed),
        "scheduler": parts.flow(use_dynamic_shifting=guidance_embeds),
        "vae": parts.vae(seed=seed),
        "text_encoder": parts.clip(first, seed=seed),
        "tokenizer": first,
        "text_encoder_2": parts.t5(second, seed=seed),
        "tokenizer_2": second,
    }


def flux(seed: int = 0) -> Any:
    """FLUX.1 dev in small: the guidance scale is an input of the transformer."""
    return quiet(FluxPipeline(**_flux_parts(seed, guidance_embeds=True)))


def flux_schnell(seed: int = 0) -> Any:
    """FLUX.1 schnell in small: no guidance at all."""
    return quiet(FluxPipeline(**_flux_parts(seed, guidance_embeds=False)))


def flux_image_to_image(seed: int = 0) -> Any:
    return quiet(FluxImg2ImgPipeline(**_flux_parts(seed, guidance_embeds=True)))


def flux_inpainting(seed: int = 0) -> Any:
    return quiet(FluxInpaintPipeline(**_flux_parts(seed, guidance_embeds=True)))


def qwen_image(seed: int = 0) -> Any:
    """Qwen-Image in small: the tokens of the template in front of the prompt are dropped, those behind it stay."""
    torch.manual_seed(seed)
    tokenizer = tokenizers.qwen()
    transformer = QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=64,
        out_channels=16,
        num_layers=2,
        attention_head_dim=12,
        num_attention_heads=4,
        joint_attention_dim=32,
        axes_dims_rope=(4, 4, 4),
    )
    pipe = QwenImagePipeline(
        transformer=stirred(transformer, seed, {"norm_q": 2, "norm_added_q": 2}),
        scheduler=parts.flow(use_dynamic_shifting=True),
        vae=parts.qwen_vae(seed),
        text_encoder=parts.qwen_vision(tokenizer, seed=seed),
        tokenizer=tokenizer,
    )
    return quiet(pipe)


_FAST = {**SIZE, "num_inference_steps": 2}
_SHORT = {**_FAST, "max_sequence_length": 24}
_FROM_IMAGE = {**_SHORT, "image": random_image(**SIZE), "strength": 0.7, "num_inference_steps": 3}
_INPAINT = {**_FROM_IMAGE, "mask_image": left_half(**SIZE)}

CASES = {
    "sd3": Case(stable_diffusion_3, {**_SHORT, "guidance_scale": 5.0}, "batch"),
    "sd3-unguided": Case(stable_diffusion_3, {**_SHORT, "guidance_scale": 1.0}, "none"),
    "sd3-img2img": Case(stable_diffusion_3_image_to_image, {**_FROM_IMAGE, "guidance_scale": 5.0}, "batch"),
    "sd3-inpaint": Case(stable_diffusion_3_inpainting, {**_INPAINT, "guidance_scale": 5.0}, "batch"),
    "flux": Case(flux, {**_SHORT, "guidance_scale": 3.5}, "embedded"),
    "flux-two-calls": Case(
        flux, {**_SHORT, "guidance_scale": 3.5, "negative_prompt": "a green cross", "true_cfg_scale": 3.0}, "two calls"
    ),
    "flux-schnell": Case(flux_schnell, {**_SHORT, "guidance_scale": 0.0}, "none"),
    "flux-img2img": Case(flux_image_to_image, {**_FROM_IMAGE, "guidance_scale": 3.5}, "embedded"),
    "flux-inpaint": Case(flux_inpainting, {**_INPAINT, "guidance_scale": 3.5}, "embedded"),
    "qwen": Case(qwen_image, {**_SHORT, "negative_prompt": "a green cross", "true_cfg_scale": 4.0}, "two calls"),
}
