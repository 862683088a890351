"""Tiny pipelines that make videos: Wan 2.1, Wan 2.2 with its two transformers, LTX Video; and Mochi, which is refused.

Not a test: a workshop, as tests.pipelines.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLLTXVideo,
    AutoencoderKLMochi,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    MochiPipeline,
    MochiTransformer3DModel,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

from tests import tiny_parts as parts
from tests import tiny_tokenizers as tokenizers
from tests.tiny_parts import T5_WIDTH, Case, quiet, stirred

SIZE: dict[str, Any] = {"height": 32, "width": 48, "num_inference_steps": 2, "max_sequence_length": 24}
LOUD = {"attn2.to_q": 2.5, "attn2.to_k": 2.5}


def wan_transformer(seed: int, **config: Any) -> Any:
    base: dict[str, Any] = {
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "text_dim": T5_WIDTH,
        "freq_dim": 32,
        "ffn_dim": 32,
        "num_layers": 2,
        "rope_max_seq_len": 32,
    }
    torch.manual_seed(seed)
    return stirred(WanTransformer3DModel(**(base | config)), seed, LOUD)


def wan_vae(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    config: dict[str, Any] = {"base_dim": 4, "dim_mult": [1] * 4, "num_res_blocks": 1}
    return AutoencoderKLWan(**config, temperal_downsample=[False, True, True]).eval()


def wan_scheduler() -> Any:
    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)


def wan_parts(seed: int = 0) -> dict[str, Any]:
    tokenizer = tokenizers.t5(64)
    return {
        "tokenizer": tokenizer,
        "text_encoder": parts.umt5(tokenizer, seed=seed),
        "vae": wan_vae(seed),
        "transformer": wan_transformer(seed),
        "scheduler": wan_scheduler(),
    }


def wan(seed: int = 0) -> Any:
    """Wan 2.1 in small: sides divided by 8, time by 4, guided by two calls."""
    return quiet(WanPipeline(**wan_parts(seed)))


def wan_two(seed: int = 0) -> Any:
    """Wan 2.2 A14B in small: a second transformer takes over where the noise is low."""
    return quiet(WanPipeline(**wan_parts(seed), transformer_2=wan_transformer(seed + 1), boundary_ratio=0.9))


def wan_from_image(seed: int = 0) -> Any:
    """Wan 2.1 from an image: the image joins the latents, and its CLIP tokens have keys of their own."""
    vision: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "patch_size": 14}
    encoder = CLIPVisionModel(CLIPVisionConfig(**vision, num_attention_heads=4, image_size=28))
    # added_kv_proj_dim is what gives the image its own keys and values
    config: dict[str, Any] = {"in_channels": 36, "image_dim": 16, "added_kv_proj_dim": 24}
    return quiet(
        WanImageToVideoPipeline(
            **wan_parts(seed) | {"transformer": wan_transformer(seed, **config)},
            image_encoder=stirred(encoder, seed),
            image_processor=CLIPImageProcessor(size=28, crop_size=28),
        )
    )


def cogvideox_parts(seed: int, channels: int) -> dict[str, Any]:
    tokenizer = tokenizers.t5(64)
    torch.manual_seed(seed)
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=channels,
        out_channels=4,
        time_embed_dim=8,
        text_embed_dim=T5_WIDTH,
        num_layers=2,
        sample_width=6,
        sample_height=4,
        sample_frames=9,
        max_text_seq_length=24,
        use_rotary_positional_embeddings=True,
    )
    vae: dict[str, Any] = {
        "down_block_types": ("CogVideoXDownBlock3D",) * 4,
        "up_block_types": ("CogVideoXUpBlock3D",) * 4,
        "block_out_channels": (8,) * 4,
        "latent_channels": 4,
        "layers_per_block": 1,
        "norm_num_groups": 2,
    }
    return {
        "tokenizer": tokenizer,
        "text_encoder": parts.t5(tokenizer, seed=seed),
        "vae": AutoencoderKLCogVideoX(**vae).eval(),
        "transformer": stirred(transformer, seed, {"attn1.to_q": 2.5}),
        "scheduler": CogVideoXDDIMScheduler(prediction_type="v_prediction"),
    }


def cogvideox(seed: int = 0) -> Any:
    """CogVideoX in small: text and image in one sequence, frames before channels."""
    return quiet(CogVideoXPipeline(**cogvideox_parts(seed, 4)))


def cogvideox_from_image(seed: int = 0) -> Any:
    """CogVideoX from an image, which joins the latents."""
    return quiet(CogVideoXImageToVideoPipeline(**cogvideox_parts(seed, 8)))


def ltx(seed: int = 0, **vae: Any) -> Any:
    """LTX Video in small: latents packed as one sequence, text masked."""
    tokenizer = tokenizers.t5(64)
    torch.manual_seed(seed)
    transformer = LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=4,
        attention_head_dim=8,
        cross_attention_dim=32,
        num_layers=2,
        caption_channels=T5_WIDTH,
    )
    four, five = (8,) * 4, (1,) * 5
    base: dict[str, Any] = {
        "latent_channels": 8,
        "block_out_channels": four,
        "decoder_block_out_channels": four,
        "layers_per_block": five,
        "decoder_layers_per_block": five,
        "patch_size": 1,
    }
    torch.manual_seed(seed)
    return quiet(
        LTXPipeline(
            tokenizer=tokenizer,
            text_encoder=parts.t5(tokenizer, seed=seed),
            vae=AutoencoderKLLTXVideo(**(base | vae)).eval(),
            transformer=stirred(transformer, seed, LOUD),
            scheduler=parts.flow(),
        )
    )


def mochi(seed: int = 0) -> Any:
    """Mochi in small."""
    tokenizer = tokenizers.t5(64)
    torch.manual_seed(seed)
    transformer: Any = MochiTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=2,
        pooled_projection_dim=16,
        in_channels=12,
        text_embed_dim=T5_WIDTH,
        time_embed_dim=16,
    )
    vae: dict[str, Any] = {
        "latent_channels": 12,
        "encoder_block_out_channels": (32,) * 4,
        "decoder_block_out_channels": (32,) * 4,
        "layers_per_block": (1,) * 5,
    }
    return quiet(
        MochiPipeline(
            tokenizer=tokenizer,
            text_encoder=parts.t5(tokenizer, seed=seed),
            vae=AutoencoderKLMochi(**vae).eval(),
            transformer=stirred(transformer, seed),
            scheduler=parts.flow(),
        )
    )


VIDEOS = {
    "wan": Case(wan, {**SIZE, "num_frames": 9}, "two calls"),
    "wan-two": Case(wan_two, {**SIZE, "num_frames": 9, "num_inference_steps": 3}, "two calls"),
    "wan-image": Case(
        wan_from_image,
        {**SIZE, "max_sequence_length": 512, "num_frames": 9, "image": parts.random_image(32, 48)},
        "two calls",
    ),
    "cogvideox": Case(cogvideox, {**SIZE, "num_frames": 9}, "batch"),
    "cogvideox-image": Case(
        cogvideox_from_image, {**SIZE, "num_frames": 9, "image": parts.random_image(32, 48)}, "batch"
    ),
    "ltx": Case(ltx, {**SIZE, "width": 64, "num_frames": 17}, "batch"),
}
