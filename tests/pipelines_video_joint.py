"""Tiny pipelines that make videos by joint attention, LTX-2 with its sound.

Not a test: a workshop, as tests.pipelines.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    AutoencoderKLHunyuanVideo15,
    AutoencoderKLLTX2Audio,
    AutoencoderKLLTX2Video,
    AutoencoderKLMochi,
    ClassifierFreeGuidance,
    HunyuanSkyreelsImageToVideoPipeline,
    HunyuanVideo15ImageToVideoPipeline,
    HunyuanVideo15Pipeline,
    HunyuanVideo15Transformer3DModel,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
    LTX2ConditionPipeline,
    LTX2ImageToVideoPipeline,
    LTX2Pipeline,
    LTX2VideoTransformer3DModel,
    MochiPipeline,
    MochiTransformer3DModel,
)
from diffusers.pipelines.ltx2 import LTX2TextConnectors, LTX2Vocoder
from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2VideoCondition
from transformers import (
    ByT5Tokenizer,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    LlamaModel,
    SiglipImageProcessor,
)

from tests import tiny_parts as parts
from tests import tiny_tokenizers as tokenizers
from tests.pipelines import clip_tokenizer
from tests.pipelines_video import LOUD, SIZE, WIDE
from tests.tiny_eyes import siglip
from tests.tiny_parts import CLIP_WIDTH, GEMMA_WIDTH, T5_WIDTH, Case, quiet, stirred


def mochi(seed: int = 0) -> Any:
    """Mochi in small: each row of the batch attends by itself."""
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


def hunyuan_parts(seed: int, channels: int = 4) -> dict[str, Any]:
    tokenizer, clip = tokenizers.llama3(), clip_tokenizer(77)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    torch.manual_seed(seed)
    transformer = HunyuanVideoTransformer3DModel(
        in_channels=channels,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=10,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        patch_size=2,
        text_embed_dim=32,
        pooled_projection_dim=CLIP_WIDTH,
        rope_axes_dim=(2, 4, 4),
    )
    vae: dict[str, Any] = {"latent_channels": 4, "block_out_channels": (8,) * 4, "layers_per_block": 1}
    torch.manual_seed(seed)
    return {
        "tokenizer": tokenizer,
        "text_encoder": parts.llama(tokenizer, seed=seed).model,
        "tokenizer_2": clip,
        "text_encoder_2": parts.clip(clip, seed=seed),
        "transformer": stirred(transformer, seed, {"norm_q": 2, "norm_added_q": 2}),
        "vae": AutoencoderKLHunyuanVideo(**vae, norm_num_groups=4, mid_block_add_attention=True).eval(),
        "scheduler": parts.flow(),
    }


def hunyuan_video(seed: int = 0) -> Any:
    """HunyuanVideo in small: image first, then Llama's tokens, whose padding is masked."""
    made = hunyuan_parts(seed)
    assert isinstance(made["text_encoder"], LlamaModel)
    return quiet(HunyuanVideoPipeline(**made))


def skyreels(seed: int = 0) -> Any:
    """Skyreels V1 in small: HunyuanVideo from an image in further channels."""
    return quiet(HunyuanSkyreelsImageToVideoPipeline(**hunyuan_parts(seed, 8)))


def hunyuan15_parts(seed: int = 0) -> dict[str, Any]:
    tokenizer = tokenizers.qwen()
    torch.manual_seed(seed)
    transformer = HunyuanVideo15Transformer3DModel(
        in_channels=9,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=10,
        num_layers=2,
        num_refiner_layers=1,
        text_embed_dim=32,
        text_embed_2_dim=T5_WIDTH,
        image_embed_dim=16,
        rope_axes_dim=(2, 4, 4),
        target_size=32,
    )
    vae: dict[str, Any] = {"latent_channels": 4, "block_out_channels": (32,) * 5, "layers_per_block": 1}
    glyphs = ByT5Tokenizer()
    torch.manual_seed(seed)
    return {
        "tokenizer": tokenizer,
        "text_encoder": parts.qwen_vision(tokenizer, layers=3, seed=seed).model.language_model,
        "tokenizer_2": glyphs,
        "text_encoder_2": parts.t5(glyphs, seed=seed),
        "transformer": stirred(transformer, seed, {"norm_q": 2, "norm_added_q": 2}),
        "vae": AutoencoderKLHunyuanVideo15(**vae).eval(),
        "scheduler": parts.flow(),
        "guider": ClassifierFreeGuidance(guidance_scale=4.0),
    }


def short_texts(pipe: Any) -> Any:
    """A shorter template than the one of 108 tokens, which a tokenizer that was trained on little makes longer."""
    pipe.system_message = "Describe."
    start = "<|im_start|>system\nDescribe.<|im_end|>\n<|im_start|>user\n"
    pipe.prompt_template_encode_start_idx = len(pipe.tokenizer(start).input_ids)
    pipe.tokenizer_max_length, pipe.tokenizer_2_max_length = 32, 16
    pipe.vision_num_semantic_tokens = 4
    return quiet(pipe)


def hunyuan_video15(seed: int = 0) -> Any:
    """HunyuanVideo 1.5 in small: image, quoted text, text, and then all padding."""
    return short_texts(HunyuanVideo15Pipeline(**hunyuan15_parts(seed)))


