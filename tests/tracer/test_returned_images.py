"""Where a pipeline returns another image than it decoded, a trace has both, and says why they differ."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from transformers import CLIPImageProcessor

from diffvis_widget.files import open_trace
from diffvis_widget.tracer import Tracer
from diffvis_widget.tracer.preview import decode
from tests import pipelines, pipelines_joint
from tests.tiny_parts import random_image

PROMPT = "a red circle above a blue square"


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Checker(torch.nn.Module):
    """Blackens the images that it finds fault with in place, as diffusers' own safety checker does."""

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self, flags: list[bool]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.flags = flags

    def forward(self, images: Any, clip_input: Any) -> Any:
        for index, flag in enumerate(self.flags):
            if flag:
                images[index] = torch.zeros_like(images[index]) if torch.is_tensor(images) else 0
        return images, self.flags


def checked(pipe: Any, checker: Any) -> Any:
    pipe.safety_checker = checker
    pipe.feature_extractor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return pipe


@pytest.mark.parametrize("form", [{}, {"return_dict": False}, {"output_type": "np"}, {"output_type": "pt"}], ids=str)
def test_images_that_a_safety_checker_replaced(form: dict[str, Any]) -> None:
    plain = pipelines.stable_diffusion()
    arguments = {"num_inference_steps": 2, "num_images_per_prompt": 2}
    unchecked = plain(PROMPT, **arguments, generator=seeded()).images
    pipe = checked(pipelines.stable_diffusion(), Checker([False, True]))
    with Tracer(pipe) as tracer:
        pipe(PROMPT, **arguments, **form, generator=seeded())
    passed, replaced = tracer.traces
    assert np.array_equal(passed.image, np.asarray(unchecked[0]))
    assert "image_note" not in passed.meta
    assert not replaced.image.any()
    assert replaced.meta["image_note"] == "the safety checker replaced the decoded image"
    assert np.array_equal(replaced.decoded_image, np.asarray(unchecked[1]))
    assert np.array_equal(replaced.decoded_image, decode(pipe, replaced.latents[-1:])[0])


@pytest.mark.parametrize("build", [pipelines.inpainting, pipelines_joint.flux_inpainting])
def test_a_crop_that_is_pasted_into_the_original(build: Callable[[], Any]) -> None:
    mask = np.zeros((96, 96), np.uint8)
    mask[60:90, 60:90] = 255
    pipe, original = build(), random_image(96, 96)
    arguments = {"image": original, "mask_image": Image.fromarray(mask), "padding_mask_crop": 4, "strength": 1.0}
    with Tracer(pipe) as tracer:
        returned = pipe(PROMPT, **arguments, height=32, width=32, num_inference_steps=2).images[0]
    trace = tracer.trace
    assert np.array_equal(trace.image, np.asarray(returned))
    assert trace.meta["image_note"] == "the pipeline pasted the decoded image into the original"
    left, top, right, bottom = trace.meta["crop"]
    # where the mask is, the returned image is the decoded one in the size of the crop
    pasted = Image.fromarray(trace.decoded_image).resize((right - left, bottom - top), Image.Resampling.LANCZOS)
    inside = (slice(60, 90), slice(60, 90))
    shown = np.asarray(pasted)[60 - top : 90 - top, 60 - left : 90 - left]
    assert np.abs(shown.astype(int) - trace.image[inside]).max() <= 1
    outside = mask == 0
    assert np.abs(trace.image[outside].astype(int) - np.asarray(original)[outside]).max() <= 1
    assert np.abs(trace.decoded_image.astype(int) - decode(pipe, trace.latents[-1:])[0]).max() <= 1


def test_a_watermark() -> None:
    class Marker:
        def apply_watermark(self, images: torch.Tensor) -> torch.Tensor:
            return images + 0.1

    pipe = pipelines.stable_diffusion_xl()
    pipe.watermark = Marker()
    with Tracer(pipe) as tracer:
        returned = pipe(PROMPT, num_inference_steps=2).images[0]
    assert np.array_equal(tracer.trace.image, np.asarray(returned))
    assert tracer.trace.meta["image_note"] == "the pipeline put a watermark on the decoded image"
    assert np.array_equal(tracer.trace.decoded_image, decode(pipe, tracer.trace.latents[-1:])[0])


