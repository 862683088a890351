"""Tiny pipelines of the image models of 2025 and 2026: Qwen-Image 2.1, ERNIE-Image, HunyuanImage, LongCat and Bria.

Not a test: a workshop, as tests.pipelines.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AdaptiveProjectedMixGuidance,
    AutoencoderKLHunyuanImage,
    AutoencoderKLQwenImage21,
    AutoencoderKLWan,
    BriaFiboPipeline,
    BriaFiboTransformer2DModel,
    BriaPipeline,
    BriaTransformer2DModel,
    ErnieImagePipeline,
    ErnieImageTransformer2DModel,
    HunyuanImagePipeline,
    HunyuanImageTransformer2DModel,
    Ideogram4Pipeline,
    Ideogram4Transformer2DModel,
    Kandinsky5T2IPipeline,
    Kandinsky5Transformer3DModel,
    LongCatImagePipeline,
    LongCatImageTransformer2DModel,
    NucleusMoEImagePipeline,
    NucleusMoEImageTransformer2DModel,
    QwenImage21Pipeline,
    QwenImage21Transformer2DModel,
)
from transformers import (
    ByT5Tokenizer,
    Mistral3Config,
    Mistral3Model,
    MistralConfig,
    PixtralVisionConfig,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    SmolLM3Config,
    SmolLM3ForCausalLM,
    T5Config,
    T5EncoderModel,
)

from tests import tiny_parts as parts
from tests import tiny_tokenizers as tokenizers
from tests.pipelines import clip_tokenizer
from tests.tiny_eyes import qwen3_vision, qwen3_vision_with_head
from tests.tiny_parts import CLIP_WIDTH, T5_WIDTH, Case, quiet, stirred

_WIDTH = 32


def _image_processor() -> Any:
    config: dict[str, Any] = {"size": {"shortest_edge": 56 * 56, "longest_edge": 112 * 112}, "patch_size": 14}
    return Qwen2VLImageProcessor(**config)


def qwen3_processor(tokenizer: Any) -> Any:
    """What Qwen 3 VL calls its tokenizer, with a chat template for messages in parts."""
    return Qwen3VLProcessor(
        _image_processor(), tokenizer, Qwen3VLVideoProcessor(), chat_template=tokenizers.QWEN_PARTS_CHAT
    )


def qwen_image_21(seed: int = 0) -> Any:
    """Qwen-Image 2.1 in small: the keys of the text are stored at the first step, and only the image asks later."""
    torch.manual_seed(seed)
    tokenizer = tokenizers.qwen()
    autoencoder: dict[str, Any] = {
        "base_dim": 4,
        "decoder_base_dim": 4,
        "z_dim": 16,
        "dim_mult": [1, 1, 1, 1, 1],
        "num_res_blocks": 1,
        "temperal_downsample": [False, False, False, False],
        "latents_mean": [0.1 * channel for channel in range(16)],
        "latents_std": [1.0 + 0.1 * channel for channel in range(16)],
    }
    transformer = QwenImage21Transformer2DModel(
        in_channels=16,
        out_channels=16,
        num_layers=2,
        attention_head_dim=12,
        num_attention_heads=4,
        context_in_dim=_WIDTH,
        axes_dims_rope=(4, 4, 4),
        mlp_ratio=2,
        causal_condition=True,
    )
    pipe = QwenImage21Pipeline(
        scheduler=parts.flow(use_dynamic_shifting=True),
        vae=stirred(AutoencoderKLQwenImage21(**autoencoder), seed),
        text_encoder=qwen3_vision_with_head(tokenizer, layers=2, seed=seed),
        processor=qwen3_processor(tokenizer),
        transformer=stirred(transformer, seed, {"norm_q": 2}),
    )
    return quiet(pipe)


def ernie_image(seed: int = 0) -> Any:
    """ERNIE-Image in small: Mistral's text behind the image, padded to the longer of both prompts."""
    torch.manual_seed(seed)
    processor = tokenizers.mistral()
    eyes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "image_size": 56}
    config = Mistral3Config(
        vision_config=PixtralVisionConfig(**eyes, num_attention_heads=2),
        text_config=MistralConfig(**parts.decoder_config(processor.tokenizer, _WIDTH)),
        image_token_index=processor.image_token_id,
    )
    transformer = ErnieImageTransformer2DModel(
        hidden_size=48,
        num_attention_heads=4,
        num_layers=2,
        ffn_hidden_size=64,
        in_channels=128,
        out_channels=128,
        text_in_dim=_WIDTH,
        rope_axes_dim=(4, 4, 4),
    )
    pipe = ErnieImagePipeline(
        transformer=stirred(transformer, seed),
        vae=parts.flux2_vae(seed),
        text_encoder=stirred(Mistral3Model(config), seed),
        tokenizer=processor.tokenizer,
        scheduler=parts.flow(),
    )
    return quiet(pipe)


