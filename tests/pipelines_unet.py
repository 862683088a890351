"""More tiny U-Net pipelines: refiner, consistency, ControlNet, LoRA, IP-Adapter, Kandinsky 2.2.

Not a test: a workshop, as tests.pipelines, which has the plain ones.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    KandinskyV22CombinedPipeline,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    PriorTransformer,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPAGPipeline,
    StableDiffusionXLPipeline,
    UnCLIPScheduler,
    UNet2DConditionModel,
)
from torch import nn
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from tests import pipelines
from tests import tiny_parts as parts
from tests.pipelines import TRAIN_BETAS, clip_tokenizer
from tests.tiny_parts import CLIP_WIDTH, Case, quiet, random_image, stirred

_SHARP = {"attn2.to_q": 2.5}
_UNGUARDED: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def _unet(seed: int, width: int = CLIP_WIDTH, **config: Any) -> Any:
    return stirred(pipelines._unet(width, **config), seed, _SHARP)


def _xl_unet(seed: int, width: int, conditions: int) -> Any:
    return _unet(
        seed,
        width,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(16, 32),
        attention_head_dim=(2, 4),
        transformer_layers_per_block=(1, 2),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=conditions * 8 + CLIP_WIDTH,
    )


def _parts(seed: int, **unet: Any) -> dict[str, Any]:
    torch.manual_seed(seed)
    tokenizer = clip_tokenizer()
    return {
        "vae": stirred(pipelines._vae(), seed),
        "text_encoder": parts.clip(tokenizer, seed=seed),
        "tokenizer": tokenizer,
        "unet": _unet(seed, **unet),
        "scheduler": pipelines._scheduler(),
        **_UNGUARDED,
    }


def _xl_parts(seed: int) -> dict[str, Any]:
    torch.manual_seed(seed)
    first, second = clip_tokenizer(), clip_tokenizer(pad_token="!")
    return {
        "vae": stirred(pipelines._vae(), seed),
        "text_encoder": parts.clip(first, seed=seed),
        "text_encoder_2": parts.clip(second, projection=True, seed=seed + 1),
        "tokenizer": first,
        "tokenizer_2": second,
        "unet": _xl_unet(seed, 2 * CLIP_WIDTH, conditions=6),
        "scheduler": pipelines._scheduler(),
    }


def refiner(seed: int = 0) -> Any:
    """SDXL's refiner in small: from an image, with the second text encoder only and an aesthetic score."""
    parts: dict[str, Any] = {
        **_xl_parts(seed),
        "text_encoder": None,
        "tokenizer": None,
        "unet": _xl_unet(seed, CLIP_WIDTH, conditions=5),
    }
    return quiet(StableDiffusionXLImg2ImgPipeline(**parts, requires_aesthetics_score=True))


def stable_diffusion_xl(seed: int = 0) -> Any:
    """As tests.pipelines has it, but with attention that is far from even."""
    return quiet(StableDiffusionXLPipeline(**_xl_parts(seed)))


def stable_diffusion_xl_perturbed(seed: int = 0) -> Any:
    """SDXL with perturbed-attention guidance."""
    return quiet(StableDiffusionXLPAGPipeline(**_xl_parts(seed), pag_applied_layers="mid"))


def latent_consistency(seed: int = 0) -> Any:
    """A latent consistency model in small: guidance is an embedding, every step predicts the clean image."""
    config: dict[str, Any] = {**TRAIN_BETAS, "original_inference_steps": 50}
    parts = {**_parts(seed, time_cond_proj_dim=8), "scheduler": LCMScheduler(**config)}
    return quiet(LatentConsistencyModelPipeline(**parts))


def _controlnet(unet: Any, seed: int) -> Any:
    # two stages: the condition is halved once, as the tiny autoencoder does
    return stirred(ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(16, 32)), seed)


def controlnet(seed: int = 0) -> Any:
    """ControlNet in small: a second network with cross-attention of its own runs before the U-Net at each step."""
    parts = _parts(seed)
    return quiet(StableDiffusionControlNetPipeline(**parts, controlnet=_controlnet(parts["unet"], seed)))


def stable_diffusion_xl_controlnet(seed: int = 0) -> Any:
    parts = _xl_parts(seed)
    return quiet(StableDiffusionXLControlNetPipeline(**parts, controlnet=_controlnet(parts["unet"], seed)))


class LowRank(nn.Module):
    """A linear layer with a low-rank change beside it, in the place and shape in which peft puts one."""

    def __init__(self, base_layer: nn.Module, rank: int, scale: float, random: torch.Generator) -> None:
        super().__init__()
        rows, columns = base_layer.get_parameter("weight").shape
        self.base_layer = base_layer
        self.lora_A = nn.Linear(columns, rank, bias=False)
        self.lora_B = nn.Linear(rank, rows, bias=False)
        self.scale = scale
        with torch.no_grad():
            for layer in (self.lora_A, self.lora_B):
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=random) / math.sqrt(layer.in_features))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.base_layer(features) + self.scale * self.lora_B(self.lora_A(features))


def with_lora(pipe: Any, seed: int = 0, rank: int = 2, scale: float = 0.5) -> Any:
    """The pipeline with random LoRA layers in all attention layers of its denoiser."""
    denoiser = getattr(pipe, "unet", None) or pipe.transformer
    random = torch.Generator().manual_seed(seed)
    endings = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
    for name, module in list(denoiser.named_modules()):
        if name.endswith(endings) and isinstance(module, nn.Linear):
            denoiser.set_submodule(name, LowRank(module, rank, scale, random))
    return pipe


