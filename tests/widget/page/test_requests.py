"""Every request of the page is answered, once, with its own id, whatever goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from diffusers import StableDiffusionPipeline

from diffvis_widget.widget.session.history import History
from tests.widget.conftest import PROMPT, page

BUILD = Path(__file__).parents[3] / "js" / "build.mjs"


def test_every_request_is_answered_by_its_id(make: Callable[..., Any], shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe, prompt=PROMPT, concepts=["circle"], seed=7, steps=2)
    first = widget._outbox.run if widget.trace else None
    page(widget, {"type": "run", "prompt": "a star", "seed": 1})
    assert widget.trace.prompt == "a star"
    run = widget._outbox.run
    requests = [
        {"type": "layers", "run": run, "step": 0, "word": 1},
        {"type": "runs"},
        {"type": "packed", "run": run},
        {"type": "compare", "a": first, "b": run},
        {"type": "notes", "run": run, "notes": [{"text": "Look", "step": 0, "words": [], "region": None}]},
        {"type": "more"},
    ]
    ids = [2**52 + index for index in range(len(requests))]  # the page starts at a random number of this size
    for request, number in zip(requests, ids, strict=True):
        page(widget, {**request, "id": number})
    page(widget, {"type": "nonsense", "id": 99})
    widget._session.publisher.flush()
    answered = {
        message.content["id"]: message.content["type"] for message in widget.wire.messages if "id" in message.content
    }
    types = {number: request["type"] for request, number in zip(requests, ids, strict=True)}
    assert answered == {**types, 99: "error"}


def test_the_build_renames_no_property() -> None:
    assert "mangle" not in BUILD.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"), KeyError("no"), IndexError("no"), OSError("no"), TypeError("no"), RuntimeError("no"),
        ZeroDivisionError("no"), MemoryError("no"), AssertionError("no"), ImportError("no"), NotImplementedError("no"),
    ],
    ids=repr,
)  # fmt: skip
def test_a_request_that_fails_is_answered_with_its_id(
    make: Callable[..., Any], shared_pipe: StableDiffusionPipeline, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    widget = make(shared_pipe)

    def fail(history: History, run: str) -> None:
        raise error

    monkeypatch.setattr(History, "find", fail)
    page(widget, {"type": "packed", "id": 7, "run": "r"})
    reply = widget.wire.messages[-1].content
    assert (reply["type"], reply["id"]) == ("error", 7)
    assert "no" in reply["message"]


@pytest.mark.parametrize(
    "content", [{"type": "nonsense"}, {"type": "layers", "run": 7}, {}, {"type": ["runs"]}], ids=str
)
def test_a_malformed_request_is_answered_with_its_id(
    make: Callable[..., Any], shared_pipe: StableDiffusionPipeline, content: dict[str, Any]
) -> None:
    widget = make(shared_pipe)
    page(widget, {**content, "id": "view-3"})
    reply = widget.wire.messages[-1].content
    assert (reply["type"], reply["id"]) == ("error", "view-3")
    assert "does not know this message" in reply["message"]


@pytest.mark.parametrize("number", [0, 7, -3, 2**52 + 1, "7", "page-1/view-2:7", "é" * 128])
def test_the_id_may_be_any_number_or_short_text(
    make: Callable[..., Any], shared_pipe: StableDiffusionPipeline, number: int | str
) -> None:
    widget = make(shared_pipe)
    page(widget, {"type": "runs", "id": number})
    reply = widget.wire.messages[-1].content
    assert (reply["type"], reply["id"]) == ("runs", number)
    assert type(reply["id"]) is type(number)


@pytest.mark.parametrize("number", [None, True, 1.5, 2**53, -(2**53), 10**400, "", "x" * 129, [7], {"id": 7}], ids=repr)
def test_an_id_that_is_none_is_refused(
    make: Callable[..., Any], shared_pipe: StableDiffusionPipeline, number: Any
) -> None:
    widget = make(shared_pipe)
    page(widget, {"type": "runs", "id": number})
    reply = widget.wire.messages[-1].content
    assert (reply["type"], reply["id"]) == ("error", None)
    assert "id" in reply["message"]
    assert len(reply["message"]) < 300
