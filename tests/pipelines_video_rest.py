"""Tiny pipelines that make videos: EasyAnimate, Motif-Video, AnyFlow, and LTX-2 with reference videos.

Not a test: a workshop, as tests.pipelines.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AnyFlowPipeline,
    AnyFlowTransformer3DModel,
    AutoencoderKLMagvit,
    ClassifierFreeGuidance,
    Cosmos2_5_PredictBasePipeline,
    Cosmos2VideoToWorldPipeline,
    CosmosTransformer3DModel,
    EasyAnimateInpaintPipeline,
    EasyAnimatePipeline,
    EasyAnimateTransformer3DModel,
    FlowMapEulerDiscreteScheduler,
    Kandinsky6TI2VAPipeline,
    Kandinsky6Transformer3DModel,
    LTX2HDRPipeline,
    LTX2InContextPipeline,
    MotifVideoImage2VideoPipeline,
    MotifVideoPipeline,
    MotifVideoTransformer3DModel,
)
from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2VideoCondition
from diffusers.pipelines.ltx2.pipeline_ltx2_hdr_lora import LTX2HDRReferenceCondition
from diffusers.pipelines.ltx2.pipeline_ltx2_ic_lora import LTX2ReferenceCondition
from transformers import SiglipImageProcessor

from tests import tiny_parts as parts
from tests import tiny_tokenizers as tokenizers
from tests.pipelines_video import IMAGE, WAN, WIDE, like_wan, wan_parts
from tests.pipelines_video_joint import SOUND, ltx2_parts
from tests.pipelines_video_more import OTHER, kandinsky5
from tests.tiny_eyes import siglip
from tests.tiny_parts import CLIP_WIDTH, T5_WIDTH, Case, quiet, stirred


def _easyanimate(kind: Any, seed: int, channels: int) -> Any:
    tokenizer = tokenizers.qwen()
    torch.manual_seed(seed)
    transformer = EasyAnimateTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=channels,
        out_channels=4,
        time_embed_dim=8,
        text_embed_dim=32,
        num_layers=2,
        mmdit_layers=1,
        patch_size=2,
        sample_width=6,
        sample_height=4,
    )
    vae = AutoencoderKLMagvit(
        latent_channels=4,
        block_out_channels=(8,) * 4,
        layers_per_block=1,
        norm_num_groups=2,
        down_block_types=("SpatialDownBlock3D", *("SpatialTemporalDownBlock3D",) * 2, "SpatialTemporalDownBlock3D"),
        up_block_types=("SpatialUpBlock3D", *("SpatialTemporalUpBlock3D",) * 3),
    )
    return quiet(
        kind(
            tokenizer=tokenizer,
            text_encoder=parts.qwen_vision(tokenizer, seed=seed),
            vae=vae.eval(),
            transformer=stirred(transformer, seed, {"to_q": 2.5, "add_q_proj": 2.5}),
            scheduler=parts.flow(),
        )
    )


def easyanimate(seed: int = 0) -> Any:
    """EasyAnimate in small: text and image in one sequence, padding attended to."""
    return _easyanimate(EasyAnimatePipeline, seed, 4)


def easyanimate_inpaint(seed: int = 0) -> Any:
    """EasyAnimate with a mask in small: the masked video in further channels."""
    return _easyanimate(EasyAnimateInpaintPipeline, seed, 9)


def _motif(kind: Any, seed: int, **config: Any) -> Any:
    tokenizer = tokenizers.t5(64)
    torch.manual_seed(seed)
    transformer = MotifVideoTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=1,
        num_single_layers=2,
        num_decoder_layers=1,
        text_embed_dim=T5_WIDTH,
        rope_axes_dim=(4, 4, 4),
        enable_text_cross_attention_dual=True,
        enable_text_cross_attention_single=True,
        **config,
    )
    whole: Any = kind(
        tokenizer=tokenizer,
        text_encoder=parts.t5(tokenizer, seed=seed),
        vae=parts.wan_vae(seed),
        transformer=stirred(transformer, seed, {"norm_q": 2, "norm_added_q": 2}),
        scheduler=parts.flow(),
        guider=ClassifierFreeGuidance(guidance_scale=4.0),
        feature_extractor=SiglipImageProcessor(size={"height": 28, "width": 28}),
    )
    return quiet(whole)


def motif_video(seed: int = 0) -> Any:
    """Motif-Video in small: image first, then text; the last block sees no text."""
    return _motif(MotifVideoPipeline, seed)


def motif_video_from_image(seed: int = 0) -> Any:
    """Motif-Video from an image, in further channels and in tokens before those of the text."""
    pipe = _motif(MotifVideoImage2VideoPipeline, seed, image_embed_dim=16)
    pipe.text_encoder.vision_tower = siglip(seed)  # as that of T5Gemma 2
    return pipe


def anyflow(seed: int = 0) -> Any:
    """AnyFlow in small: a flow map, guided in one batch."""
    changed = {"transformer": like_wan(AnyFlowTransformer3DModel, seed), "scheduler": FlowMapEulerDiscreteScheduler()}
    return quiet(AnyFlowPipeline(**wan_parts(seed) | changed))


class _Harmless(torch.nn.Module):
    """In the place of the safety checker, which is a package of its own: random weights paint nothing."""

    device, dtype = torch.device("cpu"), torch.float32

    def check_text_safety(self, prompt: str) -> bool:
        return True

    def check_video_safety(self, frames: Any) -> Any:
        return frames


def _cosmos(kind: Any, seed: int, text_width: int, **parts_of_text: Any) -> Any:
    torch.manual_seed(seed)
    transformer = CosmosTransformer3DModel(
        in_channels=17,  # and a mask of the frames that are given
        out_channels=16,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=2,
        mlp_ratio=2,
        text_embed_dim=text_width,
        adaln_lora_dim=4,
        max_size=(4, 32, 32),
        extra_pos_embed_type=None,
    )
    pipe: Any = kind(
        **wan_parts(seed) | {"transformer": stirred(transformer, seed, {"norm_q": 2}), **parts_of_text},
        safety_checker=_Harmless(),
    )
    return quiet(pipe)


def cosmos2(seed: int = 0) -> Any:
    """Cosmos 2 in small, from an image: every frame has a timestep."""
    scheduler = parts.flow(use_karras_sigmas=True)
    scheduler.register_to_config(sigma_max=80.0, sigma_data=1.0)
    return _cosmos(Cosmos2VideoToWorldPipeline, seed, T5_WIDTH, scheduler=scheduler)


def cosmos25(seed: int = 0) -> Any:
    """Cosmos 2.5 in small: all layers of Qwen's states, one behind the other."""
    tokenizer = tokenizers.qwen()
    encoder = parts.qwen_vision(tokenizer, seed=seed)
    return _cosmos(Cosmos2_5_PredictBasePipeline, seed, 64, tokenizer=tokenizer, text_encoder=encoder)


