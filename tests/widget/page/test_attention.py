"""What a place attends to, for the page: the maps are those of Python, and what cannot be computed says why."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffvis_widget import Tracer, open_trace
from diffvis_widget.traces import Trace
from diffvis_widget.wire import images
from diffvis_widget.wire.packed_run import Message, dequantise
from tests.pipelines_edit import EDITING
from tests.widget.conftest import PROMPT, page

Make = Callable[..., Any]
PLACE = [0.3, 0.6]


def work(widget: Any, **task: Any) -> Message:
    """The reply to a job, once it is over."""
    assert widget.wait(30)
    request = {"id": 9, "type": "job", "task": {"run": widget._outbox.run, "kind": "attention", **task}}
    pause = threading.Event()
    while True:
        page(widget, request)
        reply = next(message for message in reversed(widget.wire.messages) if message.content.get("id") == 9)
        if reply.content["type"] != "job" or reply.content["state"] not in ("waiting", "running"):
            return reply
        pause.wait(0.01)


def assert_maps(reply: Message, trace: Trace, step: int, targets: list[str]) -> None:
    start = 0
    for entry, target in zip(reply.content["maps"], targets, strict=True):
        height, width = entry["grid"]
        data = reply.buffers[0][start : start + height * width]
        start += height * width
        values = dequantise(data, (1, height, width), [entry["scale"]])[0]
        expected = trace.attention_from((PLACE[0], PLACE[1]), step, to=target)
        assert np.abs(values - expected).max() <= 1.01 * float(np.ptp(expected)) / 510
    assert start == len(reply.buffers[0])


def test_the_page_gets_the_map_of_a_place(make: Make, shared_pipe: Any) -> None:
    widget = make(shared_pipe, prompt=PROMPT, seed=7, steps=2)
    trace = widget.trace
    reply = work(widget, step=1, position=PLACE)
    assert reply.content["state"] == "done", reply.content["error"]
    assert_maps(reply, trace, 1, ["image"])
    height, width = reply.content["maps"][0]["grid"]
    top, left, bottom, right = reply.content["place"]
    assert top <= PLACE[0] < bottom
    assert left <= PLACE[1] < right
    assert round((bottom - top) * height, 6) == round((right - left) * width, 6) == 1
    assert reply.content["words"] is None  # cross-attention has a sum of its own
    assert reply.content["maps"][0]["share"] is None


def test_references_come_with_their_images(make: Make) -> None:
    case = EDITING["klein-two"]
    pipe = case.build()
    with Tracer(pipe) as tracer:
        pipe(prompt=PROMPT, generator=torch.Generator().manual_seed(1), **case.arguments)
    trace = tracer.trace
    reply = work(make(trace), step=1, position=PLACE)
    assert reply.content["state"] == "done", reply.content["error"]
    assert_maps(reply, trace, 1, ["image", "reference 0", "reference 1"])
    shares = [entry["share"] for entry in reply.content["maps"]]
    assert abs(reply.content["words"] + sum(shares) - 1) < 1e-6
    words = trace.attention_from((PLACE[0], PLACE[1]), 1, to="text")
    assert np.nansum(words) <= reply.content["words"] + 5e-3  # padding is attended to as well
    for data, reference in zip(reply.buffers[1:], trace.references, strict=True):
        np.testing.assert_array_equal(np.asarray(images.read(data)), reference)  # small images are sent without loss


def test_a_recorded_run_says_that_it_has_no_model(make: Make, shared_pipe: Any, tmp_path: Path) -> None:
    trace = make(shared_pipe, prompt=PROMPT, seed=7, steps=2).trace
    opened = open_trace(trace.save(tmp_path / "run.safetensors"))
    reply = work(make(opened), step=1, position=PLACE)
    assert reply.content["state"] == "failed"
    assert "no live pipeline" in reply.content["error"]
    trace.keep_attention()
    stored = open_trace(trace.save(tmp_path / "run.safetensors"))
    reply = work(make(stored), step=1, position=PLACE)
    assert reply.content["state"] == "done"
    assert_maps(reply, stored, 1, ["image"])


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"step": 1, "position": [2, 0]}, "position must be a number from 0 to 1"),
        ({"step": 1, "position": "x"}, "position must be"),
        ({"step": True, "position": PLACE}, "step must be the index of a step"),
        ({"step": 1, "position": PLACE, "run": "r99"}, "run"),
    ],
)
def test_a_wrong_request_is_refused(make: Make, shared_pipe: Any, task: dict[str, Any], message: str) -> None:
    widget = make(shared_pipe, prompt=PROMPT, seed=7, steps=2)
    _ = widget.trace
    reply = work(widget, **task)
    assert reply.content["type"] == "error"
    assert message in reply.content["message"]
