"""Videos of modular pipelines: traced as those of the standard pipelines of the same parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from diffvis_widget.tracer import Tracer
from diffvis_widget.traces import Trace
from tests.pipelines_modular import modular
from tests.pipelines_modular_video import HUNYUAN, MODULAR_VIDEOS
from tests.tracer.recorder import recording
from tests.tracer.reference import assert_stored
from tests.tracer.test_transparency import snapshot

PROMPT = "A tiny red circle, above a blue square"


def generate(pipe: Any, arguments: dict[str, Any]) -> np.ndarray:
    generator = torch.Generator().manual_seed(1)
    output = pipe(prompt=PROMPT, output_type="np", generator=generator, **arguments)
    return np.asarray(output.frames if hasattr(output, "frames") else output.get("videos"))


def traced(pipe: Any, arguments: dict[str, Any]) -> tuple[np.ndarray, Trace]:
    with Tracer(pipe, keep="heads") as tracer:
        video = generate(pipe, arguments)
    return video, tracer.trace


def of_call(pipe: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    taken = pipe.default_call_parameters
    return {name: value for name, value in arguments.items() if name in taken}


@pytest.mark.parametrize("name", MODULAR_VIDEOS)
def test_a_modular_video_is_traced_as_that_of_the_standard_pipeline(name: str) -> None:
    kind, case, guidance = MODULAR_VIDEOS[name]
    whole = case.build()
    if name.startswith("wan-two"):
        whole.register_to_config(boundary_ratio=0.875)
    pipe = modular(kind, whole)
    arguments = of_call(pipe, case.arguments)
    plain = generate(pipe, arguments)
    before = snapshot(pipe)
    video, trace = traced(pipe, arguments)
    assert np.array_equal(video, plain)
    assert {**snapshot(pipe), "pipe": None} == {**before, "pipe": None}
    assert trace.video is not None
    assert np.array_equal(trace.video, np.round(video[0] * 255).astype(np.uint8))
    _, expected = traced(whole, {**case.arguments, **guidance})
    assert trace.words == expected.words
    assert trace.frame_count == expected.frame_count > 1
    np.testing.assert_allclose(trace.latents, expected.latents, atol=1e-4)
    np.testing.assert_allclose(trace.heat_maps(frame="all"), expected.heat_maps(frame="all"), atol=1e-4)
    assert trace.guidance is not None
    assert expected.guidance is not None
    np.testing.assert_allclose(trace.guidance, expected.guidance, rtol=1e-3, atol=1e-4)


def test_ltx_25_is_traced_as_ltx_2() -> None:
    """It differs by its decoder, which denoises pixels: the latents are compared."""
    case = MODULAR_VIDEOS["ltx2"][1]
    whole = case.build()
    traces: list[Trace] = []
    for kind in ("LTX2ModularPipeline", "LTX25ModularPipeline"):
        pipe = modular(kind, whole)
        with Tracer(pipe, keep="heads") as tracer:
            pipe(
                prompt=PROMPT,
                output_type="latent",
                generator=torch.Generator().manual_seed(1),
                **of_call(pipe, case.arguments),
            )
        traces.append(tracer.trace)
    first, second = traces
    assert second.words == first.words
    assert second.frame_count == first.frame_count > 1
    assert np.array_equal(second.latents, first.latents)
    assert np.array_equal(second.heat_maps(frame="all"), first.heat_maps(frame="all"))


def test_maps_of_modular_hunyuan_video_15_equal_a_naive_softmax() -> None:
    kind, case = HUNYUAN
    pipe = modular(kind, case.build())
    arguments = of_call(pipe, case.arguments)
    with recording(pipe.transformer) as calls:
        plain = generate(pipe, arguments)
    video, trace = traced(pipe, arguments)
    assert np.array_equal(video, plain)
    typed = [word.text for word in trace.words if word.kind == "word"]
    assert "".join(typed) == PROMPT.replace(" ", "")
    for index, layer in enumerate(trace.layers):
        for step, attention in enumerate(calls[layer.name][::2]):
            shares = attention.probabilities(0)[:, :18]
            for place, word in enumerate(trace.words):
                if word.kind == "word":
                    expected = shares[:, :, [18 + token for token in word.tokens]].sum(axis=-1).reshape(-1, 3, 2, 3)
                    assert_stored(trace.records[step].maps[index][:, place], expected, 1e-5)
