"""Tiny U-Net pipelines that are met less often: AltDiffusion, upscalers, unCLIP, DiffEdit, ControlNet-Union, IF.

Not a test: a workshop, as tests.pipelines.
"""

from __future__ import annotations

import inspect
from typing import Any

import diffusers
import torch
from diffusers.pipelines.deprecated.alt_diffusion.modeling_roberta_series import (
    RobertaSeriesConfig,
    RobertaSeriesModelWithTransformation,
)
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
from diffusers.schedulers import DDPMScheduler
from transformers import CLIPImageProcessor

from tests import pipelines_more, pipelines_unet
from tests import tiny_parts as parts
from tests import tiny_tokenizers as tokenizers
from tests.pipelines import TRAIN_BETAS, clip_tokenizer
from tests.tiny_parts import CLIP_WIDTH, Case, left_half, random_image, stirred, with_parts_of

_PLAIN: dict[str, Any] = {"requires_safety_checker": False}


def _xlm_roberta(whole: Any) -> dict[str, Any]:
    tokenizer = tokenizers.xlm_roberta()
    config = RobertaSeriesConfig(
        vocab_size=len(tokenizer),
        hidden_size=CLIP_WIDTH,
        intermediate_size=2 * CLIP_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=80,
        project_dim=CLIP_WIDTH,
    )
    return {"tokenizer": tokenizer, "text_encoder": stirred(RobertaSeriesModelWithTransformation(config))}


def _inverse(whole: Any) -> dict[str, Any]:
    return {"inverse_scheduler": diffusers.DDIMInverseScheduler.from_config(whole.scheduler.config)}


def _upscaling(whole: Any) -> dict[str, Any]:
    """The image that is enlarged is in further channels, how noisy it is among the classes."""
    noise: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.0001, "beta_end": 0.02}
    denoiser = pipelines_unet._unet(0, in_channels=7, num_class_embeds=1000)
    vae = parts.vae(4, scaling_factor=0.08333)
    return {"unet": denoiser, "vae": vae, "low_res_scheduler": diffusers.DDPMScheduler(**noise)}


def _latent_upscaling(whole: Any) -> dict[str, Any]:
    """The image that is enlarged is in further channels, the pooled text beside the time; one channel is not used."""
    betas: dict[str, Any] = {**TRAIN_BETAS, "prediction_type": "original_sample"}
    denoiser = pipelines_unet._unet(0, in_channels=8, out_channels=5, time_cond_proj_dim=128 + CLIP_WIDTH)
    return {"unet": denoiser, "scheduler": diffusers.EulerDiscreteScheduler(**betas)}


def _unclip(whole: Any) -> dict[str, Any]:
    """What an image is about is among the classes, with noise."""
    noise: Any = diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    return {
        "unet": pipelines_unet._unet(
            0, class_embed_type="projection", projection_class_embeddings_input_dim=2 * CLIP_WIDTH
        ),
        "image_normalizer": StableUnCLIPImageNormalizer(CLIP_WIDTH),
        "image_noising_scheduler": noise,
    }


def _unclip_with_prior(whole: Any) -> dict[str, Any]:
    tokenizer = clip_tokenizer()
    torch.manual_seed(0)
    prior = diffusers.PriorTransformer(
        num_attention_heads=4, attention_head_dim=8, num_layers=2, embedding_dim=CLIP_WIDTH
    )
    return _unclip(whole) | {
        "prior": stirred(prior),
        "prior_tokenizer": tokenizer,
        "prior_text_encoder": parts.clip(tokenizer, projection=True),
        "prior_scheduler": diffusers.UnCLIPScheduler(
            prediction_type="sample", clip_sample_range=5.0, variance_type="fixed_small_log"
        ),
    }


def _unclip_of_image(whole: Any) -> dict[str, Any]:
    return _unclip(whole) | {
        "image_encoder": pipelines_unet._image_encoder(0),
        "feature_extractor": CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
    }


def _union(whole: Any) -> dict[str, Any]:
    """A ControlNet of several kinds of condition: each is a token of a transformer, which weighs them."""
    accepted = inspect.signature(diffusers.ControlNetUnionModel.__init__).parameters
    config = {name: value for name, value in whole.unet.config.items() if name in accepted}
    config |= {"conditioning_embedding_out_channels": (16, 32)}
    config |= {"num_trans_channel": 16, "num_trans_head": 4, "num_proj_channel": 16}
    torch.manual_seed(0)
    return {"controlnet": stirred(diffusers.ControlNetUnionModel(**config))}


def _if_enlarging(whole: Any) -> dict[str, Any]:
    """The small image, enlarged, is in further channels, how noisy it is among the classes."""
    before = {name: value for name, value in whole.unet.config.items() if not name.startswith("_")}
    torch.manual_seed(0)
    changed = before | {"in_channels": 6, "class_embed_type": "timestep"}
    noise: Any = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    return {"unet": stirred(diffusers.UNet2DConditionModel(**changed)), "image_noising_scheduler": noise}


