"""The tiny pipelines do what the real ones do: a finite image of the size asked for, that follows seed and prompt."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.pipelines_dit import FAMILIES

PROMPT = "a red circle above a blue square"
OTHER = "three yellow houses by the sea"


def image(pipe: Any, name: str, prompt: str = PROMPT, seed: int = 7) -> np.ndarray:
    arguments = FAMILIES[name].arguments
    generator = torch.Generator().manual_seed(seed)
    return pipe(prompt=prompt, generator=generator, output_type="np", **arguments).images[0]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_tiny_pipeline_follows_seed_and_prompt(name: str) -> None:
    case = FAMILIES[name]
    pipe = case.build()
    first = image(pipe, name)
    assert first.shape == (case.arguments["height"], case.arguments["width"], 3)
    assert np.isfinite(first).all()
    assert first.std() > 0.02
    assert np.array_equal(image(pipe, name), first)
    assert np.array_equal(image(case.build(), name), first), "two builds are two pipelines"
    for other in (image(pipe, name, prompt=OTHER), image(pipe, name, seed=8)):
        assert np.abs(other - first).max() > 1 / 255
