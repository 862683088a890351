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
from diffvis_widget.widget.charts import attention_chart
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
    assert (begun["prompt"], begun["seed"], begun["steps"], begun["external"]) == (PROMPT, 3, 4, True)
    assert widget.trace is tracer.trace


def test_the_widget_takes_the_settings_of_the_call(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe, seed=9, weights={"red": 2.0}, negative_prompt="fog")
    red = [dv.intervene.weight("circle", 1.5)]
    with dv.Tracer(shared_pipe, view=widget, interventions=red):
        call(shared_pipe, 3, guidance_scale=4.0)
    assert widget.wait(SECONDS)
    assert (widget.prompt, widget.seed, widget.steps, widget.guidance_scale) == (PROMPT, 3, 3, 4.0)
    assert (widget.negative_prompt, widget.weights) == ("", {"circle": 1.5})
    widget.run()
    assert widget.wait(SECONDS)
    assert "external" not in widget.wire.of("run")[1].content


def test_the_charts_span_the_steps_of_the_call(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe)
    figure: Any = attention_chart(widget).children[1]
    with dv.Tracer(shared_pipe, view=widget):
        call(shared_pipe, 3)
    assert widget.wait(SECONDS)
    assert (figure.axes[0].scale.min, figure.axes[0].scale.max) == (1, 3)


def test_a_stopped_call_ends_its_cell_with_one_sentence(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    widget = make(shared_pipe)
    shell = InteractiveShell()
    shell.user_ns.update(dv=dv, pipe=shared_pipe, widget=widget, prompt=PROMPT)
    code = (
        "with dv.Tracer(pipe, view=widget, on_step=lambda step: widget.stop()):\n"
        "    pipe(prompt=prompt, num_inference_steps=4, output_type='np')"
    )
    with capture_output() as printed:
        result = shell.run_cell(code)
    assert isinstance(result.error_in_exec, Cancelled)
    sentence = "Stopped in the widget after step 2 of 4. The finished steps are in tracer.traces."
    assert str(result.error_in_exec) == sentence
    assert printed.stdout.strip() == sentence


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
