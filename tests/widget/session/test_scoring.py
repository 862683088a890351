"""Concept scores while a run goes on, with a meter whose numbers can be worked out by hand."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray

from diffvis_widget.concepts import emergence
from diffvis_widget.widget.session import scoring
from diffvis_widget.wire.packed_run import unpack
from tests.widget.conftest import PROMPT, SECONDS, Gate, page

Make = Callable[..., Any]
CHANNELS = {"red": 0, "green": 1, "blue": 2}


class ColourMeter:
    """A meter that scores a colour by the mean of its channel: a meter is anything that has these three."""

    label = "mean colour"

    def __init__(self) -> None:
        self.frames = 0
        self.batches: list[int] = []

    def scores(
        self, frames: NDArray[np.uint8], concepts: Sequence[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.frames += len(frames)
        self.batches.append(len(frames))
        means = frames.mean(axis=(1, 2)) / 255
        cosine = means[:, [CHANNELS[name] for name in concepts]].reshape(len(frames), len(concepts))
        return cosine.astype(np.float32), np.tile(np.array([0.1, 0.2], np.float32), (len(frames), 1))

    def share(self, cosine: NDArray[np.float32]) -> NDArray[np.float32]:
        weights = np.exp(cosine)
        return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def table(widget: Any, run: str) -> tuple[list[str], np.ndarray, list[Any]]:
    """What a page knows after all score messages of a run."""
    concepts: list[str] = []
    rows: list[list[float]] = []
    rising: list[Any] = []
    for message in widget.wire.of("scores"):
        content = message.content
        if content["run"] != run:
            continue
        if content["concepts"] != concepts:
            concepts, rows = content["concepts"], []
        rows[content["start"] :] = content["cosine"]
        rising = content["emergence"]
    return concepts, np.array(rows), rising


def test_every_step_is_scored_once_from_its_exact_image(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    meter = ColourMeter()
    widget = make(shared_pipe, prompt=PROMPT, concepts=["red", "blue"], seed=1, steps=5, meter=meter)
    trace = widget.trace
    expected, null = ColourMeter().scores(trace.frames("prediction"), ["red", "blue"])
    concepts, cosine, rising = table(widget, widget.wire.of("run")[0].content["run"])
    assert concepts == ["red", "blue"]
    assert np.abs(cosine - expected).max() < 1e-5
    assert meter.frames == 5
    steps = [None if np.isnan(step) else int(step) for step in emergence(expected, null)]
    assert rising == steps
    last = widget.wire.of("scores")[-1].content
    assert last["meter"] == "mean colour"
    assert widget.wire.of("run")[0].content["meter"] == "mean colour"
    saved = [m for m in unpack(widget._snapshot) if m.content["type"] == "scores"]
    assert len(saved) == 1
    assert np.abs(np.array(saved[0].content["cosine"]) - expected).max() < 1e-5
    assert np.allclose(np.array(saved[0].content["share"]).sum(axis=1), 1, atol=1e-4)


def test_scores_arrive_while_the_run_goes_on_and_emergence_only_at_its_end(
    make: Make, pipe: StableDiffusionPipeline, gate: Gate
) -> None:
    widget = make(pipe, prompt=PROMPT, concepts=["red"], steps=4, meter=ColourMeter())
    arrived = threading.Event()
    widget.observe_scores(lambda scores: arrived.set())
    gate.until_held()
    gate.let(1)
    assert arrived.wait(SECONDS)
    live = widget.wire.of("scores")[0].content
    assert (live["start"], live["emergence"], live["share"]) == (0, [None], None)
    gate.let_all()
    assert widget.wait(SECONDS)


def test_images_of_a_quick_run_are_scored_together_but_for_the_first_and_the_last(
    make: Make, shared_pipe: StableDiffusionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "QUICK_STEP", np.inf)  # this machine may be busy
    meter = ColourMeter()
    widget = make(shared_pipe, prompt=PROMPT, concepts=["red"], steps=9, meter=meter)
    assert widget.wait(SECONDS)
    assert meter.batches[0] == 1
    assert all(batch >= scoring.LIVE_BATCH for batch in meter.batches[1:-1])
    assert sum(meter.batches) == 9
    expected, _ = ColourMeter().scores(widget.trace.frames("prediction"), ["red"])
    np.testing.assert_allclose(widget.trace.scores.cosine, expected, rtol=1e-6)


def test_each_image_of_a_slow_run_is_scored_when_it_comes(
    make: Make, pipe: StableDiffusionPipeline, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "QUICK_STEP", 0.0)
    widget = make(pipe, prompt=PROMPT, concepts=["red"], steps=4, meter=ColourMeter())
    rows: queue.Queue[int] = queue.Queue()
    widget.observe_scores(lambda scores: rows.put(len(scores.cosine)))
    gate.until_held()
    for step in range(1, 4):
        gate.let(1)
        assert rows.get(timeout=SECONDS) == step
    gate.let_all()
    assert widget.wait(SECONDS)


def test_concepts_can_change_at_any_time(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe, prompt=PROMPT, concepts=["red"], steps=3, meter=ColourMeter())
    assert widget.wait(SECONDS)
    run = widget.wire.of("run")[0].content["run"]
    for concepts in (["green", "red"], [], ["blue"]):
        widget.set_state({"concepts": concepts})
        widget._session.publisher.scorer.drain(SECONDS)
        concepts_on_page, cosine, _ = table(widget, run)
        assert concepts_on_page == concepts
        assert cosine.shape == (3, len(concepts))


def test_a_page_that_comes_back_gets_all_scores(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe, prompt=PROMPT, concepts=["red"], steps=3, meter=ColourMeter())
    assert widget.wait(SECONDS)
    sent = len(widget.wire.messages)
    page(widget, {"type": "hello", "view": "v", "run": None, "have": []})
    again = [message for message in widget.wire.messages[sent:] if message.content["type"] == "scores"]
    assert [(message.content["start"], len(message.content["cosine"])) for message in again] == [(0, 3)]


def test_a_meter_that_breaks_does_not_end_the_run(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe, prompt=PROMPT, concepts=["mauve"], steps=3, meter=ColourMeter())
    assert widget.wait(SECONDS)
    assert widget.status == "done"
    assert widget.wire.of("scores") == []
    assert widget._notice == "The concepts cannot be measured: 'mauve'"
    widget.concepts = ["red"]
    widget._session.publisher.scorer.drain(SECONDS)
    assert widget._notice == ""
    assert len(widget.wire.of("scores")[-1].content["cosine"]) == 3


def test_without_a_meter_nothing_is_scored(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe, prompt=PROMPT, concepts=["red"], steps=2)
    assert widget.wait(SECONDS)
    assert widget.wire.of("run")[0].content["meter"] is None
    assert widget.wire.of("scores") == []
