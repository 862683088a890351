"""Words dropped in models that keep text or image in places of their own: nothing attends to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diffvis_widget import intervene
from diffvis_widget.tracer import Tracer
from tests import pipelines_dreamlite, pipelines_joyimage, pipelines_kolors, pipelines_omni

CASES = pipelines_joyimage.EDITING | pipelines_dreamlite.FROM_IMAGE | pipelines_kolors.CASES | pipelines_omni.EDITING


@pytest.mark.parametrize(
    "name", ["joyimage-edit", "joyimage-plus", "dreamlite-mobile-edit", "kolors", "z-image-omni-two", "omnigen-two"]
)
def test_nothing_attends_to_a_dropped_word(name: str) -> None:
    pipe = CASES[name].build()

    def generate() -> np.ndarray:
        arguments = {"prompt": "a red circle on grass", "output_type": "np"} | CASES[name].arguments
        torch.manual_seed(0)  # JoyImage and OmniGen encode references without the generator
        return np.asarray(pipe(**arguments, generator=torch.Generator().manual_seed(0)).images)

    with Tracer(pipe, keep="heads") as tracer:
        plain = generate()
    with intervene.on(pipe, intervene.drop("circle")), Tracer(pipe, keep="heads") as dropping:
        changed = generate()
    assert tracer.trace.heat_map("circle").min() > 0
    assert dropping.trace.heat_map("circle").max() == 0
    assert dropping.trace.heat_map("red").mean() > tracer.trace.heat_map("red").mean()
    assert not np.array_equal(plain, changed)
    assert np.array_equal(generate(), plain)
