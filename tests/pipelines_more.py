"""Tiny pipelines of the families that are met less often: CogView, Lumina-Next, PRX, Ovis, Krea 2, Kandinsky 3, IF.

Not a test: a workshop, as tests.pipelines. Variants of other families that cost little are here too.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogView3PlusPipeline,
    CogView3PlusTransformer2DModel,
    CogView4Pipeline,
    CogView4Transformer2DModel,
    DDPMScheduler,
    FluxKontextPipeline,
    HunyuanDiTPAGPipeline,
    IFPipeline,
    Kandinsky3Pipeline,
    Kandinsky3UNet,
    Krea2Pipeline,
    Krea2Transformer2DModel,
    LuminaNextDiT2DModel,
    LuminaPipeline,
    OvisImagePipeline,
    OvisImageTransformer2DModel,
    PixArtSigmaPAGPipeline,
    PRXPipeline,
    PRXPixelPipeline,
    PRXTransformer2DModel,
    QwenImageImg2ImgPipeline,
    SanaPAGPipeline,
    StableDiffusion3PAGPipeline,
    UNet2DConditionModel,
    ZImageImg2ImgPipeline,
)

from tests import pipelines_chat, pipelines_cross, pipelines_joint, tiny_eyes
from tests import tiny_parts as parts
from tests import tiny_tokenizers as tokenizers
from tests.tiny_parts import GEMMA_WIDTH, T5_WIDTH, Case, quiet, random_image, stirred


def cogview3_plus(seed: int = 0) -> Any:
    """CogView 3 plus in small: T5's text before the image, padding in sight."""
    torch.manual_seed(seed)
    tokenizer = tokenizers.t5(224)
    transformer = CogView3PlusTransformer2DModel(
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        out_channels=4,
        text_embed_dim=T5_WIDTH,
        time_embed_dim=16,
        condition_dim=4,
        pos_embed_max_size=24,
        sample_size=16,
    )
    pipe = CogView3PlusPipeline(
        tokenizer=tokenizer,
        text_encoder=parts.t5(tokenizer, seed=seed),
        vae=parts.vae(4, seed),
        transformer=stirred(transformer, seed),
        scheduler=CogVideoXDDIMScheduler(),
    )
    return quiet(pipe)


def cogview4(seed: int = 0) -> Any:
    """CogView 4 in small: GLM's text before the image, padded on the left to a multiple of 16, padding in sight."""
    torch.manual_seed(seed)
    tokenizer = tokenizers.glm()
    transformer = CogView4Transformer2DModel(
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        out_channels=4,
        text_embed_dim=32,
        time_embed_dim=16,
        condition_dim=4,
        pos_embed_max_size=24,
        sample_size=16,
    )
    pipe = CogView4Pipeline(
        tokenizer=tokenizer,
        text_encoder=parts.glm(tokenizer, seed=seed),
        vae=parts.vae(4, seed),
        transformer=stirred(transformer, seed),
        scheduler=parts.flow(use_dynamic_shifting=True, base_shift=0.25, max_shift=0.75, time_shift_type="linear"),
    )
    return quiet(pipe)


def lumina_next(seed: int = 0) -> Any:
    """Lumina-Next in small: cross-attention beside self-attention; the conditional branch comes first in the batch."""
    torch.manual_seed(seed)
    tokenizer = tokenizers.gemma()
    transformer = LuminaNextDiT2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=4,
        hidden_size=48,
        num_layers=2,
        num_attention_heads=4,
        num_kv_heads=2,
        multiple_of=16,
        cross_attention_dim=GEMMA_WIDTH,
        learn_sigma=True,
        qk_norm=True,
    )
    pipe = LuminaPipeline(
        transformer=stirred(transformer, seed),
        scheduler=parts.flow(),
        vae=parts.vae(4, seed, levels=4),
        text_encoder=parts.gemma(tokenizer, seed=seed),
        tokenizer=tokenizer,
    )
    return quiet(pipe)


def prx(seed: int = 0) -> Any:
    """PRX in small: only the image asks, of text and image; text keys first, masked."""
    torch.manual_seed(seed)
    tokenizer = tokenizers.gemma(max_length=256)
    transformer = PRXTransformer2DModel(
        in_channels=16, patch_size=2, context_in_dim=32, hidden_size=32, num_heads=4, depth=2, axes_dim=[4, 4]
    )
    with parts.overlooking(".*LoraLoaderMixin.* is deprecated"):
        pipe = PRXPipeline(
            transformer=stirred(transformer, seed),
            scheduler=parts.flow(),
            text_encoder=parts.t5_gemma(tokenizer, seed=seed),
            tokenizer=tokenizer,
            vae=parts.vae(seed=seed),
            default_sample_size=512,
        )
    return quiet(pipe)


