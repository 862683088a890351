"""Pipelines of real size with random weights; what is not measured (VAE, text encoder) is small.

Each builder returns the pipeline and the arguments of its call, except for the prompt and the number of steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    FluxTransformer2DModel,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusionPipeline,
    WanTransformer3DModel,
)

PROMPT = "a red circle above a small blue square in the snow"
_CROSS = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
Model = tuple[Any, dict[str, Any]]


@dataclass(frozen=True)
class Where:
    """Where and in which type weights are drawn: twelve billion take minutes on a CPU, and 48 GB in float32."""

    device: str = "cpu"
    dtype: torch.dtype = torch.float32

    @contextmanager
    def defaults(self) -> Iterator[None]:
        before = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)
        try:
            with torch.device(self.device):
                yield
        finally:
            torch.set_default_dtype(before)


CPU = Where()


def stable_diffusion(latents: int = 32, width: int = 320, levels: int = 3) -> Model:
    """The U-Net of Stable Diffusion 1.5, guided. latents: side; 32 are 256 px. Original width, levels: 320, 3."""
    from tests import pipelines

    config: dict[str, Any] = {
        "sample_size": 64,
        "attention_head_dim": 8,
        "norm_num_groups": 32,
        "layers_per_block": 2,
        "block_out_channels": (width, 2 * width, 4 * width, 4 * width)[: levels + 1],
        "down_block_types": (_CROSS[0],) * levels + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + (_CROSS[1],) * levels,
    }
    parts = pipelines._parts(0, 768, **config)
    pipe: Any = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    side = latents * pipe.vae_scale_factor
    return pipe, {"height": side, "width": side, "guidance_scale": 7.5}


def stable_diffusion_xl(latents: int = 128, where: Where = CPU, layers: tuple[int, int, int] = (1, 2, 10)) -> Model:
    """The U-Net of SDXL, guided; 128 latents are 1024 px. layers: transformer layers of a block at each level."""
    from tests import pipelines

    pipe = pipelines.stable_diffusion_xl()
    config: dict[str, Any] = dict(pipe.unet.config)
    config |= {
        "sample_size": 128,
        "attention_head_dim": (5, 10, 20),
        "norm_num_groups": 32,
        "layers_per_block": 2,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": layers,
    }
    with where.defaults():
        pipe.unet = type(pipe.unet)(**_plain(config)).eval()
    side = latents * pipe.vae_scale_factor
    return pipe, {"height": side, "width": side, "guidance_scale": 5.0}


def flux(double: int = 1, single: int = 0, latents: int = 128, where: Where = CPU) -> Model:
    """The transformer of FLUX.1 dev with some of its 19 double and 38 single blocks, 512 text tokens.

    latents: side; 128 are 1024 px, 4096 image tokens.
    """
    config = {"num_layers": double, "num_single_layers": single, "attention_head_dim": 128}
    config |= {"num_attention_heads": 24, "axes_dims_rope": (16, 56, 56)}
    return _transformer("flux", FluxTransformer2DModel, config, {"max_sequence_length": 512}, latents, where)


def stable_diffusion_3(blocks: int = 38, latents: int = 128, where: Where = CPU) -> Model:
    """The transformer of Stable Diffusion 3.5 Large with some of its 38 blocks, guided; 128 latents are 1024 px."""
    config = {"num_layers": blocks, "attention_head_dim": 64, "num_attention_heads": 38, "sample_size": 128}
    config |= {"pos_embed_max_size": 192, "qk_norm": "rms_norm", "caption_projection_dim": 38 * 64}
    arguments = {"max_sequence_length": 256, "guidance_scale": 3.5}
    return _transformer("sd3", SD3Transformer2DModel, config, arguments, latents, where)


def qwen_image(blocks: int = 60, latents: int = 128, where: Where = CPU) -> Model:
    """The transformer of Qwen-Image with some of its 60 blocks, guided by a second call; 128 latents are 1024 px."""
    config = {"num_layers": blocks, "attention_head_dim": 128, "num_attention_heads": 24}
    config |= {"axes_dims_rope": (16, 56, 56)}
    arguments = {"negative_prompt": "fog", "true_cfg_scale": 4.0}
    return _transformer("qwen", QwenImageTransformer2DModel, config, arguments, latents, where)


def wan(blocks: int = 30, frames: int = 17, height: int = 60, width: int = 104) -> Model:
    """The transformer of Wan 2.1 1.3B with some of its 30 blocks, not guided, with 512 text tokens.

    frames, height, width: of the latents; 17 x 60 x 104 are 65 frames of 480 x 832 pixels, and 17 x 30 x 52 tokens.
    """
    from tests.pipelines_video import VIDEOS

    pipe = VIDEOS["wan"].build()
    config: dict[str, Any] = {"num_layers": blocks, "attention_head_dim": 128, "num_attention_heads": 12}
    config |= {"ffn_dim": 8960, "freq_dim": 256, "rope_max_seq_len": 1024}
    pipe.transformer = WanTransformer3DModel(**_plain(dict(pipe.transformer.config) | config)).eval()
    return pipe, {
        "height": height * pipe.vae_scale_factor_spatial,
        "width": width * pipe.vae_scale_factor_spatial,
        "num_frames": (frames - 1) * pipe.vae_scale_factor_temporal + 1,
        "max_sequence_length": 512,
        "guidance_scale": 1.0,
    }


def _transformer(
    name: str, transformer: Any, config: dict[str, Any], arguments: dict[str, Any], latents: int, where: Where
) -> Model:
    """A tiny pipeline of the tests with a transformer of another size in it."""
    from tests.pipelines_dit import FAMILIES

    pipe = FAMILIES[name].build()
    with where.defaults():
        pipe.transformer = transformer(**_plain(dict(pipe.transformer.config) | config)).eval()
    arguments = FAMILIES[name].arguments | arguments
    arguments.pop("num_inference_steps")
    side = latents * pipe.vae_scale_factor
    return pipe, arguments | {"height": side, "width": side}


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if not key.startswith("_")}
