"""dv.Tracer(pipe, view=widget): the notebook's own call, shown while it runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from PIL import Image

import diffvis_widget as dv
from diffvis_widget.cancellation import Cancelled
from tests import pipelines
from tests.widget.conftest import PROMPT, SECONDS, Gate

Make = Callable[..., Any]


def call(pipe: Any, steps: int = 4, **more: Any) -> Any:
    generator = torch.Generator().manual_seed(3)
    return pipe(**({"prompt": PROMPT} | more), num_inference_steps=steps, output_type="np", generator=generator).images


def test_the_page_is_told_of_every_step_and_the_image_is_the_same(
    make: Make, shared_pipe: StableDiffusionPipeline
) -> None:
    plain = call(shared_pipe)
    widget = make(shared_pipe)
    with dv.Tracer(shared_pipe, view=widget) as tracer:
        images = call(shared_pipe)
    assert np.array_equal(plain, images)
    assert widget.wait(SECONDS)
    assert (widget.status, widget.error, widget.progress) == ("done", "", 1.0)
    assert widget.wire.types() == ["run", *["step"] * 4, "end"]
    begun = widget.wire.of("run")[0].content
    assert (begun["prompt"], begun["seed"], begun["steps"]) == (PROMPT, 3, 4)
    assert widget.trace is tracer.trace


def test_steps_arrive_while_the_call_goes_on(make: Make, pipe: StableDiffusionPipeline) -> None:
    gate = Gate()
    gate.put_on(pipe)
    widget = make(pipe)

    def run() -> None:
        with torch.no_grad(), dv.Tracer(pipe, view=widget):
            call(pipe)

    thread = threading.Thread(target=run)
    thread.start()
    gate.until_held()
    gate.let(2)  # the scheduler's step of the second evaluation is done when the third is held
    assert widget.status == "running"
    assert widget.progress == pytest.approx(2 / 4)
    widget.run()  # waits: it does not end the notebook's own call
    gate.let_all()
    thread.join(SECONDS)
    assert widget.wait(SECONDS)
    assert widget.status == "done"
    assert widget.wire.types().count("run") == 2


def test_stop_in_the_page_ends_the_call(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe)

    def press(step: Any) -> None:
        if step.index == 1:
            widget.stop()

    with pytest.raises(Cancelled), dv.Tracer(shared_pipe, view=widget, on_step=press) as tracer:
        call(shared_pipe)
    assert widget.wait(SECONDS)
    assert widget.status == "stopped"
    assert len(tracer.trace.steps) == 3
    assert len(widget.trace.steps) == 3


def test_a_call_that_fails_is_told(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe)

    def fail(step: Any) -> None:
        if step.index == 1:
            raise ArithmeticError("enough")

    with pytest.raises(ArithmeticError), dv.Tracer(shared_pipe, view=widget, on_step=fail):
        call(shared_pipe)
    assert widget.wait(SECONDS)
    assert widget.status == "failed"
    assert "ArithmeticError: enough" in widget.error
    assert "2 finished steps are kept" in widget.error


def test_several_calls_and_other_pipelines_of_the_same_model(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    image_to_image: Any = StableDiffusionImg2ImgPipeline(**shared_pipe.components, requires_safety_checker=False)
    image_to_image.set_progress_bar_config(disable=True)
    widget = make(shared_pipe)
    with dv.Tracer(shared_pipe, view=widget):
        call(shared_pipe)
        call(shared_pipe, prompt=["a red circle", "fog"])
    with dv.Tracer(image_to_image, view=widget) as tracer:
        call(image_to_image, image=Image.new("RGB", (32, 32), "red"), strength=0.5)
    assert widget.wait(SECONDS)
    assert [message.content["prompt"] for message in widget.wire.of("run")] == [PROMPT, "a red circle", PROMPT]
    assert widget.trace is tracer.trace


def test_a_view_of_another_model_is_refused(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(pipelines.stable_diffusion(seed=5))
    entered = False
    with pytest.raises(ValueError, match=r"made for: make it with dv\.DiffVis"), dv.Tracer(shared_pipe, view=widget):
        entered = True
    assert not entered  # refused before the first step
    with pytest.raises(TypeError, match="view must be a DiffVis"):
        dv.Tracer(shared_pipe, view="widget")  # pyright: ignore[reportArgumentType]
