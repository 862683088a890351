"""Pipelines of real size with random weights; what is not measured (VAE, text encoder) is small.

Each builder returns the pipeline and the arguments of its call, except for the prompt and the number of steps.
"""

from __future__ import annotations

from typing import Any

from diffusers import FluxTransformer2DModel, StableDiffusionPipeline

PROMPT = "a red circle above a small blue square in the snow"
_CROSS = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
Model = tuple[Any, dict[str, Any]]


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


def stable_diffusion_xl(latents: int = 128) -> Model:
    """The U-Net of SDXL, guided; 128 latents are 1024 px."""
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
        "transformer_layers_per_block": (1, 2, 10),
    }
    pipe.unet = type(pipe.unet)(**_plain(config)).eval()
    side = latents * pipe.vae_scale_factor
    return pipe, {"height": side, "width": side, "guidance_scale": 5.0}


def flux(double: int = 1, single: int = 0, latents: int = 128) -> Model:
    """The transformer of FLUX.1 dev with some of its 19 double and 38 single blocks, 512 text tokens.

    latents: side; 128 are 1024 px, 4096 image tokens.
    """
    from tests.pipelines_dit import FAMILIES

    pipe = FAMILIES["flux"].build()
    config: dict[str, Any] = dict(pipe.transformer.config)
    config |= {"num_layers": double, "num_single_layers": single, "attention_head_dim": 128}
    config |= {"num_attention_heads": 24, "axes_dims_rope": (16, 56, 56)}
    pipe.transformer = FluxTransformer2DModel(**_plain(config)).eval()
    arguments = {**FAMILIES["flux"].arguments, "max_sequence_length": 512}
    arguments.pop("num_inference_steps")
    side = latents * pipe.vae_scale_factor
    return pipe, {**arguments, "height": side, "width": side}


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if not key.startswith("_")}
