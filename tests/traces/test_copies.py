"""Traces are pickled, copied and deep-copied: live ones, and those opened from whole and compact files."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import diffvis_widget as dv
from tests import pipelines


@pytest.fixture(scope="module")
def live() -> dv.Trace:
    trace = dv.trace(pipelines.stable_diffusion(), "a cat", seed=1, num_inference_steps=2)
    trace.note("Look here", step=1)
    return trace


def unpickled(trace: dv.Trace) -> dv.Trace:
    return pickle.loads(pickle.dumps(trace))


COPIES: list[Callable[[Any], Any]] = [copy.copy, copy.deepcopy, unpickled]


@pytest.mark.parametrize("copied", COPIES, ids=lambda how: how.__name__)
@pytest.mark.parametrize("source", ["live", "whole", "compact"])
def test_a_copy_holds_what_the_trace_holds(live: dv.Trace, source: str, copied: Any, tmp_path: Path) -> None:
    trace = live
    if source != "live":
        trace = dv.open_trace(live.save(tmp_path / "t.dvt", compact=source == "compact"))
    trace.image  # noqa: B018 - decoded before it is copied
    clone = copied(trace)
    np.testing.assert_array_equal(clone.image, trace.image)
    np.testing.assert_array_equal(clone.heat_map("cat"), trace.heat_map("cat"))
    assert clone.steps == trace.steps
    assert clone.notes == trace.notes
    clone.note("only in the copy")
    assert len(clone.notes) == len(trace.notes) + 1
    if source != "compact":
        np.testing.assert_array_equal(clone.latents, trace.latents)


def test_a_pickled_trace_says_that_its_pipeline_stayed_behind(live: dv.Trace) -> None:
    clone = unpickled(dv.trace(pipelines.stable_diffusion(), "a cat", seed=1, num_inference_steps=1))
    with pytest.raises(ValueError, match="no pipeline to decode latents: it was opened from a file without frames, or"):
        clone.frames("latents")
    with pytest.raises(ValueError, match="no live pipeline: it was opened from a file, copied or pickled"):
        dv.explain.df_cam(clone, 0)


def test_a_deep_copy_still_decodes(live: dv.Trace) -> None:
    np.testing.assert_array_equal(copy.deepcopy(live).frames("latents"), live.frames("latents"))


def test_the_repr_of_a_long_prompt_is_short(live: dv.Trace) -> None:
    clone = copy.copy(live)
    clone.prompt = "a red circle " * 1000
    assert len(repr(clone)) < 120
