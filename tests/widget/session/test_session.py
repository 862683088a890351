"""The session outlives whatever goes wrong in it, and nothing slow of somebody else's holds it up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from diffusers import StableDiffusionPipeline

import diffvis_widget as dv
from diffvis_widget.tracer import denoiser_lock
from diffvis_widget.widget.page import requests
from diffvis_widget.widget.session.history import History
from diffvis_widget.widget.session.publisher import Publisher
from tests.traces.build import make_trace
from tests.widget.conftest import PROMPT, SECONDS, Gate, page
from tests.widget.session.test_external_call import call
from tests.widget.session.test_scoring import ColourMeter

Make = Callable[..., Any]
PROMPTLY = 5


class Breaks:
    """A method that raises while ``error`` is set, and counts its calls."""

    def __init__(self, patch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        self.error: BaseException | None = None
        self.calls = 0
        original = getattr(owner, name)

        def method(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            if self.error is not None:
                raise self.error
            return original(*arguments, **options)

        patch.setattr(owner, name, method)


def is_free(pipe: Any) -> bool:
    """Whether no other thread holds the denoiser."""
    lock = denoiser_lock(pipe)
    if not lock.acquire(timeout=PROMPTLY):
        return False
    lock.release()
    return True


def in_time(action: Callable[[], Any]) -> bool:
    """Whether a call in a thread of its own returns promptly."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    thread.join(PROMPTLY)
    return not thread.is_alive()


