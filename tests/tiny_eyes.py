"""Encoders of images in small: what editing models and pipelines that begin from an image see by.

Not a test: part of the workshop, as tests.tiny_parts.
"""

from __future__ import annotations

from typing import Any

from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLModel,
    Siglip2ImageProcessor,
    Siglip2VisionConfig,
    Siglip2VisionModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from tests.tiny_parts import decoder_config, stirred

_SIZES: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "patch_size": 14, "image_size": 28}


def clip_eyes(seed: int, kind: Any = CLIPVisionModel) -> dict[str, Any]:
    """CLIP's image encoder and its processor, under the names that pipelines give them."""
    encoder = kind(CLIPVisionConfig(**_SIZES, num_hidden_layers=2, num_attention_heads=4))
    return {
        "image_encoder": stirred(encoder, seed),
        "image_processor": CLIPImageProcessor(size=28, crop_size=28),
    }


def siglip(seed: int) -> Any:
    """SigLIP's image encoder."""
    return stirred(SiglipVisionModel(SiglipVisionConfig(**_SIZES, num_hidden_layers=1, num_attention_heads=2)), seed)


def siglip2_eyes(seed: int) -> dict[str, Any]:
    """SigLIP 2's image encoder and its processor, under the names that pipelines give them."""
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "patch_size": 16, "num_patches": 16}
    encoder = Siglip2VisionModel(Siglip2VisionConfig(**sizes, num_hidden_layers=1, num_attention_heads=2))
    return {
        "siglip": stirred(encoder, seed),
        "siglip_processor": Siglip2ImageProcessor(patch_size=16, max_num_patches=16),
    }


def qwen3_vision(tokenizer: Any, width: int = 32, layers: int = 3, seed: int = 0, kind: Any = Qwen3VLModel) -> Any:
    """Qwen 3 VL, by default without its head; its tokens of images are those of the tokenizer."""
    rotary = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [2, 1, 1], "mrope_interleaved": True}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": width}
    names = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
    ids = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>") for name, token in names.items()}
    config = Qwen3VLConfig(
        text_config={**decoder_config(tokenizer, width, layers), "rope_parameters": rotary},
        vision_config={**vision, "deepstack_visual_indexes": [0], "num_position_embeddings": 16, "patch_size": 14},
        **ids,
    )
    return stirred(kind(config), seed)


def qwen3_vision_with_head(tokenizer: Any, width: int = 32, layers: int = 2, seed: int = 0) -> Any:
    """Qwen 3 VL as it writes text."""
    return qwen3_vision(tokenizer, width, layers, seed, Qwen3VLForConditionalGeneration)
