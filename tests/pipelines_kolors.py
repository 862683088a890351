"""Tiny pipelines of Kolors: SDXL's U-Net, with the text of ChatGLM.

Not a test: a workshop, as tests.pipelines.
"""

from __future__ import annotations

from typing import Any

import torch

from tests import pipelines, pipelines_unet
from tests import tiny_tokenizers as tokenizers
from tests.tiny_parts import Case, overlooking, quiet, random_image, stirred, with_parts_of

with overlooking(".*torch.jit.script.* is deprecated"):
    from diffusers import KolorsImg2ImgPipeline, KolorsPAGPipeline, KolorsPipeline
    from diffusers.pipelines.kolors import ChatGLMModel
    from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig

_WIDTH = 32


def _chat_glm(tokenizer: Any, seed: int) -> Any:
    config = ChatGLMConfig(
        num_layers=2,
        padded_vocab_size=tokenizer.vocab_size,
        hidden_size=_WIDTH,
        ffn_hidden_size=_WIDTH,
        kv_channels=8,
        num_attention_heads=4,
        seq_length=256,
        multi_query_attention=True,
        multi_query_group_num=2,
        add_qkv_bias=True,
        original_rope=True,
        torch_dtype=torch.float32,
    )
    return stirred(ChatGLMModel(config), seed)


def kolors(seed: int = 0) -> Any:
    """Kolors in small."""
    torch.manual_seed(seed)
    tokenizer = tokenizers.chat_glm()
    unet = pipelines_unet._unet(
        seed,
        32,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(16, 32),
        attention_head_dim=(2, 4),
        transformer_layers_per_block=(1, 2),
        use_linear_projection=True,
        encoder_hid_dim=_WIDTH,
        encoder_hid_dim_type="text_proj",
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + _WIDTH,
    )
    scheduler: Any = pipelines._scheduler()
    pipe = KolorsPipeline(
        vae=stirred(pipelines._vae(), seed),
        text_encoder=_chat_glm(tokenizer, seed),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
    )
    return quiet(pipe)


_SIZE: dict[str, Any] = {"height": 32, "width": 48}
_FAST: dict[str, Any] = {**_SIZE, "num_inference_steps": 2, "guidance_scale": 5.0}

CASES: dict[str, Case] = {
    "kolors": Case(kolors, {**_FAST, "negative_prompt": "fog"}, "batch"),
    "kolors-pag": Case(with_parts_of(KolorsPAGPipeline, kolors), {**_FAST, "pag_scale": 2.0}, "batch"),
}
FROM_IMAGE: dict[str, Case] = {
    "kolors-img2img": Case(
        with_parts_of(KolorsImg2ImgPipeline, kolors),
        {**_FAST, "image": random_image(**_SIZE), "strength": 0.7, "num_inference_steps": 3},
        "batch",
    ),
}
