"""CPU offload: weights that come to the device when their module runs, a model or a layer at a time.

The hooks of accelerate are the real ones; the device that they bring the weights to is the CPU, so that this runs
anywhere. In between, a model's weights lie elsewhere: sequential offload leaves nothing but their shapes in place.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

import accelerate
import numpy as np
import pytest
import torch
from torch import nn

from diffvis_widget.tracer import Tracer
from diffvis_widget.tracer import trace as make_trace
from diffvis_widget.tracer.families import find_family
from tests.pipelines_dit import FAMILIES
from tests.tracer.recorder import recording
from tests.tracer.reference import assert_stored

PROMPT = "a red circle above a blue square"
NAMES = ["sd", "sd3", "flux"]


def build(name: str) -> tuple[Any, dict[str, Any]]:
    if name == "sd":
        from tests import pipelines

        return pipelines.stable_diffusion(), {"num_inference_steps": 2}
    return FAMILIES[name].build(), FAMILIES[name].arguments


def call(pipe: Any, arguments: dict[str, Any]) -> Any:
    call_arguments = {"prompt": PROMPT, "output_type": "np", **arguments}
    return np.asarray(pipe(**call_arguments, generator=torch.Generator().manual_seed(1)).images)


def offload(pipe: Any, kind: str) -> None:
    original = accelerate.cpu_offload

    def unnumbered(model: nn.Module, device: torch.device, **named: Any) -> nn.Module:
        # "cpu:0", as diffusers calls it, equals no device that a weight says it is on: accelerate copies and loses it
        return original(model, torch.device(device.type), **named)

    with mock.patch.object(accelerate, "cpu_offload", unnumbered):
        getattr(pipe, f"enable_{kind}_cpu_offload")(device="cpu")


def hooks_of(pipe: Any) -> list[tuple[str, int, int, bool, bool]]:
    """What is hung on every module of the denoiser, accelerate's included."""
    return [
        (name, len(module._forward_hooks), len(module._forward_pre_hooks), hasattr(module, "_hf_hook"), has_forward)
        for name, module in find_family(pipe)[1].named_modules()
        for has_forward in ["forward" in vars(module)]
    ]


@pytest.mark.parametrize("kind", ["model", "sequential"])
@pytest.mark.parametrize("name", NAMES)
def test_the_image_is_the_same_and_the_maps_are_exact(name: str, kind: str) -> None:
    pipe, arguments = build(name)
    resident = call(pipe, arguments)
    offload(pipe, kind)
    family, denoiser = find_family(pipe)
    if kind == "sequential":
        assert {weight.device.type for weight in denoiser.parameters()} == {"meta"}
    with recording(denoiser) as calls:
        plain = call(pipe, arguments)
    before = hooks_of(pipe)
    with Tracer(pipe, keep="heads") as tracer:
        traced = call(pipe, arguments)
    assert np.array_equal(resident, plain)
    assert np.array_equal(plain, traced)
    assert hooks_of(pipe) == before
    trace = tracer.trace
    assert np.array_equal(trace.image, np.round(traced[0] * 255).astype(np.uint8))
    length = 1 + max(position for word in trace.words for position in word.tokens)
    for index, layer in enumerate(trace.layers):
        assert len(calls[layer.name]) == len(trace.steps)
        for step, attention in enumerate(calls[layer.name]):
            shares = attention.probabilities(len(attention.query) - 1)
            text, image = slice(0, length), slice(0, shares.shape[1])
            if family.sequence_layout is not None:
                places = family.sequence_layout(shares.shape[2], length, layer.grid[0] * layer.grid[1])
                assert places is not None
                text, image = places
            for place, word in enumerate(trace.words):
                if word.kind == "padding" and layer.kind == "joint":
                    continue
                expected = shares[:, image, text][:, :, list(word.tokens)].sum(axis=-1)
                stored = trace.records[step].maps[index][:, place]
                assert_stored(stored, expected.reshape(-1, *layer.grid), 1e-5)


@pytest.mark.parametrize("kind", ["model", "sequential"])
def test_frames_are_decoded_and_a_second_run_is_the_same(kind: str) -> None:
    pipe, arguments = build("sd")
    plain = make_trace(pipe, PROMPT, seed=3, **arguments)
    offload(pipe, kind)
    for _ in range(2):
        trace = make_trace(pipe, PROMPT, seed=3, **arguments)
        np.testing.assert_array_equal(trace.image, plain.image)
        np.testing.assert_array_equal(trace.frames("prediction"), plain.frames("prediction"))
        np.testing.assert_array_equal(trace.heat_maps(), plain.heat_maps())
