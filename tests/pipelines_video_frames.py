"""Tiny pipelines that make videos with denoisers of images, whose batch holds the frames: AnimateDiff and its like.

Not a test: a workshop, as tests.pipelines.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import (
    AllegroPipeline,
    AllegroTransformer3DModel,
    AnimateDiffControlNetPipeline,
    AnimateDiffPAGPipeline,
    AnimateDiffPipeline,
    AnimateDiffSDXLPipeline,
    AnimateDiffSparseControlNetPipeline,
    AnimateDiffVideoToVideoControlNetPipeline,
    AnimateDiffVideoToVideoPipeline,
    AutoencoderKLAllegro,
    AutoencoderKLTemporalDecoder,
    I2VGenXLPipeline,
    I2VGenXLUNet,
    LattePipeline,
    LatteTransformer3DModel,
    MotionAdapter,
    PIAPipeline,
    SparseControlNetModel,
    TextToVideoSDPipeline,
    UNet3DConditionModel,
    UNetMotionModel,
    VideoToVideoSDPipeline,
)
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from tests import pipelines
from tests import pipelines_unet as unets
from tests import tiny_parts as parts
from tests import tiny_tokenizers as tokenizers
from tests.tiny_parts import CLIP_WIDTH, T5_WIDTH, Case, overlooking, quiet, stirred

FRAMES = 3
_UNGUARDED = ("safety_checker", "feature_extractor", "requires_safety_checker")


def _motion(widths: tuple[int, ...], **config: Any) -> Any:
    base: dict[str, Any] = {
        "block_out_channels": widths,
        "motion_layers_per_block": 1,
        "motion_num_attention_heads": 2,
        "motion_norm_num_groups": 8,
        "motion_max_seq_length": 8,
    }
    return MotionAdapter(**(base | config))


def _with_motion(held: dict[str, Any], seed: int, **motion: Any) -> dict[str, Any]:
    """The parts of a pipeline for images, as parts of one for videos."""
    held = {name: part for name, part in held.items() if name not in _UNGUARDED}
    adapter = _motion(tuple(held["unet"].config.block_out_channels), **motion)
    unet = UNetMotionModel.from_unet2d(held["unet"], adapter)
    return {**held, "unet": stirred(unet, seed, {"attn2.to_q": 2.5}), "motion_adapter": adapter}


def animatediff(seed: int = 0) -> Any:
    """AnimateDiff in small: Stable Diffusion with motion modules, frames as rows of the batch."""
    return quiet(AnimateDiffPipeline(**_with_motion(unets._parts(seed), seed)))


def animatediff_xl(seed: int = 0) -> Any:
    """AnimateDiff with SDXL: two text encoders share their positions."""
    return quiet(AnimateDiffSDXLPipeline(**_with_motion(unets._xl_parts(seed), seed, use_motion_mid_block=False)))


def animatediff_perturbed(seed: int = 0) -> Any:
    """AnimateDiff with perturbed-attention guidance: a third part of the batch repeats the prompt."""
    held = _with_motion(unets._parts(seed), seed)
    return quiet(AnimateDiffPAGPipeline(**held, pag_applied_layers="mid_block.*attn1"))


def animatediff_from_video(seed: int = 0) -> Any:
    """AnimateDiff from a video."""
    return quiet(AnimateDiffVideoToVideoPipeline(**_with_motion(unets._parts(seed), seed)))


def animatediff_controlnet(seed: int = 0) -> Any:
    """AnimateDiff with a control image for each frame."""
    held = unets._parts(seed)
    controlnet = unets._controlnet(held["unet"], seed)
    return quiet(AnimateDiffControlNetPipeline(**_with_motion(held, seed), controlnet=controlnet))


def animatediff_controlnet_from_video(seed: int = 0) -> Any:
    """AnimateDiff from a video, with a control image for each frame."""
    held = unets._parts(seed)
    controlnet = unets._controlnet(held["unet"], seed)
    return quiet(AnimateDiffVideoToVideoControlNetPipeline(**_with_motion(held, seed), controlnet=controlnet))


def animatediff_sparse(seed: int = 0) -> Any:
    """AnimateDiff with control images for some frames."""
    held = _with_motion(unets._parts(seed), seed)
    controlnet = SparseControlNetModel(
        down_block_types=("CrossAttnDownBlockMotion", "CrossAttnDownBlockMotion", "DownBlockMotion"),
        block_out_channels=(16, 32, 32),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=CLIP_WIDTH,
        attention_head_dim=(2, 4, 4),
        conditioning_embedding_out_channels=(16, 32),
        motion_max_seq_length=8,
        motion_num_attention_heads=2,
        use_simplified_condition_embedding=True,
    )
    return quiet(AnimateDiffSparseControlNetPipeline(**held, controlnet=stirred(controlnet, seed)))


def pia(seed: int = 0) -> Any:
    """PIA in small: an image and a mask in further channels of the U-Net."""
    held = _with_motion(unets._parts(seed, in_channels=9), seed)
    with overlooking(".*"):
        return quiet(PIAPipeline(**held))


def _with_time(seed: int) -> dict[str, Any]:
    held = {name: part for name, part in unets._parts(seed).items() if name not in _UNGUARDED}
    torch.manual_seed(seed)
    unet = UNet3DConditionModel(
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        cross_attention_dim=CLIP_WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    return {**held, "unet": stirred(unet, seed, {"attn2.to_q": 2.5})}


def text_to_video(seed: int = 0) -> Any:
    """ModelScope in small: the scheduler steps frames as images."""
    with overlooking(".*"):
        return quiet(TextToVideoSDPipeline(**_with_time(seed)))


def text_to_video_from_video(seed: int = 0) -> Any:
    """Zeroscope in small: a video is made anew, larger."""
    with overlooking(".*"):
        return quiet(VideoToVideoSDPipeline(**_with_time(seed)))


def latte(seed: int = 0) -> Any:
    """Latte in small: a transformer for frames, an autoencoder that decodes them together."""
    tokenizer = tokenizers.t5(128)
    torch.manual_seed(seed)
    transformer = LatteTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        cross_attention_dim=16,
        sample_size=16,
        patch_size=2,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        caption_channels=T5_WIDTH,
        video_length=FRAMES,
    )
    blocks: dict[str, Any] = {"down_block_types": ("DownEncoderBlock2D",) * 2, "block_out_channels": (32, 32)}
    vae = AutoencoderKLTemporalDecoder(**blocks, layers_per_block=1, sample_size=32)
    scheduler: Any = pipelines._scheduler()
    return quiet(
        LattePipeline(
            tokenizer=tokenizer,
            text_encoder=parts.t5(tokenizer, seed=seed),
            vae=stirred(vae, seed),
            transformer=stirred(transformer, seed, {"attn2.to_q": 2.5}),
            scheduler=scheduler,
        )
    )


def i2vgen_xl(seed: int = 0) -> Any:
    """I2VGen-XL in small: tokens of the image behind those of the text."""
    held = {name: part for name, part in unets._parts(seed).items() if name not in _UNGUARDED}
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "projection_dim": CLIP_WIDTH}
    vision = CLIPVisionConfig(**sizes, num_hidden_layers=1, num_attention_heads=4)
    unet = I2VGenXLUNet(
        down_block_types=("CrossAttnDownBlock3D",),
        up_block_types=("CrossAttnUpBlock3D",),
        block_out_channels=(16,),
        layers_per_block=1,
        cross_attention_dim=CLIP_WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    encoder = {"image_encoder": CLIPVisionModelWithProjection(vision), "feature_extractor": CLIPImageProcessor()}
    with overlooking(".*"):
        return quiet(I2VGenXLPipeline(**held | {"unet": stirred(unet, seed, {"attn2.to_q": 2.5})}, **encoder))


def allegro(seed: int = 0) -> Any:
    """Allegro in small, which is refused: it is not run."""
    tokenizer = tokenizers.t5(128)
    transformer = AllegroTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=1,
        cross_attention_dim=24,
        sample_height=4,
        sample_width=4,
        sample_frames=4,
        caption_channels=T5_WIDTH,
    )
    blocks: dict[str, Any] = {"block_out_channels": (8,) * 4, "layers_per_block": 1, "norm_num_groups": 2}
    vae, scheduler = AutoencoderKLAllegro(**blocks, sample_size=64), pipelines._scheduler()
    text_encoder: Any = parts.t5(tokenizer, seed=seed)
    held: dict[str, Any] = {"transformer": transformer, "vae": vae, "scheduler": scheduler}
    return quiet(AllegroPipeline(tokenizer=tokenizer, text_encoder=text_encoder, **held))


SIZE: dict[str, Any] = {"height": 16, "width": 24, "num_inference_steps": 2}
CALL: dict[str, Any] = {**SIZE, "num_frames": FRAMES}
_IMAGES = [parts.random_image(16, 24, seed) for seed in range(FRAMES)]
_ARRAYS = [np.asarray(image) for image in _IMAGES]
_FROM_VIDEO: dict[str, Any] = {**SIZE, "num_inference_steps": 4, "video": _IMAGES, "strength": 0.5}
_FROM_ARRAYS: dict[str, Any] = {"num_inference_steps": 4, "video": _ARRAYS, "strength": 0.5}

FRAME_VIDEOS = {
    "animatediff": Case(animatediff, CALL, "batch"),
    "animatediff-unguided": Case(animatediff, {**CALL, "guidance_scale": 1.0}, "none"),
    "animatediff-xl": Case(animatediff_xl, CALL, "batch"),
    "animatediff-perturbed": Case(animatediff_perturbed, CALL, "batch"),
    "animatediff-video": Case(animatediff_from_video, _FROM_VIDEO, "batch"),
    "animatediff-controlnet": Case(animatediff_controlnet, {**CALL, "conditioning_frames": _IMAGES}, "batch"),
    "animatediff-video-controlnet": Case(
        animatediff_controlnet_from_video, {**_FROM_VIDEO, "conditioning_frames": _IMAGES}, "batch"
    ),
    "animatediff-sparse": Case(
        animatediff_sparse,
        {**CALL, "conditioning_frames": _IMAGES[:2], "controlnet_frame_indices": [0, 2]},
        "batch",
    ),
    "pia": Case(pia, {**CALL, "image": _IMAGES[0]}, "batch"),
    "text-to-video": Case(text_to_video, CALL, "batch"),
    "text-to-video-video": Case(text_to_video_from_video, _FROM_ARRAYS, "batch"),
    # the default needs an attribute that CLIP has lost in transformers 5
    "i2vgen": Case(i2vgen_xl, {**CALL, "image": _IMAGES[0], "clip_skip": None}, "batch"),
    "latte": Case(latte, {**SIZE, "video_length": FRAMES}, "batch"),
}
