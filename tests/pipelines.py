"""Tiny diffusers pipelines with random weights, built offline from their real classes and configs.

Not a test: a workshop. Every builder is deterministic (seeded) and returns in well under a second. Results are typed
Any: diffusers' own annotations forbid much of what its classes accept.
"""

from __future__ import annotations

import functools
import gzip
import importlib.util
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPAGPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

TRAIN_BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
_MERGES = 4000


def _byte_symbols() -> list[str]:
    """The printable character that byte-level BPE uses for each of the 256 bytes, in CLIP's vocabulary order."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(others))]


@functools.cache
def _vocabulary(merges: int = _MERGES) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """CLIP's own vocabulary, cut after `merges` merges, from the file that open_clip carries."""
    spec = importlib.util.find_spec("open_clip")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "bpe_simple_vocab_16e6.txt.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1 : merges + 1]
    pairs = [(left, right) for left, right in (line.split() for line in lines)]
    symbols = _byte_symbols()
    tokens = [*symbols, *(symbol + "</w>" for symbol in symbols), *(left + right for left, right in pairs)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return {token: index for index, token in enumerate(tokens)}, pairs


def clip_tokenizer(max_length: int = 77, pad_token: str = "<|endoftext|>", merges: int = _MERGES) -> Any:
    """A CLIPTokenizer, byte-level BPE with CLIP's rules: any text tokenizes, rare words split."""
    vocabulary, pairs = _vocabulary(merges)
    config: dict[str, Any] = {"vocab": dict(vocabulary), "merges": list(pairs)}
    return CLIPTokenizer(**config, model_max_length=max_length, pad_token=pad_token)


def _text_config(tokenizer: Any, width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _unet(width: int, **overrides: Any) -> UNet2DConditionModel:
    config: dict[str, Any] = {
        "sample_size": 16,
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "block_out_channels": (16, 32, 32),
        "layers_per_block": 1,
        "cross_attention_dim": width,
        "attention_head_dim": (2, 4, 4),
        "norm_num_groups": 8,
    }
    return UNet2DConditionModel(**(config | overrides)).eval()


def _vae() -> AutoencoderKL:
    config: dict[str, Any] = {
        "latent_channels": 4,
        "down_block_types": ("DownEncoderBlock2D", "DownEncoderBlock2D"),
        "up_block_types": ("UpDecoderBlock2D", "UpDecoderBlock2D"),
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "sample_size": 32,
    }
    return AutoencoderKL(**config).eval()


def _scheduler() -> DDIMScheduler:
    config: dict[str, Any] = {**TRAIN_BETAS, "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}
    return DDIMScheduler(**config)


def _parts(seed: int, width: int, **unet: Any) -> dict[str, Any]:
    torch.manual_seed(seed)
    tokenizer = clip_tokenizer()
    return {
        "vae": _vae(),
        "text_encoder": CLIPTextModel(_text_config(tokenizer, width)).eval(),
        "tokenizer": tokenizer,
        "unet": _unet(width, **unet),
        "scheduler": _scheduler(),
        "safety_checker": None,
        "feature_extractor": None,
    }


def _quiet(pipe: DiffusionPipeline) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def stable_diffusion(seed: int = 0, **unet: Any) -> Any:
    """Stable Diffusion in small: 32 x 32 images, latents 4 x 16 x 16, word attention on grids 16, 8 and 4."""
    return _quiet(StableDiffusionPipeline(**_parts(seed, 16, **unet), requires_safety_checker=False))


def perturbed(seed: int = 0) -> Any:
    """Perturbed-attention guidance: a third part of the batch repeats the prompt with self-attention switched off."""
    return _quiet(
        StableDiffusionPAGPipeline(**_parts(seed, 16), requires_safety_checker=False, pag_applied_layers="mid")
    )


def unguided(seed: int = 0) -> Any:
    """A distilled model in small: guidance is an embedding, so the batch is never doubled."""
    return stable_diffusion(seed, time_cond_proj_dim=8)


def image_to_image(seed: int = 0) -> Any:
    return _quiet(StableDiffusionImg2ImgPipeline(**_parts(seed, 16), requires_safety_checker=False))


def inpainting(seed: int = 0, channels: int = 4) -> Any:
    """Inpainting with a plain U-Net (4 channels, the latents are blended) or an inpainting one (9)."""
    return _quiet(
        StableDiffusionInpaintPipeline(**_parts(seed, 16, in_channels=channels), requires_safety_checker=False)
    )


def stable_diffusion_xl(seed: int = 0) -> Any:
    """SDXL in small: two text encoders share the 77 positions, the second tokenizer pads with "!"."""
    torch.manual_seed(seed)
    first, second = clip_tokenizer(), clip_tokenizer(pad_token="!")
    unet = _unet(
        32,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(16, 32),
        attention_head_dim=(2, 4),
        transformer_layers_per_block=(1, 2),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 16,
    )
    parts: dict[str, Any] = {
        "vae": _vae(),
        "text_encoder": CLIPTextModel(_text_config(first, 16)).eval(),
        "text_encoder_2": CLIPTextModelWithProjection(_text_config(second, 16)).eval(),
        "tokenizer": first,
        "tokenizer_2": second,
        "unet": unet,
        "scheduler": _scheduler(),
    }
    return _quiet(StableDiffusionXLPipeline(**parts))
