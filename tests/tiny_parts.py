"""What the tiny pipelines are made of: text encoders, autoencoders and schedulers of the real classes, random weights.

Not a test: part of the workshop. As they are made, many layers of these models are zero or nearly so (output
projections, modulations), attention is uniform and the prompt changes nothing; `stirred` gives every layer weights
that keep the size of what passes through.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    AutoencoderKLWan,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    VQModel,
)
from PIL import Image
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    GemmaConfig,
    GemmaModel,
    GlmConfig,
    GlmModel,
    LlamaConfig,
    LlamaForCausalLM,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    MistralConfig,
    PixtralVisionConfig,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
    T5GemmaModuleConfig,
    UMT5Config,
    UMT5EncoderModel,
)
from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

CLIP_WIDTH = 16
T5_WIDTH = 40  # wider than two CLIPs together, as in SD3, which pads their features
GEMMA_WIDTH = 32


@dataclass(frozen=True)
class Case:
    """How to build one pipeline and to call it for a fast run, and how it is guided in that call.

    "batch": the denoiser gets both halves in one call; "two calls": one call each; "embedded": guidance is an input of
    the denoiser; "none".
    """

    build: Callable[[], Any]
    arguments: dict[str, Any]
    guided: Literal["batch", "two calls", "embedded", "none"]


def stirred(model: Any, seed: int = 0, louder: Mapping[str, float] | None = None) -> Any:
    """The model with new weights: matrices keep the size of their input, norms stay near one.

    `louder` multiplies the weights of modules whose names end so: sharper queries, for one, where attention would be
    so even that the prompt would hardly matter.
    """
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            parameters = dict(module.named_parameters(recurse=False))
            for name, weight in parameters.items():
                noise = torch.randn(weight.shape, generator=random)
                if isinstance(module, nn.Embedding):
                    weight.copy_(noise)
                elif bool((weight == 1).all()):
                    weight.copy_(1 + 0.1 * noise)
                elif weight.ndim < 2:
                    weight.copy_(0.1 * noise)
                elif isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d) or name.endswith("weight"):
                    weight.copy_(noise / math.sqrt(weight[0].numel()))
                else:  # tables of learned vectors: modulations, registers, learned tokens
                    weight.copy_(0.5 * noise)
        for name, module in model.named_modules():
            for ending, factor in (louder or {}).items():
                if name.endswith(ending):
                    module.weight.mul_(factor)
    return model.eval()


@contextmanager
def overlooking(message: str) -> Iterator[None]:
    """Some classes of diffusers cannot be made without a warning of diffusers' about itself: pass over just that."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message, FutureWarning)
        yield


def random_image(height: int, width: int, seed: int = 0) -> Image.Image:
    """An initial image of smooth random colours."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def left_half(height: int, width: int) -> Image.Image:
    """A mask: the left half is painted anew."""
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[:, : width // 2] = 255
    return Image.fromarray(mask)


def quiet(pipe: DiffusionPipeline) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def with_parts_of(
    kind: Any,
    build: Callable[[], Any],
    changed: Callable[[Any], Mapping[str, Any]] | None = None,
    **settings: Any,
) -> Callable[[], Any]:
    """A builder of a pipeline that has the same parts as another one.

    Args:
        kind: Class of the pipeline.
        build: Builds the other one.
        changed: The other pipeline -> parts that differ, by name; None: none do.
        **settings: Further arguments of the class.
    """

    def built() -> Any:
        whole = build()
        accepted = inspect.signature(kind.__init__).parameters
        components = {name: part for name, part in whole.components.items() if name in accepted}
        return quiet(kind(**components | dict(changed(whole) if changed else {}), **settings))

    return built


def flow(**config: Any) -> Any:
    """Flow matching as the DiT pipelines ship it; those that shift by image size say use_dynamic_shifting."""
    settings: dict[str, Any] = {"shift": 3.0, **config}
    return FlowMatchEulerDiscreteScheduler(**settings)


def clip(tokenizer: Any, projection: bool = False, width: int = CLIP_WIDTH, seed: int = 0) -> Any:
    config = CLIPTextConfig(
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
    return stirred((CLIPTextModelWithProjection if projection else CLIPTextModel)(config), seed)


def t5_config(tokenizer: Any, width: int = T5_WIDTH) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "d_model": width,
        "d_kv": width // 4,
        "d_ff": 2 * width,
        "num_layers": 2,
        "num_heads": 4,
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
    }


def t5(tokenizer: Any, width: int = T5_WIDTH, seed: int = 0) -> Any:
    return stirred(T5EncoderModel(T5Config(**t5_config(tokenizer, width))), seed)


def decoder_config(tokenizer: Any, width: int, layers: int = 2) -> dict[str, Any]:
    """What the configurations of Gemma, Qwen, Llama and Mistral have in common."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": width // 4,
        "max_position_embeddings": 1024,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": False,
    }