def kandinsky6(seed: int = 0) -> Any:
    """Kandinsky 6 in small: a given image is one more frame at the end."""
    made = dict(kandinsky5(seed).components)
    torch.manual_seed(seed)
    transformer = Kandinsky6Transformer3DModel(
        in_visual_dim=4,
        out_visual_dim=4,
        in_text_dim=made["text_encoder"].config.text_config.hidden_size,
        in_text_dim2=CLIP_WIDTH,
        time_dim=32,
        model_dim=24,
        ff_dim=32,
        num_text_blocks=1,
        num_visual_blocks=2,
        axes_dims=(4, 4, 4),
        visual_token_type_num_embeddings=2,
    )
    made["transformer"] = stirred(transformer, seed)
    return quiet(Kandinsky6TI2VAPipeline(**made))


def ltx2_in_context(seed: int = 0) -> Any:
    """LTX-2 with a reference video: its tokens behind those of the video and of keyframes."""
    return quiet(LTX2InContextPipeline(**ltx2_parts(seed)))


def ltx2_hdr(seed: int = 0) -> Any:
    """LTX-2 with high dynamic range and a reference video."""
    return quiet(LTX2HDRPipeline(**ltx2_parts(seed)))


_FRAMES = [parts.random_image(32, 64, seed) for seed in range(17)]
_VIDEO: dict[str, Any] = {"video": torch.rand(1, 3, 9, 32, 48, generator=torch.Generator().manual_seed(0))}
_EASY: dict[str, Any] = {"height": 32, "width": 48, "num_inference_steps": 2, "num_frames": 9, "negative_prompt": ""}
_COSMOS: dict[str, Any] = {**WAN, "max_sequence_length": 160}  # with the words of a system prompt
_KANDINSKY: dict[str, Any] = {
    **WAN,
    "max_sequence_length": 480,  # the template has more tokens of a tokenizer that was trained on little
    "negative_prompt": OTHER,
    "sample_audio": False,
}

REST_VIDEOS = {
    "easyanimate": Case(easyanimate, _EASY, "batch"),
    "easyanimate-inpaint": Case(
        easyanimate_inpaint, {**_EASY, **_VIDEO, "mask_video": torch.ones(1, 1, 9, 32, 48) * 255}, "batch"
    ),
    "motif": Case(motif_video, WAN, "two calls"),
    "motif-image": Case(motif_video_from_image, {**WAN, **IMAGE}, "two calls"),
    "anyflow": Case(anyflow, {**WAN, "guidance_scale": 3.0}, "batch"),
    "cosmos2": Case(cosmos2, {**WAN, **IMAGE}, "two calls"),
    "cosmos25": Case(cosmos25, {**_COSMOS, "image": None}, "two calls"),
    "cosmos25-image": Case(cosmos25, {**_COSMOS, **IMAGE}, "two calls"),
    "kandinsky6": Case(kandinsky6, _KANDINSKY, "two calls"),
    "kandinsky6-image": Case(kandinsky6, {**_KANDINSKY, **IMAGE}, "two calls"),
    "ltx2-in-context": Case(
        ltx2_in_context,
        {
            **SOUND,
            "conditions": [LTX2VideoCondition(WIDE, 0, crf=0)],
            "reference_conditions": [LTX2ReferenceCondition(_FRAMES, 0.8)],
        },
        "batch",
    ),
    "ltx2-hdr": Case(
        ltx2_hdr,
        {**SOUND, "guidance_scale": 3.0, "reference_conditions": [LTX2HDRReferenceCondition(_FRAMES)]},
        "batch",
    ),
}
