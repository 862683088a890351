"""Job that a page asks for: what it is told of it, how it ends, and who goes first."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from diffvis_widget.widget.page import requests as answers
from diffvis_widget.widget.session.jobs import JobResult, ReportProgress
from diffvis_widget.widget.widget import DiffVis
from tests.widget.conftest import page

TASK = {"kind": "test"}


class Held:
    """A job that goes on step by step, as the test lets it."""

    def __init__(self) -> None:
        self.began, self.go_on = threading.Event(), threading.Event()
        self.ended = threading.Event()

    def __call__(self, report: ReportProgress) -> JobResult:
        try:
            report(0.5)
            self.began.set()
            assert self.go_on.wait(30)
            report(0.75)
            return JobResult({"answer": 42}, (b"bytes",))
        finally:
            self.ended.set()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    held = Held()
    monkeypatch.setitem(answers.JOBS, "test", lambda session, task: held)
    return held


def ask(widget: Any, task: dict[str, Any] | None = None, kind: str = "job") -> dict[str, Any]:
    page(widget, {"type": kind, "id": 1, "task": task or TASK})
    return widget.wire.messages[-1].content


def until_over(widget: Any) -> dict[str, Any]:
    reply = ask(widget)
    pause = threading.Event()
    while reply["state"] in ("waiting", "running"):
        pause.wait(0.01)
        reply = ask(widget)
    return reply


def test_a_job_reports_while_it_runs_and_gives_its_result_once(
    make: Callable[..., DiffVis], shared_pipe: Any, held: Held
) -> None:
    widget: Any = make(shared_pipe)
    assert ask(widget)["state"] in ("waiting", "running")
    assert held.began.wait(30)
    going = ask(widget)
    assert (going["state"], going["progress"], going["id"]) == ("running", 0.5, 1)
    assert going["seconds_left"] is not None
    held.go_on.set()
    done = until_over(widget)
    assert (done["state"], done["progress"], done["answer"]) == ("done", 1, 42)
    assert widget.wire.messages[-1].buffers == (b"bytes",)
    held.began.clear()
    assert ask(widget)["state"] in ("waiting", "running")  # asked anew it is done anew
    assert held.began.wait(30)


def test_a_cancelled_job_ends_at_its_next_report(make: Callable[..., DiffVis], shared_pipe: Any, held: Held) -> None:
    widget = make(shared_pipe)
    ask(widget)
    assert held.began.wait(30)
    assert ask(widget, kind="cancel") == {"type": "cancel", "id": 1, "seq": 1}
    held.go_on.set()
    assert until_over(widget)["state"] == "canceled"


def test_a_run_cancels_a_job_and_goes_first(make: Callable[..., DiffVis], pipe: Any, held: Held) -> None:
    widget = make(pipe, steps=2)
    ask(widget)
    assert held.began.wait(30)
    widget.prompt = "a red circle"
    widget.run()
    held.go_on.set()
    assert len(widget.trace.steps) == 2
    assert until_over(widget)["state"] == "canceled"


def test_a_closed_widget_ends_a_job(make: Callable[..., DiffVis], shared_pipe: Any, held: Held) -> None:
    widget = make(shared_pipe)
    ask(widget)
    assert held.began.wait(30)
    widget.close()
    held.go_on.set()
    assert held.ended.wait(30)


def test_a_job_that_fails_says_why_and_can_be_asked_for_again(
    make: Callable[..., DiffVis], shared_pipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def perform(report: ReportProgress) -> JobResult:
        raise error

    monkeypatch.setitem(answers.JOBS, "test", lambda session, task: perform)
    widget = make(shared_pipe)
    error: Exception = KeyError("no word 'cat'")
    assert until_over(widget)["error"] == "no word 'cat'"
    error = ZeroDivisionError("one of our own")
    reply = until_over(widget)
    assert (reply["state"], reply["error"]) == ("failed", "ZeroDivisionError: one of our own")


def test_an_unknown_kind_is_refused(make: Callable[..., DiffVis], shared_pipe: Any) -> None:
    widget = make(shared_pipe)
    refused = ask(widget, {"kind": "magic"})
    assert refused["type"] == "error"
    assert refused["id"] == 1
    assert "kind must be one of" in refused["message"]
    assert "'magic'" in refused["message"]