def prx_pixel(seed: int = 0) -> Any:
    """PRXPixel in small: it denoises pixels, in squares of four, and predicts the clean image; Qwen's text."""
    torch.manual_seed(seed)
    tokenizer = tokenizers.qwen()
    transformer = PRXTransformer2DModel(
        in_channels=3,
        patch_size=4,
        context_in_dim=32,
        hidden_size=32,
        num_heads=4,
        depth=2,
        axes_dim=[4, 4],
        bottleneck_size=16,
        resolution_embeds=True,
    )
    pipe = PRXPixelPipeline(
        transformer=stirred(transformer, seed),
        scheduler=parts.flow(),
        text_encoder=tiny_eyes.qwen3_vision(tokenizer, seed=seed),
        tokenizer=tokenizer,
        prompt_max_tokens=24,
    )
    return quiet(pipe)


def ovis(seed: int = 0) -> Any:
    """Ovis-Image in small: a described task in front of the prompt, most of it dropped; padding is zero, in sight."""
    torch.manual_seed(seed)
    tokenizer = tokenizers.qwen()
    transformer = OvisImageTransformer2DModel(
        in_channels=64,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=12,
        num_attention_heads=4,
        joint_attention_dim=32,
        axes_dims_rope=(4, 4, 4),
    )
    pipe = OvisImagePipeline(
        transformer=stirred(transformer, seed),
        scheduler=parts.flow(use_dynamic_shifting=True),
        vae=parts.vae(seed=seed),
        text_encoder=parts.qwen3(tokenizer, seed=seed).model,
        tokenizer=tokenizer,
    )
    return quiet(pipe)


def krea2(seed: int = 0, layers: int = 3) -> Any:
    """Krea 2 in small: several layers of the language model are mixed; guidance counts from zero, in two calls."""
    torch.manual_seed(seed)
    tokenizer = tokenizers.qwen()
    transformer = Krea2Transformer2DModel(
        in_channels=64,
        num_layers=2,
        attention_head_dim=12,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        timestep_embed_dim=32,
        text_hidden_dim=32,
        num_text_layers=min(layers, 12),
        text_num_attention_heads=4,
        text_num_key_value_heads=4,
        text_intermediate_size=64,
        num_layerwise_text_blocks=1,
        num_refiner_text_blocks=1,
        axes_dims_rope=(4, 4, 4),
    )
    pipe = Krea2Pipeline(
        transformer=stirred(transformer, seed),
        scheduler=parts.flow(use_dynamic_shifting=True),
        vae=parts.qwen_vae(seed),
        text_encoder=tiny_eyes.qwen3_vision(tokenizer, layers=layers, seed=seed),
        tokenizer=tokenizer,
        text_encoder_select_layers=(1, 2, 3),
    )
    return quiet(pipe)


def kandinsky_3(seed: int = 0) -> Any:
    """Kandinsky 3 in small: T5 in cross-attention, cut to the longest prompt; sides divided by 8."""
    torch.manual_seed(seed)
    tokenizer = tokenizers.t5(128)
    unet = Kandinsky3UNet(
        time_embedding_dim=32,
        groups=4,
        attention_head_dim=8,
        layers_per_block=2,
        block_out_channels=(16, 16, 32, 32),
        cross_attention_dim=32,
        encoder_hid_dim=T5_WIDTH,
    )
    pipe = Kandinsky3Pipeline(
        tokenizer=tokenizer,
        text_encoder=parts.t5(tokenizer, seed=seed),
        unet=stirred(unet, seed, {"attention.to_q": 2}),
        scheduler=DDPMScheduler(beta_start=0.00085, beta_end=0.02, beta_schedule="squaredcos_cap_v2"),
        movq=parts.movq(seed, levels=4),
    )
    return quiet(pipe)


def deepfloyd_if(seed: int = 0) -> Any:
    """IF's first stage in small: it denoises pixels; text keys stand before the image's own in every attention."""
    torch.manual_seed(seed)
    tokenizer = tokenizers.t5(77)
    config: dict[str, Any] = {
        "sample_size": 32,
        "in_channels": 3,
        "out_channels": 6,
        "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "addition_embed_type": "text",
        "addition_embed_type_num_heads": 2,
        "encoder_hid_dim": T5_WIDTH,
        "cross_attention_dim": 16,
        "attention_head_dim": 8,
        "norm_num_groups": 8,
        "resnet_time_scale_shift": "scale_shift",
        "act_fn": "gelu",
    }
    noise: dict[str, Any] = {"beta_schedule": "squaredcos_cap_v2", "variance_type": "learned_range"}
    no_checks: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "watermarker": None}
    pipe = IFPipeline(
        tokenizer=tokenizer,
        text_encoder=parts.t5(tokenizer, seed=seed),
        unet=stirred(UNet2DConditionModel(**config), seed),
        scheduler=DDPMScheduler(**noise, thresholding=True),
        requires_safety_checker=False,
        **no_checks,
    )
    return quiet(pipe)


