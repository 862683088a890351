"""A denoiser that sees the image at the left of its reference: which places the maps are about."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import numpy as np
import pytest
import torch

from diffvis_widget.tracer import Tracer, denoiser
from diffvis_widget.traces import Trace
from tests.pipelines_dreamlite import CASES, FROM_IMAGE
from tests.tracer.recorder import Attention, recording
from tests.tracer.test_guided_denoiser import check

ALL = CASES | FROM_IMAGE
LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn2"
HEIGHT, WIDTH = 16, 24


@functools.cache
def traced(name: str) -> tuple[Any, Trace]:
    pipe = ALL[name].build()
    with Tracer(pipe, keep="heads") as tracer:
        pipe("a red circle", **ALL[name].arguments, generator=torch.Generator().manual_seed(0))
    return pipe, tracer.trace


def first_attention(name: str, change: tuple[int, int] | None) -> Attention:
    """The first attention of the finest layer, with one pixel of the denoiser's input changed."""
    pipe, _ = traced(name)

    def disturb(module: Any, args: Any, kwargs: Any) -> Any:
        bound = inspect.signature(module.forward).bind(*args, **kwargs)
        if change is not None:
            bound.arguments["sample"] = bound.arguments["sample"].clone()
            bound.arguments["sample"][:, :, *change] += 5.0
        return bound.args, bound.kwargs

    handle = pipe.unet.register_forward_pre_hook(disturb, with_kwargs=True)
    try:
        with recording(pipe.unet) as calls:
            pipe("a red circle", **ALL[name].arguments, generator=torch.Generator().manual_seed(0))
    finally:
        handle.remove()
    return calls[LAYER][0]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("place", [(3, 5), (13, 20), (8, 2)])
def test_a_place_of_the_image_is_the_place_of_its_map(name: str, place: tuple[int, int]) -> None:
    before, after = first_attention(name, None), first_attention(name, place)
    change = (before.query[-1] - after.query[-1]).abs().sum(dim=(0, 2)).reshape(HEIGHT, 2 * WIDTH)
    largest = np.unravel_index(int(change.argmax()), change.shape)
    assert np.abs(np.subtract(largest, place)).max() <= 1  # convolutions see the neighbours too
    _, trace = traced(name)
    index = next(index for index, layer in enumerate(trace.layers) if layer.name == LAYER)
    assert trace.layers[index].grid == (HEIGHT, WIDTH)
    word = next(word for word in trace.words if word.text == "circle")
    row = before.probabilities(len(before.query) - 1)[:, place[0] * 2 * WIDTH + place[1]].mean(axis=0)
    np.testing.assert_allclose(
        trace.heat_map("circle", step=0, layer=index)[place], row[list(word.tokens)].sum(), atol=5e-4
    )


@pytest.mark.parametrize("name", ["dreamlite", "dreamlite-mobile", "dreamlite-edit", "dreamlite-mobile-edit"])
def test_the_words_that_a_place_attends_to_are_read_again(name: str) -> None:
    _, trace = traced(name)
    for index, layer in enumerate(trace.layers):
        row = trace.attention_rows((0.4, 0.8), 1)[index].words
        y, x = int(0.4 * layer.grid[0]), int(0.8 * layer.grid[1])
        maps = trace.heat_maps(step=1, layer=index)[:, y, x]
        np.testing.assert_allclose(row, maps, atol=5e-4)


def test_with_a_reference_three_branches_are_told_apart() -> None:
    """Without prompt and reference, without prompt, and with both: the last carries the prompt."""
    _, trace = traced("dreamlite-edit")
    assert trace.guidance is not None
    assert trace.negative is not None
    assert [word.text for word in trace.words if word.kind == "word"] == ["a", "red", "circle"]
    assert [word.text for word in trace.negative.words if word.kind == "word"] == ["a", "green", "cross"]


def test_three_branches_are_evaluated_again() -> None:
    case = ALL["dreamlite-edit"]
    torch.manual_seed(0)
    (trace,) = check(case.build(), **case.arguments, image_guidance_scale=1.3)
    probe = denoiser(trace, 1)
    assert probe.branches == ["negative", "references", "prompt"]
    np.testing.assert_allclose(probe.guidance_form.reference_scale or 0, 1.3, atol=1e-3)
