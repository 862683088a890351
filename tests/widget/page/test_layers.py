"""A word's maps layer by layer and head by head, as the page asks for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline

from diffvis_widget import front_end
from diffvis_widget.wire.packed_run import Message, dequantise
from diffvis_widget.wire.replies import focus, layer_maps, layers_message
from tests.traces.build import LAYERS, make_trace
from tests.widget.conftest import PROMPT, SECONDS, page

Make = Callable[..., Any]


def maps_in(message: Message) -> list[np.ndarray]:
    maps, offset = [], 0
    for entry in message.content["maps"]:
        h, w = entry["grid"]
        part = message.buffers[0][offset : offset + h * w]
        offset += h * w
        maps.append(dequantise(part, (1, h, w), [entry["scale"]])[0])
    assert offset == len(message.buffers[0])
    return maps


def test_the_page_gets_every_layer_on_its_own_grid(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe, prompt=PROMPT, steps=3)
    trace = widget.trace
    run = widget.wire.of("run")[0].content["run"]
    page(widget, {"type": "layers", "id": 4, "run": run, "step": 1, "word": 3})
    (answer,) = widget.wire.of("layers")
    assert (answer.content["id"], answer.content["step"], answer.content["word"]) == (4, 1, 3)
    assert [entry["layer"] for entry in answer.content["maps"]] == [layer.name for layer in trace.layers]
    assert {entry["head"] for entry in answer.content["maps"]} == {None}
    for index, heat_map in enumerate(maps_in(answer)):
        expected = trace.heat_map(3, step=1, layer=index)
        assert heat_map.shape == expected.shape
        assert np.abs(heat_map - expected).max() <= (expected.max() - expected.min()) / 510 + 1e-6


def test_the_page_gets_the_views_that_open_on_request(
    make: Make, shared_pipe: StableDiffusionPipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    widget = make(shared_pipe)
    page(widget, {"type": "more", "id": 3})
    (answer,) = widget.wire.of("more")
    assert answer.content["id"] == 3
    assert answer.content["style"] == (front_end.STATIC / "more.css").read_text(encoding="utf-8")
    assert answer.buffers == ((front_end.STATIC / "more.js").read_bytes(),)
    assert answer.buffers[0] not in widget._esm.encode()
    monkeypatch.setattr(front_end, "STATIC", tmp_path)
    page(widget, {"type": "more", "id": 4})
    error = widget.wire.of("error")[-1].content
    assert (error["id"], "not built" in error["message"]) == (4, True)


def test_a_trace_with_heads_is_sent_head_by_head() -> None:
    trace = make_trace(keep="heads")
    message = layers_message("r", 1, 2, 1, layer_maps(trace, 2, 1))
    parts = [(entry["layer"], entry["head"]) for entry in message.content["maps"]]
    assert parts == [(layer.name, head) for layer in LAYERS for head in range(layer.heads)]
    for (layer, head), heat_map in zip(parts, maps_in(message), strict=True):
        expected = trace.heat_map(1, step=2, layer=layer, head=head)
        assert np.abs(heat_map - expected).max() < 0.01


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"step": 99}, "step 99 is out of range"),
        ({"word": 99}, "word 99 is out of range"),
        ({"word": -1}, "word -1 is out of range"),
        ({"run": "gone"}, "not in the kernel any more"),
        ({"word": "x"}, "does not know this message"),
    ],
)
def test_an_impossible_request_is_answered(
    make: Make, shared_pipe: StableDiffusionPipeline, fields: dict[str, Any], says: str
) -> None:
    widget = make(shared_pipe, prompt=PROMPT, steps=2)
    assert widget.wait(SECONDS)
    run = widget.wire.of("run")[0].content["run"]
    page(widget, {"type": "layers", "id": 9, "run": run, "step": 0, "word": 2, **fields})
    error = widget.wire.of("error")[-1].content
    assert says in error["message"]
    assert error["id"] == 9


def test_a_trace_of_words_only_says_that_it_has_no_layers() -> None:
    with pytest.raises(ValueError, match='"words"'):
        layer_maps(make_trace(keep="words"), 0, 1)


def test_focus_is_one_for_a_single_cell_and_zero_for_a_flat_map() -> None:
    single = np.zeros((4, 4), dtype=np.float32)
    single[1, 2] = 0.3
    assert focus(single) == 1
    assert focus(np.full((4, 4), 0.1, dtype=np.float32)) == pytest.approx(0, abs=1e-4)
    half = np.zeros((4, 4), dtype=np.float32)
    half[:2] = 1
    assert focus(half) == pytest.approx(1 - math.log(8) / math.log(16), abs=1e-4)
    for odd in (np.zeros((2, 2)), np.full((2, 2), np.nan), np.ones((1, 1))):
        assert focus(odd) is None