def hunyuan_video15_from_image(seed: int = 0) -> Any:
    """HunyuanVideo 1.5 from an image, whose tokens stand before those of the text."""
    return short_texts(
        HunyuanVideo15ImageToVideoPipeline(
            **hunyuan15_parts(seed),
            image_encoder=siglip(seed),
            feature_extractor=SiglipImageProcessor(size={"height": 28, "width": 28}),
        )
    )


def ltx2_parts(seed: int = 0) -> dict[str, Any]:
    tokenizer = tokenizers.gemma(64)
    text = parts.decoder_config(tokenizer, GEMMA_WIDTH)
    eyes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "image_size": 28}
    config = Gemma3Config(text_config=text, vision_config={**eyes, "patch_size": 14, "num_attention_heads": 2})
    rope: dict[str, Any] = {"rope_double_precision": False, "rope_type": "split"}
    torch.manual_seed(seed)
    connectors = LTX2TextConnectors(
        caption_channels=GEMMA_WIDTH,
        text_proj_in_factor=3,
        video_connector_num_attention_heads=4,
        video_connector_attention_head_dim=8,
        video_connector_num_layers=1,
        video_connector_num_learnable_registers=8,
        audio_connector_num_attention_heads=4,
        audio_connector_attention_head_dim=8,
        audio_connector_num_layers=1,
        audio_connector_num_learnable_registers=8,
        connector_rope_base_seq_len=32,
        **rope,
    )
    transformer = LTX2VideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        audio_in_channels=4,
        audio_out_channels=4,
        audio_num_attention_heads=2,
        audio_attention_head_dim=4,
        audio_cross_attention_dim=8,
        num_layers=2,
        caption_channels=GEMMA_WIDTH,
        **rope,
    )
    vae = AutoencoderKLLTX2Video(
        latent_channels=8,
        block_out_channels=(8,) * 4,
        decoder_block_out_channels=(16, 32, 64),
        layers_per_block=(1,) * 5,
        decoder_layers_per_block=(1,) * 4,
        patch_size=1,
        spatial_compression_ratio=8,
        temporal_compression_ratio=8,
    )
    audio_vae = AutoencoderKLLTX2Audio(base_channels=4, ch_mult=(1,), num_res_blocks=1, latent_channels=2, mel_bins=8)
    vocoder = LTX2Vocoder(
        in_channels=16,
        hidden_channels=32,
        upsample_kernel_sizes=[4, 4],
        upsample_factors=[2, 2],
        resnet_kernel_sizes=[3],
        resnet_dilations=[[1, 3, 5]],
        output_sampling_rate=16000,
    )
    return {
        "tokenizer": tokenizer,
        "text_encoder": stirred(Gemma3ForConditionalGeneration(config), seed),
        "connectors": stirred(connectors, seed),
        "transformer": stirred(transformer, seed, LOUD),
        "vae": vae.eval(),
        "audio_vae": audio_vae.eval(),
        "vocoder": vocoder.eval(),
        "scheduler": parts.flow(),
    }


def ltx2(seed: int = 0) -> Any:
    """LTX-2 in small: video and sound in one run, text by way of connectors with registers."""
    return quiet(LTX2Pipeline(**ltx2_parts(seed)))


def ltx2_from_image(seed: int = 0) -> Any:
    """LTX-2 from an image: the first frame is given."""
    return quiet(LTX2ImageToVideoPipeline(**ltx2_parts(seed)))


def ltx2_conditions(seed: int = 0) -> Any:
    """LTX-2 with images at any frame: tokens behind those of the video."""
    return quiet(LTX2ConditionPipeline(**ltx2_parts(seed)))


# a shorter template than the one of 95 tokens, which a tokenizer that was trained on little makes longer
TEMPLATE = "Describe.<|eot_id|>{}<|eot_id|>"
CROPPED = len(tokenizers.llama3()("Describe.<|eot_id|>").input_ids)
HUNYUAN: dict[str, Any] = {
    **SIZE,
    "num_frames": 9,
    "prompt_template": {"template": TEMPLATE, "crop_start": CROPPED},
}
GLYPHS: dict[str, Any] = {"height": 32, "width": 48, "num_inference_steps": 2, "num_frames": 9}
SOUND: dict[str, Any] = {**SIZE, "width": 64, "num_frames": 17}

JOINT_VIDEOS = {
    "mochi": Case(mochi, {**SIZE, "num_frames": 13}, "batch"),
    "hunyuan": Case(hunyuan_video, HUNYUAN, "embedded"),
    "hunyuan-guided": Case(
        hunyuan_video, {**HUNYUAN, "negative_prompt": "a green cross", "true_cfg_scale": 3.0}, "two calls"
    ),
    "skyreels1": Case(
        skyreels, {**HUNYUAN, "image": parts.random_image(32, 48), "negative_prompt": "a green cross"}, "two calls"
    ),
    "hunyuan15": Case(hunyuan_video15, GLYPHS, "two calls"),
    "hunyuan15-image": Case(
        hunyuan_video15_from_image,
        {name: value for name, value in GLYPHS.items() if name not in ("height", "width")}
        | {"image": parts.random_image(32, 48)},
        "two calls",
    ),
    "ltx2": Case(ltx2, SOUND, "batch"),
    "ltx2-image": Case(ltx2_from_image, {**SOUND, "image": WIDE, "image_crf": 0}, "batch"),
    "ltx2-conditions": Case(
        ltx2_conditions,
        {**SOUND, "conditions": [LTX2VideoCondition(WIDE, 0, crf=0), LTX2VideoCondition(WIDE, 1, 0.7, crf=0)]},
        "batch",
    ),
}