def hunyuan_image(seed: int = 0, guided: bool = True) -> Any:
    """HunyuanImage 2.1 in small: bytes of quoted text before the prompt, behind the image; a guider of its own."""
    torch.manual_seed(seed)
    tokenizer = tokenizers.qwen()
    byte_config: dict[str, Any] = {
        "d_model": 16,
        "d_kv": 4,
        "d_ff": 32,
        "num_layers": 1,
        "num_heads": 4,
        "vocab_size": 384,
    }
    transformer = HunyuanImageTransformer2DModel(
        in_channels=16,
        out_channels=16,
        num_attention_heads=4,
        attention_head_dim=12,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        text_embed_dim=_WIDTH,
        text_embed_2_dim=16,
        rope_axes_dim=(6, 6),
    )
    autoencoder: dict[str, Any] = {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 16,
        "block_out_channels": (32, 32),
        "layers_per_block": 1,
        "spatial_compression_ratio": 2,
        "sample_size": 32,
        "scaling_factor": 0.75,
    }
    scale: dict[str, Any] = {"guidance_scale": 3.5, "adaptive_projected_guidance_start_step": 1}
    pipe = HunyuanImagePipeline(
        scheduler=parts.flow(),
        vae=stirred(AutoencoderKLHunyuanImage(**autoencoder), seed),
        text_encoder=parts.qwen_vision(tokenizer, width=_WIDTH, layers=3, seed=seed),
        tokenizer=tokenizer,
        text_encoder_2=stirred(T5EncoderModel(T5Config(**byte_config, feed_forward_proj="gated-gelu")), seed),
        tokenizer_2=ByT5Tokenizer(),
        transformer=stirred(transformer, seed),
        guider=AdaptiveProjectedMixGuidance(**scale, enabled=guided),
    )
    pipe.tokenizer_max_length = 64
    return quiet(pipe)


def longcat_image(seed: int = 0) -> Any:
    """LongCat-Image in small: prompts in pieces, padded to one length, all of it in sight."""
    torch.manual_seed(seed)
    tokenizer = tokenizers.qwen()
    processor = Qwen2VLProcessor(
        _image_processor(), tokenizer, Qwen2VLVideoProcessor(), chat_template=tokenizers.QWEN_PARTS_CHAT
    )
    transformer = LongCatImageTransformer2DModel(
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=12,
        num_attention_heads=4,
        joint_attention_dim=_WIDTH,
        axes_dims_rope=[4, 4, 4],
    )
    pipe = LongCatImagePipeline(
        scheduler=parts.flow(use_dynamic_shifting=True),
        vae=parts.vae(seed=seed),
        text_encoder=parts.qwen_vision(tokenizer, width=_WIDTH, seed=seed),
        tokenizer=tokenizer,
        text_processor=processor,
        transformer=stirred(transformer, seed, {"norm_q": 2, "norm_added_q": 2}),
    )
    pipe.tokenizer_max_length = 40
    return quiet(pipe)


def bria(seed: int = 0) -> Any:
    """Bria 3 in small: FLUX without CLIP, guided in one batch."""
    torch.manual_seed(seed)
    tokenizer = tokenizers.t5(128)
    transformer = BriaTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=12,
        num_attention_heads=4,
        joint_attention_dim=T5_WIDTH,
        axes_dims_rope=[4, 4, 4],
    )
    pipe = BriaPipeline(
        transformer=stirred(transformer, seed, {"norm_q": 2, "norm_added_q": 2}),
        scheduler=parts.flow(use_dynamic_shifting=True),
        vae=parts.vae(4, seed, shift_factor=0.1),
        text_encoder=parts.t5(tokenizer, seed=seed),
        tokenizer=tokenizer,
    )
    return quiet(pipe)


def bria_fibo(seed: int = 0) -> Any:
    """Bria FIBO in small: every block is given another layer of the language model."""
    torch.manual_seed(seed)
    tokenizer = tokenizers.qwen()
    config = SmolLM3Config(**{**parts.decoder_config(tokenizer, 16, 3), "vocab_size": 128001})
    transformer = BriaFiboTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=12,
        num_attention_heads=4,
        joint_attention_dim=32,
        text_encoder_dim=16,
        axes_dims_rope=[4, 4, 4],
    )
    autoencoder: dict[str, Any] = {
        "base_dim": 4,
        "z_dim": 16,
        "dim_mult": [1, 1, 1, 1, 1],
        "num_res_blocks": 1,
        "temperal_downsample": [False, False, False, False],
    }
    pipe = BriaFiboPipeline(
        transformer=stirred(transformer, seed, {"norm_q": 2, "norm_added_q": 2}),
        scheduler=parts.flow(use_dynamic_shifting=True),
        vae=stirred(AutoencoderKLWan(**autoencoder), seed),
        text_encoder=stirred(SmolLM3ForCausalLM(config), seed),
        tokenizer=tokenizer,
    )
    return quiet(pipe)


