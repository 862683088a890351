"""Weights of words in runs of the widget, and a recorded run beside the current one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline
from traitlets import TraitError

import diffvis_widget as dv
from diffvis_widget.widget.widget import DiffVis
from diffvis_widget.wire.packed_run import unpack
from tests.traces.build import make_trace
from tests.widget.conftest import PROMPT, SECONDS, page, seen

Make = Callable[..., Any]


def test_weights_are_the_interventions_of_the_run(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe, prompt=PROMPT, seed=7, steps=3, weights={"Red": 2, "square": None, "boat": 3})
    assert widget.weights == {"red": 2.0, "square": None, "boat": 3.0}
    weighted = dv.trace(
        shared_pipe,
        PROMPT,
        seed=7,
        num_inference_steps=3,
        interventions=[dv.intervene.weight("red", 2), dv.intervene.drop("square")],
    )
    assert np.array_equal(widget.trace.latents, weighted.latents)
    assert widget.wire.of("run")[0].content["weights"] == {"red": 2.0, "square": None}
    page(widget, {"type": "run", "weights": {}})
    plain = dv.trace(shared_pipe, PROMPT, seed=7, num_inference_steps=3)
    assert np.array_equal(widget.trace.latents, plain.latents)
    assert not np.array_equal(plain.latents, weighted.latents)


def test_a_shown_run_brings_its_weights_back(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe, prompt=PROMPT, steps=1, weights={"red": 0})
    first = widget.trace
    widget.weights = {}
    widget.run()
    assert widget.wait(SECONDS)
    widget.show(first)
    assert widget.wait(SECONDS)
    assert widget.weights == {"red": 0.0}
    recorded = make(first)
    assert recorded.wait(SECONDS)
    assert recorded.weights == {"red": 0.0}


@pytest.mark.parametrize(
    "weights",
    [
        {"red": float("nan")},
        {"red": "2"},
        {"red": True},
        {"red": 1e9},
        {"": 1},
        {3: 1},
        [("red", 2)],
        "red",
        {"red": []},
    ],
)
def test_invalid_weights_are_refused(make: Make, shared_pipe: StableDiffusionPipeline, weights: Any) -> None:
    widget = make(shared_pipe)
    with pytest.raises(TraitError, match=r'weights must be a dict of words and factors .* such as \{"red": 1\.5'):
        widget.weights = weights
    page(widget, {"type": "run", "prompt": PROMPT, "weights": weights})
    assert (widget.weights, widget.prompt, widget.status) == ({}, "", "idle")


def test_a_recorded_run_is_shown_beside_the_current_one(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    old = dv.trace(shared_pipe, PROMPT, seed=5, num_inference_steps=2)
    widget = make(shared_pipe, prompt="a blue star", steps=2, compare=old)
    assert widget.wait(SECONDS)
    assert widget._comparison_run
    page(widget, {"type": "runs", "id": 1})
    (answer,) = widget.wire.of("runs")
    assert [(e["run"] == widget._comparison_run, e["prompt"], e["seed"]) for e in answer.content["runs"]] == [
        (True, PROMPT, 5),
        (False, "a blue star", 0),
    ]
    page(widget, {"type": "packed", "id": 2, "run": widget._comparison_run})
    packed = unpack(widget.wire.of("packed")[0].buffers[0])
    assert [message.content["type"] for message in packed] == ["run", "step", "step", "end"]
    widget.compare(None)
    assert (widget._comparison_run, len(widget.history)) == ("", 1)


def test_the_page_gets_the_numbers_of_two_runs(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe, prompt="a red circle", seed=7, steps=3)
    old = widget.trace
    page(widget, {"type": "run", "prompt": "a blue circle"})
    new = widget.trace
    first, second = (run.id for run in widget._session.history.runs)
    page(widget, {"type": "compare", "id": 4, "a": first, "b": second})
    reply = widget.wire.of("compare")[0].content
    comparison = dv.compare(old, new)
    assert (reply["id"], reply["align"], reply["steps"]) == (4, "index", [[0, 0], [1, 1], [2, 2]])
    assert reply["distance"] == pytest.approx(comparison.distance.tolist(), abs=1e-4)
    assert (reply["divergence_step"], reply["threshold"]) == (comparison.divergence_step, comparison.threshold)
    replaced = [word for word in reply["words"] if word["change"] == "replaced"]
    assert [(old.words[word["a"]].text, new.words[word["b"]].text) for word in replaced] == [("red", "blue")]
    assert np.shape(reply["maps"]) == comparison.maps.shape
    page(widget, {"type": "run", "steps": 5})
    assert widget.wait(SECONDS)
    third = widget._session.history.runs[-1].id
    page(widget, {"type": "compare", "id": 5, "a": first, "b": third})
    reply = widget.wire.of("compare")[-1].content
    assert (reply["align"], len(reply["steps"])) == ("noise", 3)
    page(widget, {"type": "compare", "id": 6, "a": first, "b": "gone"})
    assert widget.wire.of("error")[-1].content["id"] == 6


def test_two_recorded_runs_without_images(make: Make) -> None:
    widget = make(make_trace(), compare=make_trace())
    assert widget.wait(SECONDS)
    assert seen(widget, "_comparison_run", bool).is_set()
    assert len(widget.history) == 2


def test_only_a_trace_can_be_compared(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    with pytest.raises(TypeError, match=r"compare takes a Trace, .* got 'run\.safetensors'"):
        DiffVis(shared_pipe, compare="run.safetensors")  # pyright: ignore[reportArgumentType]
    widget = make(shared_pipe)
    with pytest.raises(TypeError, match="compare takes a Trace"):
        widget.compare(3)
