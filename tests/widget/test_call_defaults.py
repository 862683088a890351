"""The widget runs a pipeline with the pipeline's own number of steps and guidance scale."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

import diffvis_widget as dv
from tests import pipelines_joint, pipelines_unet
from tests.widget.conftest import PROMPT, SECONDS, page

Make = Callable[..., Any]


@pytest.mark.parametrize(
    ("build", "steps", "guidance"),
    [(pipelines_unet.latent_consistency, 4, 8.5), (pipelines_joint.flux, 28, 3.5)],
    ids=["latent consistency", "flux"],
)
def test_without_settings_widget_trace_and_pipeline_make_the_same_image(
    make: Make, build: Any, steps: int, guidance: float
) -> None:
    pipe = build()
    widget = make(pipe, prompt=PROMPT, seed=3, height=32, width=32)
    assert (widget.steps, widget.guidance_scale) == (steps, guidance)
    plain = pipe(PROMPT, height=32, width=32, generator=torch.Generator("cpu").manual_seed(3)).images[0]
    assert np.array_equal(widget.trace.image, np.asarray(plain))
    assert np.array_equal(dv.trace(pipe, PROMPT, seed=3, height=32, width=32).image, np.asarray(plain))
    begun = widget.wire.of("run")[0].content
    assert (begun["steps"], begun["guidance_scale"]) == (steps, guidance)


def test_the_scenes_model_has_its_defaults_before_it_is_loaded(make: Make) -> None:
    widget = make()
    assert (widget.steps, widget.guidance_scale) == (30, 7.5)


def test_a_pipeline_that_is_loaded_by_its_name_sets_what_nobody_set(
    make: Make, shared_pipe: StableDiffusionPipeline, tmp_path: Path
) -> None:
    shared_pipe.save_pretrained(tmp_path / "model")
    widget = make(str(tmp_path / "model"), guidance_scale=3)
    assert widget.wait(SECONDS)
    assert (widget.steps, widget.guidance_scale) == (50, 3.0)


def test_a_run_that_waits_for_its_pipeline_gets_the_defaults_too(
    make: Make, shared_pipe: StableDiffusionPipeline, tmp_path: Path
) -> None:
    shared_pipe.save_pretrained(tmp_path / "model")
    widget = make(str(tmp_path / "model"), prompt=PROMPT, steps=2)
    assert widget.wait(SECONDS)
    assert (widget.steps, widget.guidance_scale) == (2, 7.5)
    assert widget.wire.of("run")[0].content["guidance_scale"] == 7.5


def test_none_means_the_default_again(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe, steps=2, guidance_scale=1)
    assert (widget.steps, widget.guidance_scale) == (2, 1.0)
    widget.steps = widget.guidance_scale = None
    assert (widget.steps, widget.guidance_scale) == (50, 7.5)
    widget = make(shared_pipe, steps=None, guidance_scale=None)
    assert (widget.steps, widget.guidance_scale) == (50, 7.5)


def test_a_pipeline_without_guidance_runs_without_it(make: Make) -> None:
    pipe = pipelines_joint.qwen_image()
    widget = make(pipe, steps=2, height=32, width=32)
    assert widget.guidance_scale is None
    page(widget, {"type": "run", "prompt": PROMPT, "seed": 3, "steps": 2, "guidance_scale": None})
    assert widget.wait(SECONDS)
    plain = pipe(
        PROMPT, height=32, width=32, num_inference_steps=2, generator=torch.Generator("cpu").manual_seed(3)
    ).images[0]
    assert np.array_equal(widget.trace.image, np.asarray(plain))
    assert widget.wire.of("run")[0].content["guidance_scale"] is None


@pytest.mark.parametrize("setting", [{"guidance_scale": 3.0}, {"negative_prompt": "dark"}], ids=str)
def test_a_setting_that_the_pipeline_would_ignore_is_refused(
    make: Make, shared_pipe: StableDiffusionPipeline, setting: dict[str, Any]
) -> None:
    class Plain(type(shared_pipe)):
        def __call__(self, prompt: Any = None, num_inference_steps: int = 2, generator: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
            return super().__call__(prompt, num_inference_steps=num_inference_steps, generator=generator)

    pipe = Plain(**shared_pipe.components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    says = f"Plain takes no {next(iter(setting))}: leave it"
    with pytest.raises(ValueError, match=says):
        make(pipe, prompt=PROMPT, **setting)
    widget = make(pipe)
    for name, value in setting.items():
        setattr(widget, name, value)
    with pytest.raises(ValueError, match=says):
        widget.run()
    page(widget, {"type": "run", **setting})
    assert says in widget.wire.of("error")[0].content["message"]
