"""Tiny pipelines that make videos as Wan does, and others with cross-attention: VACE, Lucy Edit, ChronoEdit, SkyReels.

Not a test: a workshop, as tests.pipelines.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    ChronoEditPipeline,
    ChronoEditTransformer3DModel,
    DPMSolverMultistepScheduler,
    Kandinsky5I2VPipeline,
    Kandinsky5T2VPipeline,
    Kandinsky5Transformer3DModel,
    LucyEditPipeline,
    SanaImageToVideoPipeline,
    SanaVideoPipeline,
    SanaVideoTransformer3DModel,
    SkyReelsV2ImageToVideoPipeline,
    SkyReelsV2Pipeline,
    SkyReelsV2Transformer3DModel,
    WanVACEPipeline,
    WanVACETransformer3DModel,
)
from transformers import CLIPVisionModelWithProjection

from tests import pipelines_recent
from tests import tiny_parts as parts
from tests import tiny_tokenizers as tokenizers
from tests.pipelines_video import IMAGE, LOUD, SIZE, WAN, WIDE, like_wan, wan_parts, wan_transformer
from tests.tiny_eyes import clip_eyes
from tests.tiny_parts import GEMMA_WIDTH, Case, quiet, stirred

_FROM_IMAGE: dict[str, Any] = {"in_channels": 36, "image_dim": 16, "added_kv_proj_dim": 24}


def vace_transformer(seed: int) -> Any:
    return like_wan(WanVACETransformer3DModel, seed, vace_layers=[0, 1], vace_in_channels=96)


def wan_vace(seed: int = 0) -> Any:
    """Wan VACE in small: a control video goes through blocks of its own."""
    return quiet(WanVACEPipeline(**wan_parts(seed) | {"transformer": vace_transformer(seed)}))


def wan_vace_two(seed: int = 0) -> Any:
    """Wan 2.2 VACE in small: a second transformer takes over where the noise is low."""
    changed = {"transformer": vace_transformer(seed), "transformer_2": vace_transformer(seed + 1)}
    return quiet(WanVACEPipeline(**wan_parts(seed) | changed, boundary_ratio=0.875))


def lucy_edit(seed: int = 0) -> Any:
    """Lucy Edit in small: Wan 2.2 TI2V with the video that is edited in further channels."""
    transformer = wan_transformer(seed, in_channels=32, out_channels=16)
    return quiet(LucyEditPipeline(**wan_parts(seed) | {"transformer": transformer}, expand_timesteps=True))


def chronoedit(seed: int = 0) -> Any:
    """ChronoEdit in small: two latent frames, of the image and of the edited one."""
    transformer = like_wan(ChronoEditTransformer3DModel, seed, **_FROM_IMAGE)
    return quiet(ChronoEditPipeline(**wan_parts(seed) | {"transformer": transformer}, **clip_eyes(seed)))


def skyreels_v2(seed: int = 0) -> Any:
    """SkyReels V2 in small."""
    transformer = like_wan(SkyReelsV2Transformer3DModel, seed)
    return quiet(SkyReelsV2Pipeline(**wan_parts(seed) | {"transformer": transformer}))


def skyreels_v2_from_image(seed: int = 0) -> Any:
    """SkyReels V2 from an image, in further channels and in keys of its own."""
    transformer = like_wan(SkyReelsV2Transformer3DModel, seed, **_FROM_IMAGE)
    changed = {"transformer": transformer, **clip_eyes(seed, CLIPVisionModelWithProjection)}
    return quiet(SkyReelsV2ImageToVideoPipeline(**wan_parts(seed) | changed))


def _kandinsky5(kind: Any, seed: int) -> Any:
    made = dict(pipelines_recent.kandinsky_5(seed).components)
    torch.manual_seed(seed)
    transformer = Kandinsky5Transformer3DModel(
        **{**made["transformer"].config, "in_visual_dim": 4, "out_visual_dim": 4, "visual_cond": True}
    )
    vae: dict[str, Any] = {"latent_channels": 4, "block_out_channels": (8,) * 4, "layers_per_block": 1}
    made["transformer"] = stirred(transformer, seed)
    made["vae"] = AutoencoderKLHunyuanVideo(**vae, norm_num_groups=4, mid_block_add_attention=True).eval()
    pipe = kind(**made)
    pipe.prompt_template_encode_start_idx = len(
        made["tokenizer"].tokenizer(pipe.prompt_template.split("{}")[0]).input_ids
    )
    return quiet(pipe)


def kandinsky5(seed: int = 0) -> Any:
    """Kandinsky 5 for videos in small: the loop keeps frames, height, width and then channels."""
    return _kandinsky5(Kandinsky5T2VPipeline, seed)


def kandinsky5_from_image(seed: int = 0) -> Any:
    """Kandinsky 5 from an image: the first frame is given, and normalised by the others at the end."""
    return _kandinsky5(Kandinsky5I2VPipeline, seed)


def _sana_video(kind: Any, seed: int) -> Any:
    torch.manual_seed(seed)
    tokenizer = tokenizers.gemma()
    transformer = SanaVideoTransformer3DModel(
        in_channels=16,
        out_channels=16,
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=2,
        num_cross_attention_heads=2,
        cross_attention_head_dim=12,
        cross_attention_dim=24,
        caption_channels=GEMMA_WIDTH,
        sample_size=30,
        rope_max_seq_len=32,
    )
    scheduler: Any = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    return quiet(
        kind(
            tokenizer=tokenizer,
            text_encoder=parts.gemma2(tokenizer, seed=seed),
            vae=parts.wan_vae(seed),
            transformer=stirred(transformer, seed, LOUD),
            scheduler=scheduler if kind is SanaVideoPipeline else parts.flow(),
        )
    )


def sana_video(seed: int = 0) -> Any:
    """Sana-Video in small: linear attention among the frames, cross-attention to the text."""
    return _sana_video(SanaVideoPipeline, seed)


def sana_video_from_image(seed: int = 0) -> Any:
    """Sana-Video from an image, which is the first frame."""
    return _sana_video(SanaImageToVideoPipeline, seed)


_VIDEO: dict[str, Any] = {"video": [parts.random_image(32, 48, seed) for seed in range(9)]}
_REFERENCE: dict[str, Any] = {"reference_images": [parts.random_image(32, 48, 7)]}
_SANA: dict[str, Any] = {**SIZE, "width": 64, "frames": 9, "use_resolution_binning": False}
# as many tokens as the prompt of the tests has
OTHER = "A tiny blue square, above a red circle"
_KANDINSKY: dict[str, Any] = {**SIZE, "num_frames": 9, "max_sequence_length": 64, "negative_prompt": OTHER}

MORE_VIDEOS = {
    "wan-vace": Case(wan_vace, {**WAN, **_VIDEO}, "two calls"),
    "wan-vace-reference": Case(wan_vace_two, {**WAN, **_REFERENCE, "num_inference_steps": 3}, "two calls"),
    "lucy-edit": Case(lucy_edit, {**WAN, **_VIDEO}, "two calls"),
    "chronoedit": Case(chronoedit, {**SIZE, **IMAGE, "max_sequence_length": 512}, "two calls"),
    "skyreels-v2": Case(skyreels_v2, WAN, "two calls"),
    "skyreels-v2-image": Case(skyreels_v2_from_image, {**WAN, **IMAGE, "max_sequence_length": 512}, "two calls"),
    "kandinsky5": Case(kandinsky5, _KANDINSKY, "two calls"),
    "kandinsky5-image": Case(kandinsky5_from_image, {**_KANDINSKY, **IMAGE, "num_frames": 21}, "two calls"),
    "sana-video": Case(sana_video, _SANA, "batch"),
    "sana-video-image": Case(sana_video_from_image, {**_SANA, "image": WIDE}, "batch"),
}
