"""Tiny pipelines of JoyImage: text to image, and editing with references.

Not a test: a workshop, as tests.pipelines.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    JoyImageEditPipeline,
    JoyImageEditPlusPipeline,
    JoyImageEditPlusTransformer3DModel,
    JoyImageEditTransformer3DModel,
)
from diffusers.pipelines.joyimage import image_processor

from tests import tiny_parts as parts
from tests import tiny_tokenizers as tokenizers
from tests.pipelines_recent import qwen3_processor
from tests.tiny_eyes import qwen3_vision_with_head
from tests.tiny_parts import Case, quiet, random_image, stirred, wan_vae

TEXT_WIDTH = 32
image_processor.BUCKETS[1024] = [(64, 96), (96, 64)]  # its sizes: a million pixels in all ratios


def eyes_and_text(seed: int) -> dict[str, Any]:
    """Qwen 3 VL, which sees the reference of an editing model, with its tokenizer and processor."""
    torch.manual_seed(seed)
    tokenizer = tokenizers.qwen()
    return {
        "text_encoder": qwen3_vision_with_head(tokenizer, TEXT_WIDTH, seed=seed),
        "tokenizer": tokenizer,
        "processor": qwen3_processor(tokenizer),
    }


_SIZES: dict[str, Any] = {
    "in_channels": 16,
    "hidden_size": 48,
    "num_attention_heads": 4,
    "text_dim": TEXT_WIDTH,
    "num_layers": 2,
    "rope_dim_list": [4, 4, 4],
}


def joyimage_edit(seed: int = 0) -> Any:
    """JoyImage-Edit in small: the reference and the image are items of one tensor, and the image comes first."""
    made = {**eyes_and_text(seed), "scheduler": parts.flow(), "vae": wan_vae(seed)}
    transformer = JoyImageEditTransformer3DModel(**_SIZES)
    pipe = JoyImageEditPipeline(**made, transformer=stirred(transformer, seed, {"q_norm": 2}))
    start = len(made["tokenizer"](pipe.prompt_template_encode["image"].split("<|im_start|>user")[0]).input_ids)
    pipe.prompt_template_encode_start_idx = {"image": start, "multiple_images": start}
    return quiet(pipe)


def joyimage_edit_plus(seed: int = 0) -> Any:
    """JoyImage-Edit-Plus in small: patches of the image and of several references in one list."""
    made = {**eyes_and_text(seed), "scheduler": parts.flow(), "vae": wan_vae(seed)}
    transformer = JoyImageEditPlusTransformer3DModel(**_SIZES)
    pipe = JoyImageEditPlusPipeline(**made, transformer=stirred(transformer, seed, {"q_norm": 2}))
    beginning = pipe.prompt_template_encode["multiple_images"].split("{}")[0]
    pipe.prompt_template_encode_start_idx = {"multiple_images": len(made["tokenizer"](beginning).input_ids)}
    return quiet(pipe)


_FAST: dict[str, Any] = {"num_inference_steps": 2, "guidance_scale": 4.0, "negative_prompt": "a green cross"}

CASES = {"joyimage": Case(joyimage_edit, {**_FAST, "height": 64, "width": 96}, "two calls")}
EDITING = {
    "joyimage-edit": Case(joyimage_edit, {**_FAST, "image": random_image(64, 96)}, "two calls"),
    "joyimage-plus": Case(
        joyimage_edit_plus,
        {**_FAST, "height": 64, "width": 96, "images": [random_image(96, 64, seed=1), random_image(64, 96, seed=2)]},
        "batch",
    ),
}
