"""Copies and pickles of a pipeline that are made inside a Tracer block have none of its hooks."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import numpy as np
import pytest
import torch

from diffvis_widget import Tracer
from diffvis_widget.tracer.hooks import is_watched
from tests import pipelines


def hooks_of(pipe: Any) -> int:
    """How much in the modules and parts of a pipeline intercepts calls."""
    parts = [pipe, *pipe.components.values()]
    modules = [module for part in parts if isinstance(part, torch.nn.Module) for module in part.modules()]
    hooks = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules)
    attributes = [value for owner in [*parts, *modules] for value in getattr(owner, "__dict__", {}).values()]
    watched = sum(map(is_watched, attributes))
    return hooks + watched + sum("__reduce_ex__" in vars(module) for module in modules)


def image_of(pipe: Any) -> np.ndarray:
    return pipe("a cat", num_inference_steps=2, generator=torch.Generator().manual_seed(1), output_type="np").images[0]


def unpickled(pipe: Any) -> Any:
    return pickle.loads(pickle.dumps(pipe))


def saved(pipe: Any) -> Any:
    stream = io.BytesIO()
    torch.save(pipe, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=False)


def of_components(pipe: Any) -> Any:
    return type(pipe)(**copy.deepcopy(pipe.components), requires_safety_checker=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, unpickled, saved, of_components], ids=lambda how: how.__name__)
@pytest.mark.parametrize("make", [pipelines.stable_diffusion], ids=lambda make: make.__name__)
def test_a_copy_made_inside_a_block_has_no_hooks_and_works(make: Any, copied: Any) -> None:
    pipe = make()
    expected = image_of(pipe)
    with Tracer(pipe) as tracer:
        traced = image_of(pipe)
        clone = copied(pipe)
        assert hooks_of(clone) == 0
        np.testing.assert_array_equal(image_of(clone), expected)
    assert hooks_of(pipe) == hooks_of(clone) == 0
    assert len(tracer.traces) == 1
    np.testing.assert_array_equal(traced, expected)
    np.testing.assert_array_equal(image_of(clone), expected)


def test_a_copy_keeps_the_hooks_of_others() -> None:
    pipe = pipelines.stable_diffusion()
    pipe.unet.register_forward_hook(print_nothing)
    with Tracer(pipe):
        clone = copy.deepcopy(pipe)
        image_of(pipe)
    assert list(clone.unet._forward_hooks.values()) == [print_nothing]


def print_nothing(*_: Any) -> None:
    """A hook of somebody else."""


def test_a_pipeline_moved_inside_a_block_is_traced_on() -> None:
    pipe = pipelines.stable_diffusion()
    with Tracer(pipe) as tracer:
        image_of(pipe.to(torch.float64).to(torch.float32))
    assert tracer.trace.is_complete
    assert hooks_of(pipe) == 0
