"""Heat maps against a naive softmax over the real q and k, however the attention is computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor

from diffvis_widget.tracer import Tracer
from tests import pipelines
from tests.tracer.reference import assert_stored, probabilities, projections

PROMPT = "a red circle above a blue square"


def run(pipe: Any, seed: int = 0, **arguments: Any) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return pipe(**({"prompt": PROMPT, "num_inference_steps": 3, "output_type": "np"} | arguments), generator=generator)


def check(pipe: Any, tolerance: float = 1e-5, last: int = 1, **arguments: Any) -> None:
    """Trace a call and compare every layer, head, word, step and image with the reference.

    last: which part of the batch carries the prompt, counted from its end; the unconditional half comes first.
    """
    with projections(pipe.unet) as seen, Tracer(pipe, keep="heads") as tracer:
        run(pipe, **arguments)
    assert tracer.traces
    for image, trace in enumerate(tracer.traces):
        assert len(trace.layers) == len(seen)
        for index, layer in enumerate(trace.layers):
            calls = seen[layer.name]
            assert len(calls) == len(trace.steps)
            for step, call in enumerate(calls):
                row = len(call["q"]) - last * len(tracer.traces) + image
                expected = probabilities(call, layer.heads, row)
                stored = trace.records[step].maps[index]
                assert stored.dtype == np.float16
                for column, word in enumerate(trace.words):
                    summed = expected[:, :, list(word.tokens)].sum(axis=-1).reshape(-1, *layer.grid)
                    assert_stored(stored[:, column], summed, tolerance)


@pytest.mark.parametrize("guidance", [7.5, 1.0])
def test_stable_diffusion(guidance: float) -> None:
    check(pipelines.stable_diffusion(), guidance_scale=guidance)


def test_not_square() -> None:
    pipe = pipelines.stable_diffusion()
    check(pipe, height=48, width=32)
    with Tracer(pipe) as tracer:
        run(pipe, height=40, width=72)
    assert {layer.grid for layer in tracer.trace.layers} == {(20, 36), (10, 18), (5, 9)}


def test_odd_sizes_are_rounded_as_the_model_does() -> None:
    pipe = pipelines.stable_diffusion()
    with Tracer(pipe) as tracer:
        run(pipe, height=56, width=88)
    # latents 28 x 44: down to 7 x 11
    assert [layer.grid for layer in tracer.trace.layers][:3] == [(28, 44), (14, 22), (7, 11)]
    with Tracer(pipe) as tracer:
        run(pipe, height=56, width=72)
    assert [layer.grid for layer in tracer.trace.layers][:3] == [(28, 36), (14, 18), (7, 9)]


def test_sdxl() -> None:
    check(pipelines.stable_diffusion_xl())


def test_without_guidance_by_embedding() -> None:
    check(pipelines.unguided())


@pytest.mark.parametrize("guidance", [7.5, 1.0])
def test_perturbed_attention_guidance(guidance: float) -> None:
    check(pipelines.perturbed(), last=2, guidance_scale=guidance, num_images_per_prompt=2)


def test_batch_of_prompts_with_several_images() -> None:
    prompts = ["a red circle", "blue squares, and a very small green triangle on the left"]
    check(pipelines.stable_diffusion(), prompt=prompts, num_images_per_prompt=2)


def test_batch_without_guidance() -> None:
    check(pipelines.stable_diffusion(), num_images_per_prompt=3, guidance_scale=1.0)


@pytest.mark.parametrize("slice_size", ["auto", "max", 1])
def test_attention_slicing(slice_size: Any) -> None:
    pipe = pipelines.stable_diffusion()
    pipe.enable_attention_slicing(slice_size)
    check(pipe, num_images_per_prompt=2)


def test_eager_processor() -> None:
    pipe = pipelines.stable_diffusion()
    pipe.unet.set_attn_processor(AttnProcessor())
    check(pipe)


def test_fused_projections() -> None:
    pipe = pipelines.stable_diffusion()
    with Tracer(pipe) as plain:
        run(pipe)
    pipe.fuse_qkv_projections(vae=False)
    with Tracer(pipe) as fused:
        run(pipe)
    for step in range(3):
        for layer in range(len(plain.trace.layers)):
            np.testing.assert_allclose(
                fused.trace.heat_maps(step, layer), plain.trace.heat_maps(step, layer), atol=2e-5, rtol=2e-3
            )


def test_native_attention_backend() -> None:
    pipe = pipelines.stable_diffusion()
    pipe.unet.set_attention_backend("native")
    check(pipe)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    check(pipelines.stable_diffusion().to(dtype), tolerance=1e-3)


def test_autocast_does_not_reach_the_reading() -> None:
    pipe = pipelines.stable_diffusion()
    with torch.autocast("cpu", torch.bfloat16):
        check(pipe, tolerance=1e-3)


def test_padding_that_is_masked_gets_nothing() -> None:
    pipe = pipelines.stable_diffusion()
    mask = torch.zeros(2, 77)
    mask[:, :9] = 1
    plain_forward = pipe.unet.forward

    def masked(*args: Any, **kwargs: Any) -> Any:
        return plain_forward(*args, **kwargs, encoder_attention_mask=mask)

    pipe.unet.forward = masked
    with Tracer(pipe, keep="heads") as tracer:
        run(pipe)
    maps = tracer.trace.heat_maps()
    assert tracer.trace.words[-1].kind == "padding"
    assert maps[-1].max() < 1e-6
    np.testing.assert_allclose(maps.sum(axis=0), 1, atol=1e-3)


def test_default_layers_leave_out_a_coarse_grid() -> None:
    pipe = pipelines.stable_diffusion()
    with Tracer(pipe) as tracer:
        run(pipe)
    trace = tracer.trace
    assert {layer.grid for layer in trace.layers if layer.default} == {(16, 16), (8, 8)}
    assert {layer.grid for layer in trace.layers if not layer.default} == {(4, 4)}


def test_kept_means_agree_with_heads() -> None:
    pipe = pipelines.stable_diffusion()
    traces: dict[str, Any] = {}
    for keep in ("words", "layers", "heads"):
        with Tracer(pipe, keep=keep) as tracer:
            run(pipe)
        traces[keep] = tracer.trace
    heads, layers, words = (traces[keep].heat_maps(step=1) for keep in ("heads", "layers", "words"))
    np.testing.assert_allclose(layers, heads, atol=2.0**-11)
    np.testing.assert_allclose(words, layers, atol=2.0**-11)  # rounded to float16 twice
    assert len(traces["words"].records[0].maps) == 1