def umt5(tokenizer: Any, width: int = T5_WIDTH, seed: int = 0) -> Any:
    return stirred(UMT5EncoderModel(UMT5Config(**t5_config(tokenizer, width))), seed)


def bert(tokenizer: Any, width: int = 32, seed: int = 0) -> Any:
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
    )
    return stirred(BertModel(config), seed)


def qwen3(tokenizer: Any, width: int = 32, layers: int = 3, seed: int = 0) -> Any:
    return stirred(Qwen3ForCausalLM(Qwen3Config(**decoder_config(tokenizer, width, layers))), seed)


def llama(tokenizer: Any, width: int = 32, seed: int = 0) -> Any:
    return stirred(LlamaForCausalLM(LlamaConfig(**decoder_config(tokenizer, width))), seed)


def mistral3(processor: Any, width: int = 16, layers: int = 30, seed: int = 0) -> Any:
    """Mistral Small with eyes, as many layers as FLUX.2 reads from: it takes the 10th, 20th and 30th."""
    eyes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "image_size": 56}
    vision = PixtralVisionConfig(**eyes, num_attention_heads=2)
    text = MistralConfig(**decoder_config(processor.tokenizer, width, layers))
    config = Mistral3Config(vision_config=vision, text_config=text, image_token_index=processor.image_token_id)
    return stirred(Mistral3ForConditionalGeneration(config), seed)


def qwen_vision(tokenizer: Any, width: int = 32, layers: int = 2, seed: int = 0) -> Any:
    """Qwen 2.5 VL, whose eyes are not used to encode a prompt."""
    text = decoder_config(tokenizer, width, layers)
    del text["head_dim"]  # Qwen 2.5 divides the width by the heads
    rotary = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": width}
    tokens = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("image_pad", "video_pad")}
    config = Qwen2_5_VLConfig(
        text_config={**text, "rope_parameters": rotary},
        vision_config=vision,
        image_token_id=tokens["image_pad"],
        video_token_id=tokens["video_pad"],
    )
    return stirred(Qwen2_5_VLForConditionalGeneration(config), seed)


def glm(tokenizer: Any, width: int = 32, seed: int = 0) -> Any:
    return stirred(GlmModel(GlmConfig(**decoder_config(tokenizer, width))), seed)


def gemma(tokenizer: Any, width: int = GEMMA_WIDTH, seed: int = 0) -> Any:
    return stirred(GemmaModel(GemmaConfig(**decoder_config(tokenizer, width))), seed)


