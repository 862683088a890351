"""The page gets the image that the pipeline returned, and the reason where that is not the decoded one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image

import diffvis_widget as dv
from diffvis_widget.export.drawing import base_image
from diffvis_widget.export.view_options import view_of_step
from diffvis_widget.traces.file.image_codec import decode_png
from diffvis_widget.wire.recorded_run import record
from tests import pipelines
from tests.tiny_parts import random_image
from tests.tracer.test_returned_images import Checker, checked
from tests.widget.conftest import PROMPT, SECONDS

Make = Callable[..., Any]
REPLACED = "the safety checker replaced the decoded image"


def test_a_call_of_the_notebook(make: Make) -> None:
    pipe = checked(pipelines.stable_diffusion(), Checker([True]))
    widget = make(pipe)
    with dv.Tracer(pipe, view=widget) as tracer:
        pipe(PROMPT, num_inference_steps=2)
        # the call is over when it has returned, not when the block ends
        assert widget.wait(SECONDS)
        assert widget.status == "done"
    (end,) = widget.wire.of("end")
    assert end.content["note"] == REPLACED
    assert not decode_png(bytes(end.buffers[0])).any()
    assert not tracer.trace.image.any()


def test_a_run_of_the_widget(make: Make) -> None:
    widget = make(checked(pipelines.stable_diffusion(), Checker([True])), PROMPT, steps=2)
    assert widget.wait(SECONDS)
    assert not widget.trace.image.any()
    assert widget.trace.decoded_image.any()
    (end,) = widget.wire.of("end")
    assert end.content["note"] == REPLACED


def test_a_recorded_run_and_an_unchanged_image(make: Make) -> None:
    pipe = pipelines.stable_diffusion()
    trace = dv.trace(pipe, PROMPT, seed=1, num_inference_steps=2)
    (end,) = [message for message in record(trace).payload.messages() if message.content["type"] == "end"]
    assert "note" not in end.content
    trace = dv.trace(checked(pipe, Checker([True])), PROMPT, seed=1, num_inference_steps=2)
    (end,) = [message for message in record(trace).payload.messages() if message.content["type"] == "end"]
    assert end.content["note"] == REPLACED
    trace.meta["image_note"] = ["no", "text"]
    (end,) = [message for message in record(trace).payload.messages() if message.content["type"] == "end"]
    assert "note" not in end.content


def test_a_figure_lays_maps_over_the_image_that_they_belong_to() -> None:
    mask = np.zeros((96, 96), np.uint8)
    mask[60:90, 60:90] = 255
    pipe = pipelines.inpainting()
    arguments = {"image": random_image(96, 96), "mask_image": Image.fromarray(mask), "padding_mask_crop": 4}
    with dv.Tracer(pipe) as tracer, torch.no_grad():
        pipe(PROMPT, **arguments, height=32, width=32, strength=1.0, num_inference_steps=2)
    drawn, _ = base_image(tracer.trace, view_of_step(tracer.trace, None))
    assert np.array_equal(drawn, tracer.trace.decoded_image)
    assert drawn.shape == (32, 32, 3)