def flux_kontext(seed: int = 0) -> Any:
    """FLUX.1 Kontext in small: the given image's tokens stand behind those of the image to be."""
    return quiet(FluxKontextPipeline(**pipelines_joint._flux_parts(seed, guidance_embeds=True)))


def qwen_image_to_image(seed: int = 0) -> Any:
    return quiet(QwenImageImg2ImgPipeline(**pipelines_joint.qwen_image(seed).components))


def z_image_to_image(seed: int = 0) -> Any:
    return quiet(ZImageImg2ImgPipeline(**pipelines_chat.z_image(seed).components))


def stable_diffusion_3_perturbed(seed: int = 0) -> Any:
    parts = pipelines_joint._sd3_parts(seed)
    return quiet(StableDiffusion3PAGPipeline(**parts, pag_applied_layers="transformer_blocks.1"))


def hunyuan_dit_perturbed(seed: int = 0) -> Any:
    parts = pipelines_cross.hunyuan_dit(seed).components
    return quiet(HunyuanDiTPAGPipeline(**parts, requires_safety_checker=False, pag_applied_layers="blocks.1"))


def sana_perturbed(seed: int = 0) -> Any:
    return quiet(SanaPAGPipeline(**pipelines_cross.sana(seed).components, pag_applied_layers="transformer_blocks.1"))


def pixart_sigma_perturbed(seed: int = 0) -> Any:
    return quiet(PixArtSigmaPAGPipeline(**pipelines_cross.pixart_sigma(seed).components, pag_applied_layers="blocks.1"))


_SIZE = {"height": 32, "width": 48}
_FAST = {**_SIZE, "num_inference_steps": 2, "guidance_scale": 5.0}
_SHORT = {**_FAST, "max_sequence_length": 24}
_CHAT = {**_FAST, "max_sequence_length": 64}
_EIGHTHS = {"height": 64, "width": 96}
_FROM_IMAGE = {"image": random_image(**_SIZE), "strength": 0.7, "num_inference_steps": 3}
_PERTURBED = {"pag_scale": 2.0}

CASES = {
    "cogview3": Case(cogview3_plus, _SHORT, "batch"),
    "cogview4": Case(cogview4, _CHAT, "two calls"),
    "lumina-next": Case(lumina_next, {**_FAST, **_EIGHTHS}, "batch"),
    "prx": Case(prx, {**_FAST, "use_resolution_binning": False}, "batch"),
    "prx-pixel": Case(prx_pixel, {**_FAST, "use_resolution_binning": False}, "batch"),
    "ovis": Case(ovis, _SHORT, "two calls"),
    "krea2": Case(krea2, _CHAT, "two calls"),
    "kandinsky3": Case(kandinsky_3, {**_FAST, "height": 64, "width": 128}, "batch"),
    "if": Case(deepfloyd_if, _FAST, "batch"),
    "flux-kontext": Case(
        flux_kontext, {**_SHORT, "image": random_image(**_SIZE), "max_area": 32 * 48, "_auto_resize": False}, "embedded"
    ),
    "qwen-img2img": Case(
        qwen_image_to_image,
        {**_SIZE, **_FROM_IMAGE, "negative_prompt": "a green cross", "true_cfg_scale": 4.0, "max_sequence_length": 24},
        "two calls",
    ),
    "z-image-img2img": Case(z_image_to_image, {**_CHAT, **_FROM_IMAGE}, "batch"),
    "sd3-pag": Case(stable_diffusion_3_perturbed, {**_SHORT, **_PERTURBED}, "batch"),
    "hunyuan-dit-pag": Case(
        hunyuan_dit_perturbed, {**_FAST, **_EIGHTHS, **_PERTURBED, "use_resolution_binning": False}, "batch"
    ),
    "sana-pag": Case(
        sana_perturbed,
        {**_SHORT, **_PERTURBED, "height": 32, "width": 64, "use_resolution_binning": False},
        "batch",
    ),
    "pixart-sigma-pag": Case(
        pixart_sigma_perturbed,
        {**_SHORT, **_PERTURBED, "height": 96, "width": 160, "use_resolution_binning": False},
        "batch",
    ),
}
