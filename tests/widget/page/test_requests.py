"""The build of the front end renames no field of a message, and the page's requests are all answered by their id."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffusers import StableDiffusionPipeline

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
    widget._session.publisher._flush()
    answered = {
        message.content["id"]: message.content["type"] for message in widget.wire.messages if "id" in message.content
    }
    types = {number: request["type"] for request, number in zip(requests, ids, strict=True)}
    assert answered == {**types, None: "error"}


def test_the_build_renames_no_property() -> None:
    assert "mangle" not in BUILD.read_text(encoding="utf-8")
