"""Pipelines whose words cannot be followed: everything else is traced, and one warning says what is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from diffvis_widget.tracer import Tracer
from diffvis_widget.tracer import trace as make_trace
from diffvis_widget.tracer.preview import decode
from tests.pipelines_dit import FAMILIES

REDUCED = ["kandinsky22"]


def unconditional() -> Any:
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=8,
        block_out_channels=(8,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        norm_num_groups=4,
    )
    pipe: Any = DDPMPipeline(unet, DDPMScheduler())
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("name", ["unconditional", *REDUCED])
def test_images_and_predictions_are_traced(name: str) -> None:
    pipe = unconditional() if name == "unconditional" else FAMILIES[name].build()
    text = {"prompt": "a red circle"}
    arguments = {"num_inference_steps": 3} if name == "unconditional" else {**text, **FAMILIES[name].arguments}
    plain = pipe(**arguments, output_type="np", generator=torch.Generator().manual_seed(0)).images
    with pytest.warns(UserWarning, match=r"without word maps.*add-a-family\.md") as seen, Tracer(pipe) as tracer:
        images = pipe(**arguments, output_type="np", generator=torch.Generator().manual_seed(0)).images
    assert len([warning for warning in seen if "word maps" in str(warning.message)]) == 1
    assert np.array_equal(plain, images)
    trace = tracer.trace
    assert trace.layers == []
    assert len(trace.latents) == len(trace.steps) + 1
    frames = trace.frames("prediction")
    assert frames.shape[1:] == trace.image.shape
    assert np.abs(decode(pipe, trace.latents[-1:])[0].astype(int) - trace.image).max() <= 1
    assert np.abs(trace.image - np.round(images[0] * 255)).max() <= 1
    with pytest.raises(ValueError, match="no attention to words"):
        trace.heat_maps()


def test_the_prompt_is_kept_where_it_is_known() -> None:
    name = REDUCED[0]
    pipe = FAMILIES[name].build()
    with pytest.warns(UserWarning, match="without word maps"):
        trace = make_trace(pipe, "a red circle", seed=1, **FAMILIES[name].arguments)
    assert trace.prompt == "a red circle"
