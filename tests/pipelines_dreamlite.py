"""Tiny pipelines of DreamLite: the image at the left of its reference, in one image twice as wide.

Not a test: a workshop, as tests.pipelines.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderTiny, DreamLiteMobilePipeline, DreamLitePipeline, DreamLiteUNetModel

from tests import tiny_parts as parts
from tests.pipelines_joyimage import TEXT_WIDTH, eyes_and_text
from tests.tiny_parts import Case, quiet, random_image, stirred, with_parts_of


def dreamlite(seed: int = 0) -> Any:
    """DreamLite in small: fewer key heads than query heads, some blocks without self-attention."""
    torch.manual_seed(seed)
    unet = DreamLiteUNetModel(
        block_out_channels=(16, 32),
        down_block_types=("DreamLiteCrossAttnNoSelfAttnDownBlock2D", "DreamLiteCrossAttnDownBlock2D"),
        up_block_types=("DreamLiteCrossAttnUpBlock2D", "DreamLiteCrossAttnNoSelfAttnUpBlock2D"),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        ff_mult=2,
    )
    autoencoder: dict[str, Any] = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    vae = AutoencoderTiny(**autoencoder, num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1), scaling_factor=1.0)
    pipe = DreamLitePipeline(
        **eyes_and_text(seed),
        vae=stirred(vae, seed),
        unet=stirred(unet, seed, {"attn2.to_q": 2}),
        scheduler=parts.flow(use_dynamic_shifting=True),
    )
    return adapted(pipe)


def adapted(pipe: Any) -> Any:
    """The pipeline, with as many tokens of each template dropped as the tiny tokenizer makes of it."""
    for task in ("generate", "edit"):
        beginning = getattr(pipe, f"prompt_template_encode_{task}").split("<|im_start|>user")[0]
        setattr(pipe, f"prompt_template_encode_{task}_start_idx", len(pipe.tokenizer(beginning).input_ids))
    return quiet(pipe)


def dreamlite_mobile(seed: int = 0) -> Any:
    """DreamLite Mobile in small: no guidance."""
    return adapted(with_parts_of(DreamLiteMobilePipeline, dreamlite)())


_FAST: dict[str, Any] = {"height": 32, "width": 48, "num_inference_steps": 2}
_GUIDED: dict[str, Any] = {**_FAST, "negative_prompt": "a green cross"}
_IMAGE: dict[str, Any] = {"image": random_image(32, 48)}

CASES = {
    "dreamlite": Case(dreamlite, _GUIDED, "batch"),
    "dreamlite-mobile": Case(dreamlite_mobile, _FAST, "none"),
}
FROM_IMAGE = {
    "dreamlite-edit": Case(dreamlite, {**_GUIDED, **_IMAGE}, "batch"),
    "dreamlite-mobile-edit": Case(dreamlite_mobile, {**_FAST, **_IMAGE}, "none"),
}
