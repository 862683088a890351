"""Tiny pipelines with joint attention whose text comes from language models, in templates, or from T5 with a mask.

Not a test: a workshop, as tests.pipelines. Where a pipeline takes it for granted that the autoencoder divides sides
by 8, it does, and images are 64 x 96: 4 x 6 image tokens; elsewhere 32 x 48: 8 x 12.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AuraFlowPipeline,
    AuraFlowTransformer2DModel,
    ChromaPipeline,
    ChromaTransformer2DModel,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
    HiDreamImagePipeline,
    HiDreamImageTransformer2DModel,
    Lumina2Pipeline,
    Lumina2Transformer2DModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)

from tests import tiny_parts as parts
from tests import tiny_tokenizers as tokenizers
from tests.pipelines import clip_tokenizer
from tests.tiny_parts import CLIP_WIDTH, GEMMA_WIDTH, T5_WIDTH, Case, quiet, stirred


def lumina2(seed: int = 0) -> Any:
    """Lumina 2 in small: a system prompt in front of the user's, one sequence for text and image, fewer key heads."""
    torch.manual_seed(seed)
    tokenizer = tokenizers.gemma()
    transformer = Lumina2Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=16,
        hidden_size=48,
        num_layers=2,
        num_refiner_layers=1,
        num_attention_heads=4,
        num_kv_heads=2,
        multiple_of=16,
        axes_dim_rope=(4, 4, 4),
        axes_lens=(300, 64, 64),
        cap_feat_dim=GEMMA_WIDTH,
    )
    pipe = Lumina2Pipeline(
        transformer=stirred(transformer, seed),
        scheduler=parts.flow(shift=6.0),
        vae=parts.vae(seed=seed, levels=4),
        text_encoder=parts.gemma2(tokenizer, seed=seed),
        tokenizer=tokenizer,
    )
    return quiet(pipe)


def chroma(seed: int = 0) -> Any:
    """Chroma in small: FLUX without CLIP, with a mask that leaves one padding token in sight."""
    torch.manual_seed(seed)
    tokenizer = tokenizers.t5(512)
    with parts.overlooking(".*FluxPosEmbed.* is deprecated"):
        transformer = ChromaTransformer2DModel(
            patch_size=1,
            in_channels=64,
            num_layers=2,
            num_single_layers=2,
            attention_head_dim=12,
            num_attention_heads=4,
            joint_attention_dim=T5_WIDTH,
            axes_dims_rope=(4, 4, 4),
            approximator_num_channels=16,
            approximator_hidden_dim=32,
            approximator_layers=1,
        )
    pipe = ChromaPipeline(
        transformer=stirred(transformer, seed),
        scheduler=parts.flow(use_dynamic_shifting=True),
        vae=parts.vae(seed=seed),
        text_encoder=parts.t5(tokenizer, seed=seed),
        tokenizer=tokenizer,
    )
    return quiet(pipe)


def aura_flow(seed: int = 0) -> Any:
    """AuraFlow in small: eight registers stand before the text; padding is zero, not masked."""
    torch.manual_seed(seed)
    tokenizer = tokenizers.t5(256)
    transformer = AuraFlowTransformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=4,
        num_mmdit_layers=2,
        num_single_dit_layers=2,
        attention_head_dim=12,
        num_attention_heads=4,
        joint_attention_dim=T5_WIDTH,
        caption_projection_dim=48,
        pos_embed_max_size=1024,
    )
    pipe = AuraFlowPipeline(
        transformer=stirred(transformer, seed, {"to_out.0": 3, "add_v_proj": 3, "to_v": 2}),
        scheduler=parts.flow(shift=1.73),
        vae=parts.vae(4, seed),
        text_encoder=parts.umt5(tokenizer, seed=seed),
        tokenizer=tokenizer,
    )
    return quiet(pipe)


def z_image(seed: int = 0) -> Any:
    """Z-Image in small: lists of samples, each padded to a multiple of 32; image first; the prompt's half first too."""
    torch.manual_seed(seed)
    tokenizer = tokenizers.qwen()
    config: dict[str, Any] = {"axes_dims": [4, 4, 4], "axes_lens": [1024, 64, 64]}
    transformer = ZImageTransformer2DModel(
        in_channels=16, dim=48, n_layers=2, n_refiner_layers=1, n_heads=4, n_kv_heads=4, cap_feat_dim=32, **config
    )
    pipe = ZImagePipeline(
        transformer=stirred(transformer, seed),
        scheduler=parts.flow(),
        vae=parts.vae(seed=seed),
        text_encoder=parts.qwen3(tokenizer, seed=seed),
        tokenizer=tokenizer,
    )
    return quiet(pipe)


