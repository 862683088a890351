"""Caches that let a denoiser skip layers: what did not run is told apart, and shows the maps it stands for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FasterCacheConfig, FirstBlockCacheConfig, PyramidAttentionBroadcastConfig

from diffvis_widget.tracer import Tracer
from tests.pipelines_dit import FAMILIES
from tests.pipelines_video import WAN, cogvideox

PROMPT = "a red circle above a blue square"


def call(pipe: Any, name: str) -> Any:
    arguments = {**FAMILIES[name].arguments, "num_inference_steps": 6, "prompt": PROMPT, "output_type": "np"}
    return pipe(**arguments, generator=torch.Generator().manual_seed(0)).images


@pytest.mark.parametrize("name", ["flux", "flux-two-calls"])
def test_layers_that_a_cache_skips_are_told_apart(name: str) -> None:
    pipe = FAMILIES[name].build()
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=10.0))  # reuses whenever it may
    plain = call(pipe, name)
    with Tracer(pipe) as tracer:
        traced = call(pipe, name)
    assert np.array_equal(plain, traced)
    trace = tracer.trace
    reused = trace.reused
    assert reused.shape == (6, len(trace.layers))
    assert not reused[0].any()
    assert not reused[:, 0].any()  # the first block always runs
    assert reused[1:, 1:].any()
    for step, layer in np.argwhere(reused):
        maps = trace.heat_maps(step=int(step), layer=int(layer))
        np.testing.assert_array_equal(maps, trace.heat_maps(step=int(step) - 1, layer=int(layer)))
        assert np.isfinite(trace.heat_map("circle", step=int(step), layer=int(layer))).all()


def test_broadcast_attention() -> None:
    pipe = FAMILIES["flux"].build()
    config = PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2,
        spatial_attention_timestep_skip_range=(-1, 2000),
        spatial_attention_block_identifiers=("single_transformer_blocks",),
        current_timestep_callback=lambda: pipe._current_timestep if pipe._current_timestep is not None else 500,
    )
    pipe.transformer.enable_cache(config)
    plain = call(pipe, "flux")
    with Tracer(pipe) as tracer:
        traced = call(pipe, "flux")
    assert np.array_equal(plain, traced)
    assert np.isfinite(tracer.trace.heat_map("circle")).all()


def faster(pipe: Any) -> Any:
    """FasterCache at work: every second step skips attention, and the unconditional branch."""
    config = FasterCacheConfig(
        spatial_attention_block_skip_range=2,
        spatial_attention_timestep_skip_range=(-1, 900),
        unconditional_batch_skip_range=2,
        unconditional_batch_timestep_skip_range=(-1, 800),
        attention_weight_callback=lambda module: 0.3,
        tensor_format="BFCHW",
        current_timestep_callback=lambda: 999 if pipe._current_timestep is None else pipe._current_timestep,
    )
    pipe.transformer.enable_cache(config)
    return pipe


def make_video(pipe: Any) -> Any:
    arguments = {**WAN, "num_inference_steps": 6, "prompt": PROMPT, "output_type": "np"}
    return np.asarray(pipe(**arguments, generator=torch.Generator().manual_seed(0)).frames)


@pytest.mark.filterwarnings("ignore:torch.meshgrid")
def test_faster_cache_skips_attention_and_the_unconditional_branch() -> None:
    plain = make_video(faster(cogvideox()))  # the cache keeps a state: each run has a pipeline of its own
    pipe = faster(cogvideox())
    with Tracer(pipe, keep="heads") as tracer:
        assert np.array_equal(make_video(pipe), plain)
    trace = tracer.trace
    assert trace.reused.all(axis=1).tolist() == [False, True, False, True, False, True]
    assert trace.reused.any(axis=1).tolist() == [False, True, False, True, False, True]
    for step in (1, 3, 5):
        before = trace.heat_map("circle", step=step - 1, frame="all")
        np.testing.assert_array_equal(trace.heat_map("circle", step=step, frame="all"), before)


def test_without_a_cache_nothing_is_reused() -> None:
    pipe = FAMILIES["flux"].build()
    with Tracer(pipe) as tracer:
        call(pipe, "flux")
    assert not tracer.trace.reused.any()
