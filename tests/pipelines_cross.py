"""Tiny pipelines whose denoisers read the text in cross-attention: PixArt, Sana, and more U-Nets.

Not a test: a workshop, as tests.pipelines.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    HunyuanDiT2DModel,
    HunyuanDiTPipeline,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SanaPipeline,
    SanaSprintPipeline,
    SanaTransformer2DModel,
    SCMScheduler,
)

from tests import tiny_parts as parts
from tests import tiny_tokenizers as tokenizers
from tests.tiny_parts import GEMMA_WIDTH, T5_WIDTH, Case, quiet, stirred, with_parts_of

SIZE = {"height": 32, "width": 48}


def _pixart_parts(seed: int, sample_size: int, vae: Any) -> dict[str, Any]:
    torch.manual_seed(seed)
    tokenizer = tokenizers.t5(300)
    transformer = PixArtTransformer2DModel(
        num_attention_heads=4,
        attention_head_dim=12,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        cross_attention_dim=48,
        sample_size=sample_size,
        patch_size=2,
        caption_channels=T5_WIDTH,
    )
    return {
        "transformer": stirred(transformer, seed, {"attn2.to_q": 2.5}),
        "scheduler": DPMSolverMultistepScheduler(),
        "vae": vae,
        "text_encoder": parts.t5(tokenizer, seed=seed),
        "tokenizer": tokenizer,
    }


def pixart_alpha(seed: int = 0) -> Any:
    """PixArt-α at 1024 in small: the size is a condition too, half of the output is a variance that is dropped."""
    return quiet(PixArtAlphaPipeline(**_pixart_parts(seed, 128, parts.vae(4, seed))))


def pixart_sigma(seed: int = 0) -> Any:
    """PixArt-Σ in small with sides divided by 8, so that its resolution bins can be used."""
    return quiet(PixArtSigmaPipeline(**_pixart_parts(seed, 32, parts.vae(4, seed, levels=4))))


def hunyuan_dit(seed: int = 0) -> Any:
    """Hunyuan-DiT in small: BERT's 77 positions, then T5's 256; learned vectors stand where there is no text."""
    torch.manual_seed(seed)
    first, second = tokenizers.bert(77), tokenizers.t5(256)
    transformer = HunyuanDiT2DModel(
        num_attention_heads=4,
        attention_head_dim=8,
        in_channels=4,
        patch_size=2,
        sample_size=16,
        hidden_size=32,
        num_layers=4,
        mlp_ratio=2.0,
        cross_attention_dim=32,
        cross_attention_dim_t5=T5_WIDTH,
        pooled_projection_dim=16,
    )
    no_guard: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipe = HunyuanDiTPipeline(
        transformer=stirred(transformer, seed),
        scheduler=DDPMScheduler(beta_schedule="scaled_linear", beta_end=0.03, prediction_type="v_prediction"),
        vae=parts.vae(4, seed, levels=4),  # the pipeline takes it for granted that sides are divided by 8
        text_encoder=parts.bert(first, seed=seed),
        tokenizer=first,
        text_encoder_2=parts.t5(second, seed=seed),
        tokenizer_2=second,
        **no_guard,
    )
    return quiet(pipe)


def sana(seed: int = 0) -> Any:
    """Sana in small: linear self-attention, text in cross-attention, sides divided by 4 by a deep autoencoder."""
    torch.manual_seed(seed)
    tokenizer = tokenizers.gemma()
    transformer = SanaTransformer2DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=4,
        attention_head_dim=8,
        num_layers=2,
        num_cross_attention_heads=4,
        cross_attention_head_dim=8,
        cross_attention_dim=32,
        caption_channels=GEMMA_WIDTH,
        sample_size=16,
        patch_size=1,
    )
    pipe = SanaPipeline(
        transformer=stirred(transformer, seed, {"attn2.to_q": 2.5}),
        scheduler=DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
        vae=parts.deep_vae(seed),
        text_encoder=parts.gemma2(tokenizer, seed=seed),
        tokenizer=tokenizer,
    )
    return quiet(pipe)


def sana_sprint_transformer(whole: Any) -> dict[str, Any]:
    """Sana-Sprint in small: the guidance scale is an input, and few steps are angles."""
    before = {name: value for name, value in whole.transformer.config.items() if not name.startswith("_")}
    torch.manual_seed(0)
    changed = before | {"guidance_embeds": True, "qk_norm": "rms_norm_across_heads"}
    transformer = stirred(SanaTransformer2DModel(**changed), 0, {"attn2.to_q": 2.5})
    return {"transformer": transformer, "scheduler": SCMScheduler()}


_FAST = {**SIZE, "num_inference_steps": 2, "guidance_scale": 4.5}
_SHORT = {**_FAST, "max_sequence_length": 24}

CASES = {
    "pixart-alpha": Case(pixart_alpha, {**_SHORT, "use_resolution_binning": False}, "batch"),
    "pixart-sigma": Case(
        pixart_sigma, {**_SHORT, "height": 96, "width": 160, "use_resolution_binning": False}, "batch"
    ),
    "pixart-binned": Case(pixart_sigma, {**_SHORT, "height": 200, "width": 320}, "batch"),
    "hunyuan-dit": Case(hunyuan_dit, {**_FAST, "height": 64, "width": 96, "use_resolution_binning": False}, "batch"),
    "sana-sprint": Case(
        with_parts_of(SanaSprintPipeline, sana, sana_sprint_transformer),
        {**_SHORT, "height": 32, "width": 64, "use_resolution_binning": False},
        "embedded",
    ),
    "sana": Case(sana, {**_SHORT, "height": 32, "width": 64, "use_resolution_binning": False}, "batch"),
}
