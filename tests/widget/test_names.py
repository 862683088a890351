"""The build shortens names that only the page's own code uses: none of them may be that of a field of a message."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from diffusers import StableDiffusionPipeline

from diffvis_widget.widget.widget import DiffVis
from tests.widget.conftest import PROMPT, page

BUILD = Path(__file__).parent.parent.parent / "js" / "build.mjs"


def fields(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inside in value.items():
            yield name
            yield from fields(inside)
    elif isinstance(value, list | tuple):
        for inside in value:
            yield from fields(inside)


def test_no_field_of_a_message_is_renamed(make: Callable[..., Any], shared_pipe: StableDiffusionPipeline) -> None:
    found = re.search(r"const OURS = `([^`]*)`", BUILD.read_text(encoding="utf-8"))
    assert found is not None
    ours = set(found[1].split())
    widget = make(shared_pipe, prompt=PROMPT, concepts=["circle"], seed=7, steps=2)
    first = widget._stream.run if widget.trace else None
    widget.note("Look", step=1, words=["circle"], region=(0, 0, 1, 1))
    page(widget, {"type": "run", "prompt": "a star", "seed": 1})
    assert widget.trace.prompt == "a star"
    run = widget._stream.run
    asked = [
        {"type": "layers", "run": run, "step": 0, "word": 1},
        {"type": "runs"},
        {"type": "packed", "run": run},
        {"type": "compare", "a": first, "b": run},
        {"type": "notes", "run": run, "notes": [{"text": "Look", "step": 0, "words": [], "place": None}]},
        {"type": "more"},
    ]
    for index, question in enumerate(asked):
        page(widget, {**question, "id": index})
    page(widget, {"type": "nonsense", "id": 99})
    widget._session.teller._flush()
    answered = {
        message.content["id"]: message.content["type"] for message in widget.wire.messages if "id" in message.content
    }
    assert answered == {**{index: question["type"] for index, question in enumerate(asked)}, None: "error"}
    used = {name for message in widget.wire.messages for name in fields(message.content)}
    used |= {name for question in asked for name in fields(question)} | set(DiffVis.class_traits(sync=True))
    assert {"words", "text", "place", "emergence", "distance"} & used
    assert not used & ours
