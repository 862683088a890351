"""A page may send anything. Each message costs the kernel little time and memory, and the widget goes on working."""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from diffusers import StableDiffusionPipeline

from diffvis_widget.widget.page.limits import MAX_CHARACTERS, MAX_DEPTH, MAX_VALUES, check_message
from diffvis_widget.widget.page.notes import MAX_WORDS
from diffvis_widget.widget.page.requests import JOBS, REQUESTS
from diffvis_widget.widget.session.jobs import WAITING, JobQueue
from diffvis_widget.widget.session.outbox import CAP, MAX_MESSAGES, MAX_WAITING, Outbox
from diffvis_widget.wire.packed_run import Message
from tests.widget.conftest import PROMPT, page

SECONDS = 2.0  # of the processor, for one message
MEMORY = 64 * 2**20  # that 1,000 messages may leave behind


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


def hostile_values(run: str) -> list[Any]:
    return [
        None, True, -1, 0, 1, 2**31, 2**53, 2**63, 10**400, 0.5, float("nan"), float("inf"), 1e308, "", run, "red",
        "\ud800", "x" * 5000, "x" * 3_000_000, [], [1], [[]], [0] * 5000, ["red"] * 5000, [0] * 1_000_000, {}, {"a": 1},
        {str(number): number for number in range(50_000)}, nested(5), nested(900), nested(100_000), [None] * 300,
        {"kind": "export", "what": "png", "run": run},
        [{"text": "x", "step": 0, "words": [0] * 5000, "region": None}] * 200,
        [{"text": f"x{number}", "step": 0, "words": ["red"] * 250, "region": None} for number in range(200)],
    ]  # fmt: skip


def messages(run: str, count: int, rng: random.Random) -> list[Any]:
    """Messages of every kind whose fields are right, missing, or anything."""
    values = hostile_values(run)
    view = {"step": 0, "words": [1], "view": "prediction", "opacity": 0.5, "shared_scale": True}
    right: dict[str, Any] = {
        "run": run, "a": run, "b": run, "step": 0, "word": 1, "kind": "notes", "notes": [], "view": view, "seq": 0,
        "have": [0], "prompt": "a", "steps": 1,
    }  # fmt: skip
    tasks = [{"kind": kind, "run": run, "what": "png", "method": "df_cam", "word": "red", "to": "blue", "seeds": 1,
              "schedule": "", **view} for kind in JOBS]  # fmt: skip
    kinds = [*REQUESTS, "hello", "ack", "show", "stop"]
    made: list[Any] = []
    for number in range(count):
        kind = kinds[number % len(kinds)]
        content: dict[Any, Any] = {**right, "task": dict(rng.choice(tasks)), "type": kind, "id": number}
        if kind in ("job", "cancel") and rng.random() < 0.7:
            content["task"][rng.choice(sorted(content["task"]))] = rng.choice(values)
        for name in rng.sample(sorted(content), rng.choice([0, 1, 1, 2])):
            if rng.random() < 0.2:
                del content[name]
            else:
                content[name] = rng.choice(values)
        made.append(rng.choice(values) if rng.random() < 0.03 else content)
    return made


def test_a_thousand_hostile_messages_cost_little_time_and_memory(
    make: Callable[..., Any], shared_pipe: StableDiffusionPipeline
) -> None:
    widget = make(shared_pipe, prompt=PROMPT, steps=2, seed=1)
    trace = widget.trace
    run = widget._outbox.run
    rng = random.Random(5)
    cases = messages(run, 1000, rng)
    page(widget, {"type": "source_code", "id": 1, "run": run, "view": {}})  # what is imported on first use
    widget.wire.messages.clear()
    sent = 0
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number, content in enumerate(cases):
            began = time.thread_time()
            page(widget, content)
            took = time.thread_time() - began
            assert took < SECONDS, (number, str(content)[:200])
            sent += sum(message.size for message in widget.wire.messages)
            widget.wire.messages.clear()
            assert widget._outbox.in_flight < 2 * CAP
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < MEMORY
    assert sent > 0
    widget._session.jobs.cancel_all()
    page(widget, {"type": "hello", "run": None, "have": []})
    widget.wire.messages.clear()
    page(widget, {"type": "runs", "id": 4711})
    assert [message.content["id"] for message in widget.wire.of("runs")][-1:] == [4711], "it still answers"
    assert trace is widget.history[-1]


