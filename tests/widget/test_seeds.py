"""Several seeds in a queue, and a draft before a run: the latest request wins, and Stop empties the queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline

import diffvis_widget as dv
from diffvis_widget.widget.session.run import RunFailed
from tests.widget.conftest import PROMPT, SECONDS, Gate, page

Make = Callable[..., Any]


def test_seeds_are_those_of_single_runs(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe, prompt=PROMPT, seed=3, steps=2)
    traces = widget.seeds(3)
    assert [trace.meta["seed"] for trace in traces] == [3, 4, 5]
    single = dv.trace(shared_pipe, PROMPT, seed=4, num_inference_steps=2)
    np.testing.assert_array_equal(traces[1].latents, single.latents)
    assert (widget.seed, widget.status) == (5, "done")
    assert widget.history[-3:] == traces
    assert widget._sheet == [run.id for run in widget._session.history.runs[-3:]]


def test_stop_ends_the_run_and_those_behind_it(make: Make, pipe: StableDiffusionPipeline, gate: Gate) -> None:
    widget = make(pipe, steps=2, prompt=None)
    widget.prompt = PROMPT
    page(widget, {"type": "run", "seeds": 4})
    gate.let(2)  # the first run is over, the second one stands before its first step
    gate.until_held()
    page(widget, {"type": "stop"})
    gate.let_all()
    assert widget.wait(SECONDS)
    assert (widget.status, [len(trace.steps) for trace in widget.history]) == ("stopped", [2, 1])
    calls = gate.calls
    widget.run()
    assert widget.wait(SECONDS)
    assert gate.calls - calls == 2


def test_a_run_takes_the_place_of_seeds_that_wait(make: Make, pipe: StableDiffusionPipeline, gate: Gate) -> None:
    widget = make(pipe, steps=2, prompt=None)
    widget.prompt = PROMPT
    page(widget, {"type": "run", "seeds": 4})
    gate.until_held()
    page(widget, {"type": "run", "seed": 77})
    gate.let_all()
    assert widget.wait(SECONDS)
    assert widget.trace.meta["seed"] == 77
    assert [trace.meta["seed"] for trace in widget.history if len(trace.steps) == 2] == [77]


def test_a_failed_seed_ends_the_others(make: Make, pipe: StableDiffusionPipeline) -> None:
    calls = []

    def fail(*_: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise ValueError("no third call")

    pipe.unet.register_forward_pre_hook(fail)
    widget = make(pipe, steps=2, prompt=None)
    widget.prompt = PROMPT
    with pytest.raises(RunFailed, match="no third call"):
        widget.seeds(3)
    assert len(calls) == 3
    assert widget.status == "failed"


@pytest.mark.parametrize(("n", "error"), [(0, ValueError), (10, ValueError), (2.5, TypeError), (True, TypeError)])
def test_other_numbers_of_seeds_are_refused(
    make: Make, shared_pipe: StableDiffusionPipeline, n: Any, error: type[Exception]
) -> None:
    widget = make(shared_pipe, prompt=None)
    with pytest.raises(error, match="n must be"):
        widget.seeds(n)
    widget.seed = 2**53 - 2
    with pytest.raises(ValueError, match="the last of 4 seeds"):
        widget.seeds(4)
    assert widget.history == []


def test_a_draft_of_eight_steps_comes_first(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe, prompt=None, steps=12)
    widget.prompt = PROMPT
    runs = widget.start(draft=True)
    assert widget.wait(SECONDS)
    assert [(run.steps, run.part) for run in runs] == [(8, "draft"), (12, "")]
    assert [len(trace.steps) for trace in widget.history] == [12]
    assert (len(widget.trace.steps), widget.steps) == (12, 12)


@pytest.mark.parametrize("traits", [{"steps": 8}, {"steps": 12, "schedule": "late"}])
def test_short_runs_and_those_with_a_schedule_have_no_draft(
    make: Make, pipe: StableDiffusionPipeline, gate: Gate, traits: dict[str, Any]
) -> None:
    widget = make(pipe, prompt=None, **traits)
    widget.prompt = PROMPT
    assert [(run.request.steps, run.part) for run in widget.start(draft=True)] == [(traits["steps"], "")]
    widget.stop()
    gate.let_all()
    assert widget.wait(SECONDS)


def test_a_stopped_draft_stays_as_a_run(make: Make, pipe: StableDiffusionPipeline, gate: Gate) -> None:
    widget = make(pipe, steps=12, prompt=None)
    widget.prompt = PROMPT
    page(widget, {"type": "run", "draft": True, "guidance_scale": 3.0})
    gate.let(2)
    page(widget, {"type": "stop"})
    gate.let_all()
    assert widget.wait(SECONDS)
    assert widget.status == "stopped"
    assert [trace.meta["planned_steps"] for trace in widget.history] == [8]