def latent_inversion(steps: int) -> torch.Tensor:
    """Latents of an image at each step, as DiffEdit's own inversion would give."""
    return torch.randn(1, steps, 4, 16, 24, generator=torch.Generator().manual_seed(3))


_SIZE: dict[str, Any] = {"height": 32, "width": 48}
_GUIDED: dict[str, Any] = {"num_inference_steps": 2, "guidance_scale": 5.0, "negative_prompt": "fog"}
_FAST = {**_SIZE, **_GUIDED}
_IMAGE = random_image(**_SIZE)
_SMALL = random_image(16, 24)
_FROM_IMAGE: dict[str, Any] = {**_GUIDED, "image": _IMAGE, "strength": 0.7, "num_inference_steps": 3}
_MASK: dict[str, Any] = {"mask_image": left_half(**_SIZE)}
_SD = pipelines_unet.stable_diffusion
_XL = pipelines_unet.stable_diffusion_xl
_IF = pipelines_more.deepfloyd_if
_CONTROL: dict[str, Any] = {"control_image": [_IMAGE], "control_mode": [2]}

CASES: dict[str, Case] = {
    "alt-diffusion": Case(with_parts_of(diffusers.AltDiffusionPipeline, _SD, _xlm_roberta, **_PLAIN), _FAST, "batch"),
    "model-editing": Case(with_parts_of(diffusers.StableDiffusionModelEditingPipeline, _SD, **_PLAIN), _FAST, "batch"),
    "sdxl-union": Case(
        with_parts_of(diffusers.StableDiffusionXLControlNetUnionPipeline, _XL, _union),
        {**_FAST, **_CONTROL},
        "batch",
    ),
    "unclip": Case(
        with_parts_of(diffusers.StableUnCLIPPipeline, _SD, _unclip_with_prior),
        {**_FAST, "prior_num_inference_steps": 2},
        "batch",
    ),
}
FROM_IMAGE: dict[str, Case] = {
    "alt-diffusion-img2img": Case(
        with_parts_of(diffusers.AltDiffusionImg2ImgPipeline, _SD, _xlm_roberta, **_PLAIN), _FROM_IMAGE, "batch"
    ),
    "diffedit": Case(
        with_parts_of(diffusers.StableDiffusionDiffEditPipeline, _SD, _inverse, **_PLAIN),
        {**_GUIDED, "mask_image": left_half(16, 24), "image_latents": latent_inversion(2), "inpaint_strength": 1.0},
        "batch",
    ),
    "upscale": Case(
        with_parts_of(diffusers.StableDiffusionUpscalePipeline, _SD, _upscaling), {**_GUIDED, "image": _SMALL}, "batch"
    ),
    "latent-upscale": Case(
        with_parts_of(diffusers.StableDiffusionLatentUpscalePipeline, _SD, _latent_upscaling),
        {**_GUIDED, "image": _SMALL},
        "batch",
    ),
    "sdxl-union-img2img": Case(
        with_parts_of(diffusers.StableDiffusionXLControlNetUnionImg2ImgPipeline, _XL, _union),
        {**_FROM_IMAGE, **_CONTROL},
        "batch",
    ),
    "sdxl-union-inpaint": Case(
        with_parts_of(diffusers.StableDiffusionXLControlNetUnionInpaintPipeline, _XL, _union),
        {**_FROM_IMAGE, **_MASK, **_CONTROL, **_SIZE},
        "batch",
    ),
    "unclip-img2img": Case(
        with_parts_of(diffusers.StableUnCLIPImg2ImgPipeline, _SD, _unclip_of_image), {**_FAST, "image": _IMAGE}, "batch"
    ),
    "if-img2img": Case(with_parts_of(diffusers.IFImg2ImgPipeline, _IF, **_PLAIN), _FROM_IMAGE, "batch"),
    "if-inpaint": Case(with_parts_of(diffusers.IFInpaintingPipeline, _IF, **_PLAIN), {**_FROM_IMAGE, **_MASK}, "batch"),
    "if-enlarging": Case(
        with_parts_of(diffusers.IFSuperResolutionPipeline, _IF, _if_enlarging, **_PLAIN),
        {**_FAST, "image": _SMALL},
        "batch",
    ),
    "if-img2img-enlarging": Case(
        with_parts_of(diffusers.IFImg2ImgSuperResolutionPipeline, _IF, _if_enlarging, **_PLAIN),
        {**_FROM_IMAGE, "original_image": _IMAGE, "image": _SMALL},
        "batch",
    ),
    "if-inpaint-enlarging": Case(
        with_parts_of(diffusers.IFInpaintingSuperResolutionPipeline, _IF, _if_enlarging, **_PLAIN),
        {**_FROM_IMAGE, **_MASK, "original_image": _IMAGE, "image": _SMALL},
        "batch",
    ),
    "kandinsky3-img2img": Case(
        with_parts_of(diffusers.Kandinsky3Img2ImgPipeline, pipelines_more.kandinsky_3),
        {**_FROM_IMAGE, "image": random_image(64, 128)},
        "batch",
    ),
}
