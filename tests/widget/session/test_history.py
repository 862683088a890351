"""The runs that a widget keeps: which, how many, and that they can be shown again as they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline

from diffvis_widget.widget.session.history import History
from diffvis_widget.widget.session.run import Run
from diffvis_widget.wire import images
from diffvis_widget.wire.messages import RunPayload
from diffvis_widget.wire.packed_run import Message, dequantise, unpack
from tests.traces.build import make_trace
from tests.widget.conftest import PROMPT, SECONDS, Gate, page

Make = Callable[..., Any]


def run_of(trace: Any) -> Run:
    return Run(None, trace=trace)


def test_the_newest_are_kept() -> None:
    history = History(runs=3)
    runs = [run_of(make_trace()) for _ in range(5)]
    for run in runs:
        history.add(run)
        history.add(run)
    assert history.runs == runs[2:]
    assert history.find(runs[3].id) is runs[3]
    with pytest.raises(ValueError, match="not in the kernel any more"):
        history.find(runs[0].id)


def test_the_newest_is_kept_however_large_and_others_while_they_fit() -> None:
    size = run_of(make_trace()).nbytes
    history = History(limit=2 * size + 1)
    for _ in range(4):
        history.add(run_of(make_trace()))
    assert len(history.runs) == 2
    tiny = History(limit=1)
    tiny.add(run_of(make_trace()))
    assert len(tiny.runs) == 1


def test_decoded_frames_and_encoded_messages_count() -> None:
    first, second = run_of(make_trace()), run_of(make_trace())
    size = first.nbytes
    history = History(limit=2 * size)
    for run in (first, second):
        history.add(run)
    history.trim()
    assert history.runs == [first, second]
    frame = np.zeros((8, 12, 3), np.uint8)
    assert first.trace is not None
    first.trace.keep_frame("prediction", 0, frame)
    assert first.nbytes == size + frame.nbytes
    history.trim()
    assert history.runs == [second]
    grown = run_of(make_trace())
    grown.payload = RunPayload(Message({}), {0: Message({}, (bytes(1000),))}, None, None)
    assert grown.nbytes > size + 1000
    tight = History(limit=2 * size)
    for run in (grown, second):
        tight.add(run)
    assert tight.runs == [second]


def test_the_page_gets_the_list_and_shows_an_earlier_run_as_it_was(
    make: Make, shared_pipe: StableDiffusionPipeline
) -> None:
    widget = make(shared_pipe, prompt=PROMPT, seed=7, steps=3)
    first = widget.trace
    page(widget, {"type": "run", "prompt": "a blue star", "seed": 9, "steps": 2})
    second = widget.trace
    assert [trace is stored for trace, stored in zip((first, second), widget.history, strict=True)] == [True, True]
    page(widget, {"type": "runs", "id": 5})
    (answer,) = widget.wire.of("runs")
    entries = answer.content["runs"]
    assert [(e["prompt"], e["seed"], e["steps"], e["state"]) for e in entries] == [
        (PROMPT, 7, 3, "done"),
        ("a blue star", 9, 2, "done"),
    ]
    assert [images.read(image).size for image in answer.buffers] == [(32, 32), (32, 32)]
    del widget.wire.messages[:]
    page(widget, {"type": "show", "run": entries[0]["run"]})
    assert widget.wait(SECONDS)
    assert widget.wire.types()[0] == "run"
    assert sorted(widget.wire.types()[1:]) == ["end", "step", "step", "step"]
    assert widget.wire.of("run")[0].content["prompt"] == PROMPT
    assert (widget.prompt, widget.seed, widget.steps, widget.status) == (PROMPT, 7, 3, "done")
    assert widget.trace is first
    assert unpack(widget._snapshot)[0].content["prompt"] == PROMPT
    page(widget, {"type": "layers", "id": 6, "run": entries[1]["run"], "step": 0, "word": 1})
    assert widget.wire.of("layers")[0].content["run"] == entries[1]["run"]
    widget.show(second)
    assert widget.wait(SECONDS)
    assert (widget.prompt, widget.trace is second) == ("a blue star", True)
    assert len(widget.history) == 2


def test_a_kept_run_comes_packed_whole(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe, prompt=PROMPT, steps=2)
    assert widget.wait(SECONDS)
    (run,) = widget._session.history.runs
    page(widget, {"type": "packed", "id": 2, "run": run.id})
    (answer,) = widget.wire.of("packed")
    packed = unpack(answer.buffers[0])
    assert [message.content["type"] for message in packed] == ["run", "step", "step", "end"]
    maps = packed[1].content["maps"]
    maps_sent = dequantise(packed[1].buffers[len(packed[1].content["views"])], maps["shape"], maps["scales"])
    assert np.abs(maps_sent - widget.trace.heat_maps(step=0)).max() < 0.01


def test_a_run_that_is_not_kept_is_refused(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe, prompt=PROMPT, steps=1)
    assert widget.wait(SECONDS)
    page(widget, {"type": "packed", "id": 2, "run": "gone"})
    page(widget, {"type": "show", "run": "gone"})
    assert [("not in the kernel" in m.content["message"], m.content["id"]) for m in widget.wire.of("error")] == [
        (True, 2),
        (True, None),
    ]
    with pytest.raises(ValueError, match=r"widget\.history"):
        widget.show(make_trace())


def test_an_earlier_run_is_not_shown_during_a_run(make: Make, pipe: StableDiffusionPipeline, gate: Gate) -> None:
    widget = make(pipe, prompt=PROMPT, steps=1)
    gate.until_held()
    gate.free.release()
    first = widget.trace
    widget.run()
    gate.until_held()
    with pytest.raises(RuntimeError, match="a run is in progress"):
        widget.show(first)
    assert widget.prompt == PROMPT
    gate.let_all()
    assert widget.trace is not first


def test_a_stopped_run_is_kept_and_a_run_without_a_step_is_not(
    make: Make, pipe: StableDiffusionPipeline, gate: Gate
) -> None:
    widget = make(pipe, prompt=PROMPT, steps=8)
    gate.until_held()
    gate.let(1)
    widget.stop()
    gate.let_all()
    assert widget.wait(SECONDS)
    widget.stop()
    assert [len(trace.steps) for trace in widget.history] == [2]
    widget.steps = 5
    widget.show(widget.history[0])
    assert widget.wait(SECONDS)
    assert (widget.status, widget.steps) == ("stopped", 8)