# -- failures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["settle", "end", "snapshot"])
def test_a_run_that_cannot_be_published_fails_and_the_next_one_runs(
    make: Make, shared_pipe: StableDiffusionPipeline, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    broken = Breaks(monkeypatch, Publisher, method)
    broken.error = RuntimeError("the page is gone")
    widget = make(shared_pipe, prompt=PROMPT, steps=2)
    assert widget.wait(SECONDS)
    assert widget.status == "failed"
    assert "the page is gone" in widget.error
    assert is_free(shared_pipe)
    broken.error = None
    widget.run()
    assert len(widget.trace.steps) == 2
    assert (widget.status, widget.error) == ("done", "")


@pytest.mark.parametrize("error", [SystemExit("enough"), MemoryError("enough"), AssertionError("enough")], ids=repr)
def test_whatever_a_pipeline_raises_ends_in_a_state(
    make: Make, pipe: StableDiffusionPipeline, error: BaseException
) -> None:
    def fail(*_: Any) -> None:
        raise error

    hook = pipe.unet.register_forward_pre_hook(fail)
    widget = make(pipe, prompt=PROMPT, steps=2)
    assert widget.wait(PROMPTLY)
    assert widget.status == "failed"
    assert "enough" in widget.error
    hook.remove()
    widget.run()
    assert len(widget.trace.steps) == 2


def test_an_error_that_cannot_be_printed_is_shown_by_its_name(make: Make, pipe: StableDiffusionPipeline) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError("no words")

    def fail(*_: Any) -> None:
        raise Mute

    pipe.unet.register_forward_pre_hook(fail)
    widget = make(pipe, prompt=PROMPT, steps=2)
    assert widget.wait(PROMPTLY)
    assert widget.status == "failed"
    assert "Mute" in widget.error


def test_a_replay_that_fails_is_tried_once_and_shown(
    make: Make, shared_pipe: StableDiffusionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    widget = make(shared_pipe, prompt=PROMPT, steps=2)
    first = widget.trace
    broken = Breaks(monkeypatch, Publisher, "show")
    broken.error = RuntimeError("the page is gone")
    widget.show(first)
    assert widget.wait(PROMPTLY)
    assert broken.calls == 1
    assert widget.status == "failed"
    assert "the page is gone" in widget.error
    broken.error = None
    widget.show(first)
    assert widget.wait(PROMPTLY)
    assert (widget.status, widget.error) == ("done", "")


@pytest.mark.parametrize(
    ("owner", "method"), [(Publisher, "recorded"), (Publisher, "snapshot"), (History, "add")], ids=str
)
def test_a_recorded_run_that_cannot_be_published_is_tried_once_and_shown(
    make: Make, monkeypatch: pytest.MonkeyPatch, owner: type, method: str
) -> None:
    broken = Breaks(monkeypatch, owner, method)
    broken.error = RuntimeError("the page is gone")
    widget = make(make_trace())
    assert widget.wait(PROMPTLY)
    assert broken.calls == 1
    assert widget.status == "failed"
    assert "the page is gone" in widget.error


def test_an_external_call_that_cannot_be_published_gives_the_denoiser_back(
    make: Make, pipe: StableDiffusionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Breaks(monkeypatch, Publisher, "end")
    broken.error = RuntimeError("the page is gone")
    widget = make(pipe)
    finished: list[Any] = []

    def trace() -> None:
        with dv.Tracer(pipe, view=widget) as tracer:
            call(pipe)
        finished.append(tracer.trace)

    assert in_time(trace)
    assert len(finished) == 1, "the notebook's own call must not fail because the page does"
    assert widget.wait(PROMPTLY)
    assert widget.status == "failed"
    assert is_free(pipe)


def test_a_job_that_raises_anything_ends_in_a_state(
    make: Make, shared_pipe: StableDiffusionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def perform(report: Any) -> Any:
        raise SystemExit("enough")

    monkeypatch.setitem(requests.JOBS, "test", lambda session, task: perform)
    widget = make(shared_pipe)

    def ask() -> dict[str, Any]:
        page(widget, {"type": "job", "id": 1, "task": {"kind": "test"}})
        return widget.wire.messages[-1].content

    pause, reply = threading.Event(), ask()
    for _ in range(1000):
        if reply["state"] not in ("waiting", "running"):
            break
        pause.wait(0.01)
        reply = ask()
    assert reply["state"] == "failed"
    assert "enough" in reply["error"]
    widget.prompt = PROMPT
    widget.run()
    assert widget.wait(SECONDS)
    assert widget.status == "done"


def test_an_observer_that_raises_does_not_end_the_run(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe, steps=2)
    widget.prompt = PROMPT

    def fail(change: Any) -> None:
        raise RuntimeError("an observer of the notebook's own")

    widget.observe(fail, ["status", "progress"])
    widget.run()
    assert widget.wait(SECONDS)
    assert (widget.status, widget.progress) == ("done", 1.0)


# -- nothing foreign under the lock ------------------------------------------------------------------------------------


def test_an_observer_that_blocks_does_not_block_stop(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe, steps=15)
    widget.prompt = PROMPT
    blocked, released = threading.Event(), threading.Event()

    def block(change: Any) -> None:
        if change["new"] == "running":
            blocked.set()
            released.wait(SECONDS)

    widget.observe(block, "status")
    widget.run()
    assert blocked.wait(SECONDS)
    try:
        assert in_time(widget.stop)
        assert in_time(lambda: page(widget, {"type": "stop"}))
        assert in_time(lambda: widget._session.watched)
    finally:
        released.set()
    assert widget.wait(SECONDS)
    assert widget.status == "stopped"


def test_a_slow_encoder_does_not_block_stop(
    make: Make, shared_pipe: StableDiffusionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    widget = make(shared_pipe, prompt=PROMPT, steps=2)
    first = widget.trace
    blocked, released = threading.Event(), threading.Event()
    encode = Publisher.snapshot

    def snapshot(publisher: Publisher) -> bytes:
        blocked.set()
        released.wait(SECONDS)
        return encode(publisher)

    monkeypatch.setattr(Publisher, "snapshot", snapshot)
    widget.show(first)
    assert blocked.wait(SECONDS)
    try:
        assert in_time(widget.stop)
        assert in_time(lambda: widget._session.watched)
    finally:
        released.set()
    assert widget.wait(SECONDS)


def test_the_meter_is_made_once_and_setting_concepts_does_not_wait_for_it(
    make: Make, shared_pipe: StableDiffusionPipeline
) -> None:
    widget = make(shared_pipe, prompt=PROMPT, concepts=["red"], steps=2)
    assert widget.wait(SECONDS)
    scorer = widget._session.publisher.scorer
    making, released = threading.Event(), threading.Event()
    made: list[ColourMeter] = []

    def slow() -> Any:
        making.set()
        released.wait(SECONDS)
        made.append(ColourMeter())
        return made[-1]

    scorer.use(slow, "mean colour")
    loader = threading.Thread(target=scorer.meter, daemon=True)
    loader.start()
    assert making.wait(SECONDS)
    try:
        assert in_time(lambda: setattr(widget, "concepts", ["red", "blue"]))
    finally:
        released.set()
    loader.join(SECONDS)
    widget.run()
    assert widget.wait(SECONDS)
    assert scorer.drain(SECONDS)
    assert scorer.meter() is made[0]
    assert len(made) == 1
    assert widget.wire.of("scores")[-1].content["concepts"] == ["red", "blue"]


def test_a_waiting_observer_sees_the_run_that_it_is_called_for(
    make: Make, pipe: StableDiffusionPipeline, gate: Gate
) -> None:
    """An observer of the status may read the trace: it must not wait for its own return."""
    widget = make(pipe, steps=2)
    widget.prompt = PROMPT
    lengths: list[int] = []

    def look(change: Any) -> None:
        if change["new"] == "done":
            lengths.append(len(widget.trace.steps))

    widget.observe(look, "status")
    gate.let_all()
    widget.run()
    assert widget.wait(SECONDS)
    assert lengths == [2]
