"""Calls that make videos are refused before they run, by every part that would record or change them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    StableDiffusionPipeline,
    WanPipeline,
    WanTransformer3DModel,
)

import diffvis_widget as dv
from tests import pipelines, tiny_parts, tiny_tokenizers
from tests.tracer.test_transparency import snapshot

PROMPT = "a red circle"
SMALL: dict[str, Any] = {"height": 32, "width": 32, "num_inference_steps": 2}


def wan() -> Any:
    tokenizer = tiny_tokenizers.t5()
    denoiser: dict[str, Any] = {
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "text_dim": tiny_parts.T5_WIDTH,
        "freq_dim": 32,
        "ffn_dim": 32,
        "num_layers": 1,
        "rope_max_seq_len": 32,
    }
    vae: dict[str, Any] = {"base_dim": 4, "dim_mult": [1] * 4, "num_res_blocks": 1}
    return tiny_parts.quiet(
        WanPipeline(
            tokenizer=tokenizer,
            text_encoder=tiny_parts.umt5(tokenizer),
            vae=AutoencoderKLWan(**vae, temperal_downsample=[False, True, True]),
            transformer=WanTransformer3DModel(**denoiser),
            scheduler=tiny_parts.flow(),
        )
    )


def ltx() -> Any:
    tokenizer = tiny_tokenizers.t5()
    denoiser: dict[str, Any] = {
        "in_channels": 8,
        "out_channels": 8,
        "num_attention_heads": 4,
        "attention_head_dim": 8,
        "cross_attention_dim": 32,
        "num_layers": 1,
        "caption_channels": tiny_parts.T5_WIDTH,
    }
    four, five = (8,) * 4, (1,) * 5
    vae: dict[str, Any] = {
        "latent_channels": 8,
        "block_out_channels": four,
        "decoder_block_out_channels": four,
        "layers_per_block": five,
        "decoder_layers_per_block": five,
        "patch_size": 1,
    }
    return tiny_parts.quiet(
        LTXPipeline(
            tokenizer=tokenizer,
            text_encoder=tiny_parts.t5(tokenizer),
            vae=AutoencoderKLLTXVideo(**vae),
            transformer=LTXVideoTransformer3DModel(**denoiser),
            scheduler=tiny_parts.flow(),
        )
    )


class Frames(StableDiffusionPipeline):
    """Makes latents of several frames without an argument that says so."""

    def prepare_latents(self, *args: Any, **kwargs: Any) -> Any:
        return super().prepare_latents(*args, **kwargs)[:, :, None].repeat(1, 1, 3, 1, 1)


def frames() -> Any:
    return tiny_parts.quiet(Frames(**pipelines.stable_diffusion().components))


VIDEOS: dict[str, tuple[Callable[[], Any], dict[str, Any], str]] = {
    "Wan": (wan, {"num_frames": 9}, "WanPipeline makes a video of 9 frames.*num_frames=1"),
    "Wan by default": (wan, {}, "WanPipeline makes a video of 81 frames.*num_frames=1"),
    "LTX": (ltx, {"num_frames": 9}, "LTXPipeline makes a video of 9 frames.*num_frames=1"),
    "latents of several frames": (frames, {}, r"latents of shape \(1, 4, 3, \d+, \d+\) are those of a video"),
}


@pytest.fixture(params=VIDEOS)
def video(request: pytest.FixtureRequest) -> tuple[Any, dict[str, Any], str]:
    build, arguments, message = VIDEOS[request.param]
    pipe = build()
    denoiser = getattr(pipe, "transformer", None) or pipe.unet

    def refuse(*args: Any) -> None:
        raise AssertionError("the denoiser ran")

    denoiser.register_forward_pre_hook(refuse)
    return pipe, {**SMALL, **arguments}, message


@pytest.mark.filterwarnings("ignore:.*is traced without word maps")
def test_a_video_is_refused_before_it_runs(video: tuple[Any, dict[str, Any], str]) -> None:
    pipe, arguments, message = video
    before = snapshot(pipe)
    with pytest.raises(ValueError, match=message):
        dv.trace(pipe, PROMPT, seed=0, **arguments)
    tracer = dv.Tracer(pipe)
    with pytest.raises(ValueError, match=message), tracer:
        pipe(PROMPT, **arguments)
    assert tracer.traces == []
    assert snapshot(pipe) == before


def test_interventions_refuse_a_video() -> None:
    pipe = frames()
    with pytest.raises(ValueError, match="are those of a video"), dv.intervene.on(pipe, dv.intervene.drop("red")):
        pipe(PROMPT, **SMALL)


def test_a_widget_refuses_a_video_at_once() -> None:
    with pytest.raises(ValueError, match="makes a video of 81 frames"):
        dv.DiffVis(wan(), height=32, width=32)


@pytest.mark.filterwarnings("ignore:.*is traced without word maps")
def test_a_loop_of_ones_own_is_refused_where_it_draws_the_noise() -> None:
    pipe = ltx()
    with pytest.raises(ValueError, match="makes a video of 9 frames"), dv.Tracer(pipe):
        pipe.prepare_latents(1, 8, 32, 32, num_frames=9, dtype=torch.float32)


@pytest.mark.filterwarnings("ignore:.*is traced without word maps")
def test_a_single_frame_of_a_video_model_is_an_image() -> None:
    pipe = wan()
    arguments: dict[str, Any] = {**SMALL, "num_frames": 1, "max_sequence_length": 16}
    trace = dv.trace(pipe, PROMPT, seed=3, **arguments)
    plain = pipe(PROMPT, generator=torch.Generator().manual_seed(3), output_type="np", **arguments).frames
    assert trace.latents.shape == (3, 16, 4, 4)
    assert np.abs(np.round(plain[0, 0] * 255) - trace.image).max() <= 1