def stable_diffusion(seed: int = 0) -> Any:
    """As tests.pipelines has it, but with attention that is far from even."""
    return quiet(StableDiffusionPipeline(**_parts(seed)))


def stable_diffusion_lora(seed: int = 0) -> Any:
    return with_lora(stable_diffusion(seed), seed)


def _image_encoder(seed: int, width: int = 16) -> Any:
    config = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
    )
    return stirred(CLIPVisionModelWithProjection(config), seed)


def with_ip_adapter(pipe: Any, seed: int = 0, scale: float = 0.7) -> Any:
    """The pipeline with a random IP-Adapter of four image tokens; call it with ip_adapter_image=."""
    random = torch.Generator().manual_seed(seed)
    width, image = pipe.unet.config.cross_attention_dim, 16

    def matrix(rows: int, columns: int) -> torch.Tensor:
        return torch.randn(rows, columns, generator=random) / math.sqrt(columns)

    projection = {"proj.weight": matrix(4 * width, image), "proj.bias": torch.zeros(4 * width)}
    projection |= {"norm.weight": torch.ones(width), "norm.bias": torch.zeros(width)}
    adapter = {}
    for index, name in enumerate(pipe.unet.attn_processors):
        if "attn2" in name:
            rows = pipe.unet.get_submodule(name.removesuffix(".processor")).to_q.out_features
            adapter |= {f"{index}.to_{kind}_ip.weight": matrix(rows, width) for kind in ("k", "v")}
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    pipe.register_modules(image_encoder=_image_encoder(seed, image), feature_extractor=processor)
    weights = {"image_proj": projection, "ip_adapter": adapter}
    pipe.load_ip_adapter(weights, subfolder="", weight_name="", low_cpu_mem_usage=False)
    pipe.set_ip_adapter_scale(scale)
    return pipe


def stable_diffusion_ip_adapter(seed: int = 0) -> Any:
    return with_ip_adapter(stable_diffusion(seed), seed)


def _kandinsky_unet(seed: int, width: int) -> Any:
    config: dict[str, Any] = {
        "sample_size": 16,
        "in_channels": 4,
        "out_channels": 8,
        "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "addition_embed_type": "image",
        "encoder_hid_dim": width,
        "encoder_hid_dim_type": "image_proj",
        "cross_attention_dim": 16,
        "attention_head_dim": 8,
        "norm_num_groups": 8,
        "resnet_time_scale_shift": "scale_shift",
    }
    return stirred(UNet2DConditionModel(**config), seed)


def kandinsky_2_2(seed: int = 0) -> Any:
    """Kandinsky 2.2 in small: a prior turns the prompt into an image embedding, all that the decoder sees of it."""
    torch.manual_seed(seed)
    tokenizer = clip_tokenizer()
    width = CLIP_WIDTH
    prior = PriorTransformer(num_attention_heads=4, attention_head_dim=8, num_layers=2, embedding_dim=width)
    betas: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False}
    scheduler: Any = DDIMScheduler(**betas)  # as the checkpoints come with, whatever the pipeline's annotation says
    pipe = KandinskyV22CombinedPipeline(
        unet=_kandinsky_unet(seed, width),
        scheduler=scheduler,
        movq=parts.movq(seed),
        prior_prior=stirred(prior, seed),
        prior_image_encoder=_image_encoder(seed, width),
        prior_text_encoder=parts.clip(tokenizer, projection=True, seed=seed),
        prior_tokenizer=tokenizer,
        prior_scheduler=UnCLIPScheduler(
            prediction_type="sample", clip_sample_range=5.0, variance_type="fixed_small_log"
        ),
        prior_image_processor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
    )
    return quiet(pipe)


_SIZE = {"height": 32, "width": 48}
_FAST = {**_SIZE, "num_inference_steps": 2, "guidance_scale": 5.0}
_CONTROL = {**_FAST, "image": random_image(**_SIZE)}
# handed on as they are by default, these make the decoder warn that it will not take them for long
_NO_CALLBACK = {"callback_steps": None}

CASES = {
    "refiner": Case(
        refiner, {**_FAST, "image": random_image(**_SIZE), "strength": 0.7, "num_inference_steps": 3}, "batch"
    ),
    "sdxl-pag": Case(stable_diffusion_xl_perturbed, {**_FAST, "pag_scale": 2.0}, "batch"),
    "sd": Case(stable_diffusion, _FAST, "batch"),
    "lcm": Case(latent_consistency, {**_FAST, "guidance_scale": 8.5}, "embedded"),
    "controlnet": Case(controlnet, _CONTROL, "batch"),
    "sdxl-controlnet": Case(stable_diffusion_xl_controlnet, _CONTROL, "batch"),
    "lora": Case(stable_diffusion_lora, _FAST, "batch"),
    "ip-adapter": Case(stable_diffusion_ip_adapter, {**_FAST, "ip_adapter_image": random_image(**_SIZE)}, "batch"),
    "kandinsky22": Case(kandinsky_2_2, {**_FAST, "prior_num_inference_steps": 2, **_NO_CALLBACK}, "batch"),
}