def t5_gemma(tokenizer: Any, width: int = 32, seed: int = 0) -> Any:
    config = decoder_config(tokenizer, width)
    config |= {"query_pre_attn_scalar": width // 4, "dropout_rate": 0.0}
    half: Any = T5GemmaModuleConfig(**config)
    return stirred(T5GemmaEncoder(half), seed)


def gemma2(tokenizer: Any, width: int = GEMMA_WIDTH, seed: int = 0) -> Any:
    config = Gemma2Config(**decoder_config(tokenizer, width), query_pre_attn_scalar=width // 4)
    return stirred(Gemma2Model(config), seed)


def vae(channels: int = 16, seed: int = 0, levels: int = 2, **config: Any) -> Any:
    """AutoencoderKL, halving the sides `levels` - 1 times; by default 16 channels and a shift, as SD3 and FLUX."""
    shifted = {"shift_factor": 0.1159, "use_quant_conv": False, "use_post_quant_conv": False}
    base: dict[str, Any] = {
        "latent_channels": channels,
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "block_out_channels": (8, *(16,) * (levels - 1)),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "sample_size": 32,
        "scaling_factor": 0.3611 if channels == 16 else 0.13025,
    }
    return stirred(AutoencoderKL(**(base | (shifted if channels == 16 else {}) | config)), seed)


def qwen_vae(seed: int = 0) -> Any:
    """The video autoencoder of Qwen-Image on single frames: sides halved, means and deviations per channel."""
    config: dict[str, Any] = {
        "base_dim": 8,
        "z_dim": 16,
        "dim_mult": [1, 2],
        "num_res_blocks": 1,
        "temperal_downsample": [False],
    }
    return stirred(AutoencoderKLQwenImage(**config), seed)


def wan_vae(seed: int = 0) -> Any:
    """Wan's video autoencoder: sides divided by 8, time by 4."""
    torch.manual_seed(seed)
    config: dict[str, Any] = {"base_dim": 4, "dim_mult": [1] * 4, "num_res_blocks": 1}
    return AutoencoderKLWan(**config, temperal_downsample=[False, True, True]).eval()


def flux2_vae(seed: int = 0) -> Any:
    """The autoencoder of FLUX.2: 32 channels; latents are normalised after patching, by statistics of its own."""
    config: dict[str, Any] = {
        "latent_channels": 32,
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "sample_size": 32,
    }
    model = stirred(AutoencoderKLFlux2(**config), seed)
    random = torch.Generator().manual_seed(seed)
    model.bn.running_mean.normal_(0, 0.2, generator=random)
    model.bn.running_var.uniform_(0.5, 2.0, generator=random)
    return model


def movq(seed: int = 0, levels: int = 2) -> Any:
    """The autoencoder of Kandinsky: what it decodes also steers its norms."""
    config: dict[str, Any] = {
        "latent_channels": 4,
        "down_block_types": (*("DownEncoderBlock2D",) * (levels - 1), "AttnDownEncoderBlock2D"),
        "up_block_types": ("AttnUpDecoderBlock2D", *("UpDecoderBlock2D",) * (levels - 1)),
        "block_out_channels": (32,) * levels,
        "norm_num_groups": 4,
        "norm_type": "spatial",
        "num_vq_embeddings": 12,
        "vq_embed_dim": 4,
    }
    return stirred(VQModel(**config), seed, {"decoder.conv_out": 0.3})


def deep_vae(seed: int = 0) -> Any:
    """AutoencoderDC in small: sides divided by 4, 8 channels, an attention stage, no shift."""
    config: dict[str, Any] = {
        "latent_channels": 8,
        "attention_head_dim": 4,
        "encoder_block_types": ("ResBlock", "ResBlock", "EfficientViTBlock"),
        "decoder_block_types": ("ResBlock", "ResBlock", "EfficientViTBlock"),
        "encoder_block_out_channels": (8, 8, 16),
        "decoder_block_out_channels": (8, 8, 16),
        "encoder_layers_per_block": (1, 1, 1),
        "decoder_layers_per_block": (1, 1, 1),
        "encoder_qkv_multiscales": ((), (), (5,)),
        "decoder_qkv_multiscales": ((), (), (5,)),
        "scaling_factor": 0.41407,
    }
    return stirred(AutoencoderDC(**config), seed)
