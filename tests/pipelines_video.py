"""Tiny pipelines that make videos: Wan 2.1 and 2.2, CogVideoX 1.0 and 1.5, LTX Video.

Not a test: a workshop, as tests.pipelines.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLLTXVideo,
    CogVideoXDDIMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    LTXConditionPipeline,
    LTXImageToVideoPipeline,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from diffusers.pipelines.ltx.pipeline_ltx_condition import LTXVideoCondition

from tests import tiny_parts as parts
from tests import tiny_tokenizers as tokenizers
from tests.tiny_eyes import clip_eyes
from tests.tiny_parts import T5_WIDTH, Case, quiet, stirred

SIZE: dict[str, Any] = {"height": 32, "width": 48, "num_inference_steps": 2, "max_sequence_length": 24}
LOUD = {"attn2.to_q": 2.5, "attn2.to_k": 2.5}


def like_wan(kind: Any, seed: int, **config: Any) -> Any:
    """A transformer of Wan's or of one of its relatives."""
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
    return stirred(kind(**(base | config)), seed, LOUD)


def wan_transformer(seed: int, **config: Any) -> Any:
    return like_wan(WanTransformer3DModel, seed, **config)


def wan_scheduler() -> Any:
    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)


def wan_parts(seed: int = 0) -> dict[str, Any]:
    tokenizer = tokenizers.t5(64)
    return {
        "tokenizer": tokenizer,
        "text_encoder": parts.umt5(tokenizer, seed=seed),
        "vae": parts.wan_vae(seed),
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
    # added_kv_proj_dim is what gives the image its own keys and values
    config: dict[str, Any] = {"in_channels": 36, "image_dim": 16, "added_kv_proj_dim": 24}
    return quiet(
        WanImageToVideoPipeline(
            **wan_parts(seed) | {"transformer": wan_transformer(seed, **config)},
            **clip_eyes(seed),
        )
    )


def wan_two_from_image(seed: int = 0) -> Any:
    """Wan 2.2 A14B from an image: two transformers, which see the image in further channels alone."""
    return quiet(
        WanImageToVideoPipeline(
            **wan_parts(seed) | {"transformer": wan_transformer(seed, in_channels=36)},
            transformer_2=wan_transformer(seed + 1, in_channels=36),
            boundary_ratio=0.9,
        )
    )


def wan_given_frame(seed: int = 0) -> Any:
    """Wan 2.2 TI2V from an image: each token has a timestep, and the image takes the place of the first frame."""
    return quiet(WanImageToVideoPipeline(**wan_parts(seed), expand_timesteps=True))


def wan_expanded(seed: int = 0) -> Any:
    """Wan 2.2 TI2V from text: each token has a timestep, the same for all."""
    return quiet(WanPipeline(**wan_parts(seed), expand_timesteps=True))


def cogvideox_parts(seed: int, channels: int, **config: Any) -> dict[str, Any]:
    tokenizer = tokenizers.t5(64)
    torch.manual_seed(seed)
    base: dict[str, Any] = {
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "in_channels": channels,
        "out_channels": 4,
        "time_embed_dim": 8,
        "text_embed_dim": T5_WIDTH,
        "num_layers": 2,
        "sample_width": 6,
        "sample_height": 4,
        "sample_frames": 9,
        "max_text_seq_length": 24,
        "use_rotary_positional_embeddings": True,
    }
    transformer = CogVideoXTransformer3DModel(**(base | config))
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


def cogvideox15(seed: int = 0) -> Any:
    """CogVideoX 1.5 in small: an image token covers two latent frames."""
    return quiet(CogVideoXPipeline(**cogvideox_parts(seed, 4, patch_size_t=2, patch_bias=False)))


def cogvideox15_from_image(seed: int = 0) -> Any:
    """CogVideoX 1.5 from an image, with the offset embedding that its checkpoint has."""
    config: dict[str, Any] = {"patch_size_t": 2, "patch_bias": False, "ofs_embed_dim": 8}
    return quiet(CogVideoXImageToVideoPipeline(**cogvideox_parts(seed, 8, **config)))


def ltx_parts(seed: int = 0, **vae: Any) -> dict[str, Any]:
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
    return {
        "tokenizer": tokenizer,
        "text_encoder": parts.t5(tokenizer, seed=seed),
        "vae": AutoencoderKLLTXVideo(**(base | vae)).eval(),
        "transformer": stirred(transformer, seed, LOUD),
        "scheduler": parts.flow(),
    }


def ltx(seed: int = 0, **vae: Any) -> Any:
    """LTX Video in small: latents packed as one sequence, text masked."""
    return quiet(LTXPipeline(**ltx_parts(seed, **vae)))


def ltx_from_image(seed: int = 0) -> Any:
    """LTX Video from an image: steps of the scheduler leave out the first frame, which is clean."""
    return quiet(LTXImageToVideoPipeline(**ltx_parts(seed)))


def ltx_conditions(seed: int = 0) -> Any:
    """LTX Video with images at any frame: tokens before those of the video, and a timestep for each token."""
    return quiet(LTXConditionPipeline(**ltx_parts(seed)))


WAN: dict[str, Any] = {**SIZE, "num_frames": 9}
IMAGE: dict[str, Any] = {"image": parts.random_image(32, 48)}
LTX: dict[str, Any] = {**SIZE, "width": 64, "num_frames": 17}
WIDE = parts.random_image(32, 64)

VIDEOS = {
    "wan": Case(wan, WAN, "two calls"),
    "wan-two": Case(wan_two, {**WAN, "num_inference_steps": 3}, "two calls"),
    "wan-image": Case(wan_from_image, {**WAN, **IMAGE, "max_sequence_length": 512}, "two calls"),
    "wan-two-image": Case(wan_two_from_image, {**WAN, **IMAGE, "num_inference_steps": 3}, "two calls"),
    "wan-expanded": Case(wan_expanded, WAN, "two calls"),
    "wan-given-frame": Case(wan_given_frame, {**WAN, **IMAGE}, "two calls"),
    "cogvideox": Case(cogvideox, WAN, "batch"),
    "cogvideox-image": Case(cogvideox_from_image, {**WAN, **IMAGE}, "batch"),
    "cogvideox15": Case(cogvideox15, WAN, "batch"),
    "cogvideox15-image": Case(cogvideox15_from_image, {**WAN, **IMAGE}, "batch"),
    "ltx": Case(ltx, LTX, "batch"),
    "ltx-image": Case(ltx_from_image, {**LTX, "image": WIDE}, "batch"),
    "ltx-conditions": Case(
        ltx_conditions,
        {
            **LTX,
            "conditions": [LTXVideoCondition(image=WIDE), LTXVideoCondition(image=WIDE, frame_index=8, strength=0.7)],
        },
        "batch",
    ),
}