def test_hostile_traits_are_refused_in_little_time(
    make: Callable[..., Any], shared_pipe: StableDiffusionPipeline
) -> None:
    widget = make(shared_pipe)
    for name in ("prompt", "concepts", "weights", "selected", "seed", "overlay", "step"):
        for value in hostile_values("r"):
            began = time.thread_time()
            widget.set_state({name: value})
            assert time.thread_time() - began < SECONDS, (name, str(value)[:80])
    assert len(widget.prompt) <= 10_000
    assert len(widget.concepts) <= 256


@pytest.mark.parametrize(
    "content",
    [
        [0] * (MAX_VALUES + 1),
        [[0] * 200] * 200,
        {"a": "x" * (MAX_CHARACTERS + 1)},
        {"x" * (MAX_CHARACTERS + 1): 0},
        ["x" * 1000] * 1001,
        nested(MAX_DEPTH),
        {"a": {"b": [2**64]}},
        {str(number): 0 for number in range(MAX_VALUES)},
    ],
    ids=range(8),
)
def test_a_message_over_a_limit_is_refused(content: Any) -> None:
    with pytest.raises(ValueError, match="a message of the page has"):
        check_message(content)


def test_a_message_with_buffers_is_refused() -> None:
    with pytest.raises(ValueError, match="no binary buffers"):
        check_message({}, [b"x"])
    check_message({"type": "hello", "run": None, "have": list(range(1000))}, [])
    check_message({"type": "notes", "notes": [{"text": "x" * 4000, "words": [0] * 10}] * 200})


def test_notes_are_bounded_and_refused_as_a_whole(
    make: Callable[..., Any], shared_pipe: StableDiffusionPipeline
) -> None:
    widget = make(shared_pipe, prompt=PROMPT, steps=2)
    trace = widget.trace
    trace.note("kept")
    note = {"text": "x", "step": 0, "words": ["red"] * 100, "region": None}
    page(widget, {"type": "notes", "id": 1, "run": widget._outbox.run, "notes": [note] * (MAX_WORDS // 100 + 1)})
    assert "2000 words in all" in widget.wire.of("error")[-1].content["message"]
    assert [left.text for left in trace.notes] == ["kept"]


class Unread:
    """A page that receives and never acknowledges."""

    def __init__(self) -> None:
        self.received: list[Message] = []
        self.outbox = Outbox(lambda content, buffers: self.received.append(Message(content, tuple(buffers))), 3000)

    def ask(self, number: int, size: int = 300) -> None:
        self.outbox.reply(Message({"type": "reply", "id": number}, (b"x" * size,)))


def test_replies_wait_for_acknowledgements_and_come_in_order() -> None:
    unread = Unread()
    for number in range(6):
        unread.ask(number, size=250)
    assert len(unread.received) < 6
    for seq in range(6):
        unread.outbox.acknowledge(seq)
    assert [message.content["id"] for message in unread.received] == list(range(6))
    assert {message.content["type"] for message in unread.received} == {"reply"}
    assert unread.outbox.in_flight == 0


def test_a_page_that_never_acknowledges_gets_errors_and_then_nothing() -> None:
    unread = Unread()
    for number in range(5000):
        unread.ask(number)
    replies = [message for message in unread.received if message.content["type"] == "reply"]
    errors = [message for message in unread.received if message.content["type"] == "error"]
    assert sum(message.size for message in replies) < 4000
    assert all("has not acknowledged" in message.content["message"] for message in errors)
    assert len(unread.received) <= MAX_MESSAGES
    assert len(unread.outbox._waiting) <= MAX_WAITING


def test_a_page_that_comes_back_gets_the_replies_that_waited() -> None:
    unread = Unread()
    for number in range(5):
        unread.ask(number)
    assert len(unread.received) < 5
    unread.outbox.hello(None, [])
    assert [message.content["id"] for message in unread.received] == list(range(5))


def test_a_large_reply_is_sent_when_nothing_is_on_its_way() -> None:
    unread = Unread()
    unread.ask(1, size=100_000)
    assert unread.received[0].content["id"] == 1


def test_only_so_many_jobs_wait() -> None:
    queue = JobQueue(lambda: None)
    for number in range(WAITING):
        queue.ask({"kind": "x", "number": number}, lambda task: lambda report: None)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="jobs are waiting or running already"):
        queue.ask({"kind": "x", "number": -1}, lambda task: lambda report: None)  # pyright: ignore[reportArgumentType]
    assert queue.ask({"kind": "x", "number": 0}, lambda task: lambda report: None)  # pyright: ignore[reportArgumentType]
    queue.cancel({"kind": "x", "number": 0})
    queue.ask({"kind": "x", "number": -1}, lambda task: lambda report: None)  # pyright: ignore[reportArgumentType]