class Mirrors(StableDiffusionPipeline):
    """A pipeline of the user's own that changes its images, and may return them in a form of its own."""

    form: Callable[[Any], Any] = staticmethod(lambda images: images)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        output: Any = super().__call__(*args, **kwargs)
        images = output.images
        return self.form([image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in images])


def mirrors() -> Any:
    pipe: Any = Mirrors(**pipelines.stable_diffusion().components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_a_pipeline_that_changes_its_images() -> None:
    pipe = mirrors()
    with Tracer(pipe) as tracer:
        returned = pipe(PROMPT, num_inference_steps=2)[0]
    assert np.array_equal(tracer.trace.image, np.asarray(returned))
    assert np.array_equal(tracer.trace.decoded_image, tracer.trace.image[:, ::-1])
    assert tracer.trace.meta["image_note"] == "the pipeline changed the decoded image"


@pytest.mark.parametrize("form", [lambda images: {"path": "a.png"}, lambda images: None, lambda images: images * 3])
def test_output_in_a_form_of_its_own_does_not_end_the_call(form: Callable[[Any], Any]) -> None:
    pipe = mirrors()
    pipe.form = form
    with Tracer(pipe) as tracer:
        pipe(PROMPT, num_inference_steps=2)
    assert "in a form that is not known" in tracer.trace.meta["image_note"]
    assert np.array_equal(tracer.trace.image, decode(pipe, tracer.trace.latents[-1:])[0])


class Fault(Exception):
    pass


@pytest.mark.parametrize("place", ["decode", "check"])
def test_a_call_that_fails_after_its_last_step(place: str) -> None:
    pipe, expected = pipelines.stable_diffusion(), pipelines.stable_diffusion()

    def fail(*args: Any) -> None:
        raise Fault("no")

    checked(pipe, Checker([False]))
    handle = (pipe.vae.decoder if place == "decode" else pipe.safety_checker).register_forward_pre_hook(fail)
    with Tracer(pipe) as tracer:
        with pytest.raises(Fault):
            pipe(PROMPT, num_inference_steps=2, generator=seeded())
        handle.remove()
        again = pipe(PROMPT, num_inference_steps=2, generator=seeded(2)).images[0]
    image = expected(PROMPT, num_inference_steps=2, generator=seeded()).images[0]
    failed, whole = tracer.traces
    assert failed.is_complete
    assert failed.meta["image_note"] == "the pipeline returned no image: it raised Fault"
    assert np.array_equal(failed.image, np.asarray(image))
    assert failed.decoded_image is failed.image
    assert np.array_equal(whole.image, np.asarray(again))
    assert "image_note" not in whole.meta


def test_a_call_that_fails_earlier() -> None:
    pipe = pipelines.stable_diffusion()

    def fail(pipe: Any, index: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        pipe.vae.decode(values["latents"] * 0.1)
        if index == 1:
            raise Fault
        return {}

    with Tracer(pipe) as tracer, pytest.raises(Fault):
        pipe(PROMPT, num_inference_steps=4, callback_on_step_end=fail)
    trace = tracer.trace
    assert len(trace.steps) == 2
    assert "image_note" not in trace.meta
    assert np.array_equal(trace.image, decode(pipe, trace.latents[-1:])[0])


@pytest.mark.parametrize("compact", [False, True])
def test_both_images_are_stored(compact: bool, tmp_path: Path) -> None:
    pipe = checked(pipelines.stable_diffusion(), Checker([True]))
    with Tracer(pipe) as tracer:
        pipe(PROMPT, num_inference_steps=2)
    trace = tracer.trace
    opened = open_trace(trace.save(tmp_path / "run.safetensors", compact=compact))
    assert np.array_equal(opened.image, trace.image)
    assert opened.meta["image_note"] == trace.meta["image_note"]
    if compact:
        assert np.array_equal(opened.decoded_image, opened.frames("prediction")[-1])
    else:
        assert np.array_equal(opened.decoded_image, trace.decoded_image)
        assert np.array_equal(open_trace(opened.save(tmp_path / "again")).decoded_image, trace.decoded_image)
