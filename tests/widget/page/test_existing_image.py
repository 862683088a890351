"""An image that the page gives: what it may be, and the run that shows the maps on it."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline
from PIL import Image

from diffvis_widget.tracer import trace_image
from diffvis_widget.tracer.image_call import NOTE
from diffvis_widget.widget.page import existing_image
from diffvis_widget.widget.page.requests import prepare
from diffvis_widget.wire.packed_run import Message
from tests.widget.conftest import PROMPT, page

PIXELS = np.random.default_rng(4).integers(0, 255, (40, 64, 3), dtype=np.uint8)


def file_of(image: Image.Image, kind: str = "PNG") -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return base64.b64encode(buffer.getvalue()).decode()


def replies(widget: Any) -> list[Message]:
    return [message for message in widget.wire.messages if message.content.get("id") == 5]


def give(widget: Any, data: Any) -> dict[str, Any]:
    widget.wire.messages.clear()
    page(widget, {"type": "image", "id": 5, "data": data})
    (reply,) = replies(widget)
    return reply.content


@pytest.fixture
def widget(make: Callable[..., Any], shared_pipe: StableDiffusionPipeline) -> Any:
    made = make(shared_pipe, prompt=PROMPT, concepts=["sky", "circle"], seed=7, steps=2)
    assert made.trace is not None
    return made


def test_an_image_is_cropped_to_the_size_of_the_model_and_shown_as_it_sees_it(widget: Any) -> None:
    reply = give(widget, file_of(Image.fromarray(PIXELS)))
    height, width = existing_image.image_size(widget._session.pipe, {})
    assert (reply["height"], reply["width"]) == (height, width)
    shown = Image.open(io.BytesIO(replies(widget)[0].buffers[0]))
    assert shown.size == (width, height)
    cropped = widget._session.jobs.input_of(reply["image"])
    left = (64 - 40) // 2
    expected = Image.fromarray(PIXELS[:, left : left + 40]).resize((width, height), Image.Resampling.BICUBIC)
    assert np.abs(np.asarray(cropped, int) - np.asarray(expected, int)).mean() < 2


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_the_run_holds_the_maps_of_words_and_concepts_on_the_image(widget: Any, kind: str) -> None:
    before = widget._outbox.run
    key = give(widget, file_of(Image.fromarray(PIXELS), kind))["image"]
    task = {"kind": "image", "image": key, "prompt": "a red star", "levels": [200, 600]}
    shares: list[float] = []
    widget.concepts = ["sky", "star"]

    def note(progress: float) -> None:
        shares.append(progress)

    run = prepare(widget._session, task)(note).content["run"]
    assert widget.wait(60)
    assert shares == sorted(shares)
    assert len(shares) == 2
    trace = widget._session.trace_of(run)
    assert widget._outbox.run == run != before
    assert widget.trace is trace
    assert trace.prompt == "a red star"
    assert [step.timestep for step in trace.steps] == [600, 200]
    assert [word.text for word in trace.words if word.kind == "concept"] == ["sky"]  # the prompt has the other
    assert trace.meta["image_note"] == NOTE
    image = np.asarray(widget._session.jobs.input_of(key))
    settings: dict[str, Any] = {"seed": 0, "concepts": ["sky"], "keep": "layers", "guidance_scale": 1.0}
    alone = trace_image(widget._session.pipe, image, "a red star", timesteps=[200, 600], **settings)
    assert np.array_equal(trace.image, image)
    assert np.array_equal(trace.heat_map("star"), alone.heat_map("star"))
    assert np.array_equal(trace.heat_map("sky"), alone.heat_map("sky"))
    assert widget._session.run_of(run).payload.end.content["note"] == NOTE


def test_a_job_can_be_cancelled_between_two_levels(widget: Any) -> None:
    key = give(widget, file_of(Image.fromarray(PIXELS)))["image"]
    before = widget._outbox.run

    def stop(progress: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(widget._session, {"kind": "image", "image": key, "prompt": "a", "levels": [5, 9]})(stop)
    assert widget._outbox.run == before


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "this file is no image: drop a PNG, a JPEG or a WebP"),
        ("%%%", "this file is no image"),
        (base64.b64encode(b"<svg xmlns='http://www.w3.org/2000/svg'/>").decode(), "this file is no image"),
        (file_of(Image.new("RGB", (8, 8)), "GIF"), "this file is no image"),
        (file_of(Image.new("L", (4097, 1))), "the image has 4097 x 1 pixels; at most 4096 x 4096 work"),
        (file_of(Image.fromarray(PIXELS))[:2000], "this image is damaged and cannot be decoded"),
    ],
)
def test_what_is_no_image_is_refused_in_a_sentence(widget: Any, data: str, message: str) -> None:
    reply = give(widget, data)
    assert reply["type"] == "error"
    assert message in reply["message"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": "absent"}, "the kernel does not have this image any more: drop it again"),
        ({"image": None}, "the kernel does not have this image any more"),
        ({"prompt": 3}, "prompt must be a text"),
        ({"prompt": "x" * 10_001}, "prompt must be a text of at most 10000 characters"),
        ({"levels": []}, "levels must be 1 to 16 whole numbers"),
        ({"levels": [True]}, "levels must be 1 to 16 whole numbers"),
        ({"levels": [0.5]}, "levels must be 1 to 16 whole numbers"),
        ({"levels": list(range(17))}, "levels must be 1 to 16 whole numbers"),
        ({"levels": "500"}, "levels must be 1 to 16 whole numbers"),
    ],
)
def test_a_task_that_is_not_as_it_must_be_is_refused(widget: Any, change: dict[str, Any], message: str) -> None:
    key = give(widget, file_of(Image.fromarray(PIXELS)))["image"]
    with pytest.raises(ValueError, match=message):
        prepare(widget._session, {"kind": "image", "image": key, "prompt": "a", "levels": [500], **change})


def test_a_level_out_of_range_is_the_error_of_the_job(widget: Any) -> None:
    key = give(widget, file_of(Image.fromarray(PIXELS)))["image"]
    with pytest.raises(ValueError, match="timesteps must be a list of whole numbers from 0 to 999"):
        prepare(widget._session, {"kind": "image", "image": key, "prompt": "a", "levels": [1000]})(
            lambda progress: None
        )


def test_only_the_last_image_is_kept(widget: Any) -> None:
    first = give(widget, file_of(Image.fromarray(PIXELS)))["image"]
    second = give(widget, file_of(Image.fromarray(255 - PIXELS)))["image"]
    jobs = widget._session.jobs
    assert first != second
    assert jobs.input_of(first) is None
    assert jobs.input_of(second) is not None


def test_a_recorded_run_has_no_pipeline(make: Callable[..., Any], widget: Any) -> None:
    recorded = make(widget.trace)
    assert "tracing an image needs the pipeline" in give(recorded, file_of(Image.fromarray(PIXELS)))["message"]


def test_a_pipeline_that_does_not_tell_its_size_asks_for_it() -> None:
    class Sizeless:
        pass

    with pytest.raises(ValueError, match="Sizeless does not tell the size of its images: give it"):
        existing_image.image_size(Sizeless(), {})
    assert existing_image.image_size(Sizeless(), {"height": 32, "width": 48}) == (32, 48)
