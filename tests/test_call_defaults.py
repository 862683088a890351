"""Where the caller says nothing, the widget, `dv.trace` and the pipeline's own call do the same."""

from __future__ import annotations

from typing import Any

import pytest
from diffusers import StableDiffusionPipeline

import diffvis_widget as dv
from diffvis_widget.call_defaults import CallDefaults, call_defaults, call_parameters
from tests import pipelines, pipelines_chat, pipelines_joint, pipelines_unet


class Passing(StableDiffusionPipeline):
    """Passes on what it does not name, as community pipelines do."""

    def __call__(self, prompt: Any = None, num_inference_steps: int = 3, **kwargs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().__call__(prompt, num_inference_steps=num_inference_steps, **kwargs)


class Everything(Passing):
    """Names nothing at all."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)


def subclassed(pipeline_class: type[StableDiffusionPipeline]) -> Any:
    pipe = pipeline_class(**pipelines.stable_diffusion().components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize(
    ("build", "steps", "guidance"),
    [
        (pipelines.stable_diffusion, 50, 7.5),
        (pipelines.stable_diffusion_xl, 50, 5.0),
        (pipelines_unet.latent_consistency, 4, 8.5),
        (pipelines_joint.stable_diffusion_3, 28, 7.0),
        (pipelines_joint.flux, 28, 3.5),
        (pipelines_joint.qwen_image, 50, None),
        (pipelines_chat.chroma, 35, 5.0),
        (lambda: subclassed(Passing), 3, 7.5),
        (lambda: subclassed(Everything), 3, 7.5),
        (dv.load, 30, 7.5),
    ],
    ids=["sd", "sdxl", "lcm", "sd3", "flux", "qwen", "chroma", "passes on", "names nothing", "scenes"],
)
def test_the_defaults_are_those_of_the_pipeline(build: Any, steps: int, guidance: float | None) -> None:
    assert call_defaults(build()) == CallDefaults(steps, guidance)


def test_a_subclass_takes_what_its_base_takes() -> None:
    parameters = call_parameters(subclassed(Everything))
    assert {"prompt", "height", "negative_prompt", "num_inference_steps"} <= set(parameters)
    assert not {"self", "args", "kwargs"} & set(parameters)


def test_no_defaults_are_invented_for_another_kind_of_object() -> None:
    assert call_defaults(object()) == CallDefaults(None, None)


def test_a_trace_of_the_scenes_model_has_thirty_steps() -> None:
    assert len(dv.trace(dv.load(), "a red circle", seed=1, keep="words").steps) == 30