def _flux2_transformer(seed: int, text: int, guidance_embeds: bool) -> Any:
    transformer = Flux2Transformer2DModel(
        in_channels=128,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=4,
        joint_attention_dim=text,
        timestep_guidance_channels=32,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guidance_embeds,
    )
    return stirred(transformer, seed, {"norm_q": 2, "norm_added_q": 2})


def flux2(seed: int = 0) -> Any:
    """FLUX.2 dev in small: a chat with a system message, padded on the left; guidance is an input."""
    torch.manual_seed(seed)
    processor = tokenizers.mistral()
    pipe = Flux2Pipeline(
        transformer=_flux2_transformer(seed, 3 * 16, guidance_embeds=True),
        scheduler=parts.flow(use_dynamic_shifting=True),
        vae=parts.flux2_vae(seed),
        text_encoder=parts.mistral3(processor, width=16, layers=30, seed=seed),
        tokenizer=processor,
    )
    return quiet(pipe)


def flux2_klein(seed: int = 0, distilled: bool = False) -> Any:
    """FLUX.2 klein in small: Qwen 3 with a chat template, padded on the right; guided by two calls or distilled."""
    torch.manual_seed(seed)
    tokenizer = tokenizers.qwen()
    pipe = Flux2KleinPipeline(
        transformer=_flux2_transformer(seed, 3 * 16, guidance_embeds=False),
        scheduler=parts.flow(use_dynamic_shifting=True),
        vae=parts.flux2_vae(seed),
        text_encoder=parts.qwen3(tokenizer, width=16, layers=27, seed=seed),
        tokenizer=tokenizer,
        is_distilled=distilled,
    )
    return quiet(pipe)


def flux2_klein_distilled(seed: int = 0) -> Any:
    return flux2_klein(seed, distilled=True)


def hidream(seed: int = 0) -> Any:
    """HiDream in small: image first, then T5, then Llama's last layer, then the Llama layer of the block."""
    torch.manual_seed(seed)
    first, second = clip_tokenizer(max_length=248), clip_tokenizer(max_length=248, pad_token="!")
    third, fourth = tokenizers.t5(512), tokenizers.llama3()
    axes: dict[str, Any] = {"axes_dims_rope": (8, 4, 4)}
    transformer = HiDreamImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=4,
        caption_channels=[T5_WIDTH, 32],
        text_emb_dim=2 * CLIP_WIDTH,
        num_routed_experts=2,
        num_activated_experts=1,
        max_resolution=(24, 24),
        llama_layers=[0, 1, 1, 1],
        **axes,
    )
    pipe = HiDreamImagePipeline(
        transformer=stirred(transformer, seed),
        scheduler=parts.flow(),
        vae=parts.vae(seed=seed),
        text_encoder=parts.clip(first, projection=True, seed=seed),
        tokenizer=first,
        text_encoder_2=parts.clip(second, projection=True, seed=seed + 1),
        tokenizer_2=second,
        text_encoder_3=parts.t5(third, seed=seed),
        tokenizer_3=third,
        text_encoder_4=parts.llama(fourth, seed=seed),
        tokenizer_4=fourth,
    )
    pipe.default_sample_size = 20  # sizes are rescaled to the area of a square of this many latents
    return quiet(pipe)


_FAST = {"height": 32, "width": 48, "num_inference_steps": 2}
_SHORT = {**_FAST, "max_sequence_length": 24}
_CHAT = {**_FAST, "max_sequence_length": 64}
_EIGHTHS = {"height": 64, "width": 96}

CASES = {
    "lumina2": Case(lumina2, {**_CHAT, **_EIGHTHS, "guidance_scale": 4.0}, "two calls"),
    "chroma": Case(chroma, {**_SHORT, "guidance_scale": 5.0, "negative_prompt": "a green cross"}, "two calls"),
    "aura-flow": Case(aura_flow, {**_SHORT, "guidance_scale": 3.5}, "batch"),
    "z-image": Case(z_image, {**_CHAT, "guidance_scale": 4.0}, "batch"),
    "z-image-turbo": Case(z_image, {**_CHAT, "guidance_scale": 0.0}, "none"),
    "flux2": Case(flux2, {**_CHAT, "guidance_scale": 4.0}, "embedded"),
    "flux2-klein": Case(flux2_klein, {**_CHAT, "guidance_scale": 4.0}, "two calls"),
    "flux2-klein-distilled": Case(flux2_klein_distilled, {**_CHAT, "guidance_scale": 1.0}, "none"),
    "hidream": Case(hidream, {**_SHORT, "guidance_scale": 5.0}, "batch"),
}