def kandinsky_5(seed: int = 0) -> Any:
    """Kandinsky 5 for images in small: cross-attention beside self-attention, channels behind height and width."""
    torch.manual_seed(seed)
    tokenizer, second = tokenizers.qwen(), clip_tokenizer()
    processor = Qwen2VLProcessor(_image_processor(), tokenizer, Qwen2VLVideoProcessor())
    transformer = Kandinsky5Transformer3DModel(
        in_visual_dim=16,
        out_visual_dim=16,
        in_text_dim=_WIDTH,
        in_text_dim2=CLIP_WIDTH,
        time_dim=32,
        model_dim=48,
        ff_dim=64,
        num_text_blocks=1,
        num_visual_blocks=2,
        axes_dims=(4, 4, 4),
    )
    pipe = Kandinsky5T2IPipeline(
        transformer=stirred(transformer, seed),
        vae=parts.vae(seed=seed, levels=4),
        text_encoder=parts.qwen_vision(tokenizer, width=_WIDTH, seed=seed),
        tokenizer=processor,
        text_encoder_2=parts.clip(second, seed=seed),
        tokenizer_2=second,
        scheduler=parts.flow(),
    )
    pipe.prompt_template_encode_start_idx = len(tokenizer(pipe.prompt_template.split("{}")[0])["input_ids"])
    pipe.resolutions = [(96, 64)]
    return quiet(pipe)


def nucleus_moe(seed: int = 0) -> Any:
    """NucleusMoE-Image in small: only the image asks; experts beside attention."""
    torch.manual_seed(seed)
    tokenizer = tokenizers.qwen()
    transformer = NucleusMoEImageTransformer2DModel(
        patch_size=2,
        in_channels=64,
        out_channels=16,
        num_layers=2,
        attention_head_dim=12,
        num_attention_heads=4,
        num_key_value_heads=2,
        joint_attention_dim=_WIDTH,
        axes_dims_rope=(4, 4, 4),
        moe_enabled=True,
        num_experts=2,
        moe_intermediate_dim=32,
        capacity_factors=2.0,
        use_grouped_mm=False,
        mlp_ratio=4.0,
    )
    pipe = NucleusMoEImagePipeline(
        transformer=stirred(transformer, seed),
        scheduler=parts.flow(use_dynamic_shifting=True),
        vae=parts.qwen_vae(seed),
        text_encoder=qwen3_vision_with_head(tokenizer, layers=9, seed=seed),
        processor=qwen3_processor(tokenizer),
    )
    return quiet(pipe)


def ideogram_4(seed: int = 0) -> Any:
    """Ideogram 4 in small: text padded on the left in one sequence with the image; guided by another model."""
    torch.manual_seed(seed)
    tokenizer = tokenizers.qwen()
    tokenizer.chat_template = tokenizers.QWEN_PARTS_CHAT
    config: dict[str, Any] = {
        "in_channels": 128,
        "num_layers": 2,
        "attention_head_dim": 12,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "adaln_dim": 32,
        "llm_features_dim": 13 * _WIDTH,
        "mrope_section": (2, 2, 2),
    }
    pipe = Ideogram4Pipeline(
        scheduler=parts.flow(shift=1.0),
        vae=parts.flux2_vae(seed),
        text_encoder=qwen3_vision(tokenizer, width=_WIDTH, layers=36, seed=seed),
        tokenizer=tokenizer,
        transformer=stirred(Ideogram4Transformer2DModel(**config), seed),
        unconditional_transformer=stirred(Ideogram4Transformer2DModel(**config), seed + 1),
    )
    return quiet(pipe)


_FAST = {"height": 32, "width": 48, "num_inference_steps": 2}
_LARGE = {"height": 96, "width": 160, "num_inference_steps": 2}

CASES = {
    "qwen-2.1": Case(qwen_image_21, {**_LARGE, "negative_prompt": "a green cross", "true_cfg_scale": 4.0}, "two calls"),
    "qwen-2.1-uncached": Case(qwen_image_21, {**_LARGE, "use_kv_cache": False}, "none"),
    "ernie-image": Case(ernie_image, {**_FAST, "guidance_scale": 4.0, "negative_prompt": "fog"}, "batch"),
    "hunyuan-image": Case(hunyuan_image, {**_FAST, "negative_prompt": "fog"}, "two calls"),
    "longcat-image": Case(longcat_image, {**_FAST, "guidance_scale": 4.5, "enable_prompt_rewrite": False}, "two calls"),
    "bria": Case(bria, {**_FAST, "guidance_scale": 5.0, "max_sequence_length": 24}, "batch"),
    "kandinsky5": Case(
        kandinsky_5, {"height": 64, "width": 96, "num_inference_steps": 2, "guidance_scale": 3.5}, "two calls"
    ),
    "nucleus-moe": Case(nucleus_moe, {**_FAST, "guidance_scale": 4.0, "negative_prompt": "fog"}, "two calls"),
    "ideogram4": Case(
        ideogram_4, {**_FAST, "guidance_scale": 4.0, "guidance_schedule": None, "max_sequence_length": 40}, "none"
    ),
    "fibo": Case(bria_fibo, {**_LARGE, "guidance_scale": 5.0, "negative_prompt": "fog"}, "batch"),
}
