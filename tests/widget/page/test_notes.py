"""Notes on a run: from Python and from the page, told to every view, kept in the trace and in a saved notebook."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from diffusers import StableDiffusionPipeline

from diffvis_widget.traces import Note
from diffvis_widget.widget.page.notes import MAX_NOTES
from diffvis_widget.wire.packed_run import unpack
from tests.widget.conftest import PROMPT, page

Make = Callable[..., Any]
CIRCLE = {"text": "Here.", "step": 1, "words": [3], "region": [0, 0.25, 0.5, 1]}


@pytest.fixture
def widget(make: Make, shared_pipe: StableDiffusionPipeline) -> Any:
    widget = make(shared_pipe, prompt=PROMPT, seed=7, steps=3)
    _ = widget.trace
    return widget


def sent(widget: Any) -> list[list[Any]]:
    """The notes of each beginning of a run that was sent, in order."""
    widget._session.publisher.flush()
    return [message.content["notes"] for message in widget.wire.of("run")]


def saved(widget: Any) -> list[Any]:
    run = next(message for message in unpack(widget._snapshot) if message.content["type"] == "run")
    return run.content["notes"]


def ask(widget: Any, notes: Any, run: str | None = None, request: int = 5) -> Any:
    """The answer to a page that writes notes."""
    page(widget, {"type": "notes", "id": request, "run": run or widget._outbox.run, "notes": notes})
    return next(message.content for message in widget.wire.messages if message.content.get("id") == request)


def test_python_pins_a_note(widget: Any) -> None:
    words = [index for index, word in enumerate(widget.trace.words) if word.text == "circle"]
    note = widget.note("Look: the circle", step=2, words=["circle"], region=(0, 0, 0.5, 1))
    assert note == Note("Look: the circle", 2, ("circle",), (0, 0, 0.5, 1))
    assert widget.trace.notes == [note]
    expected = [{"text": "Look: the circle", "step": 2, "words": words, "region": (0, 0, 0.5, 1)}]
    assert sent(widget) == [[], expected]
    assert saved(widget) == [{**expected[0], "region": [0, 0, 0.5, 1]}]


def test_the_page_writes_notes(widget: Any) -> None:
    widget.note("An old one")
    assert ask(widget, [CIRCLE])["type"] == "notes"
    assert widget.trace.notes == [Note("Here.", 1, (3,), (0, 0.25, 0.5, 1))]
    assert sent(widget)[-1] == [{**CIRCLE, "region": (0, 0.25, 0.5, 1)}]
    assert ask(widget, [], request=6)["type"] == "notes"
    assert (widget.trace.notes, sent(widget)[-1], saved(widget)) == ([], [], [])


@pytest.mark.parametrize(
    "wrong",
    [
        {**CIRCLE, "text": ""},
        {**CIRCLE, "text": 3},
        {**CIRCLE, "step": 3},
        {**CIRCLE, "step": True},
        {**CIRCLE, "words": [99]},
        {**CIRCLE, "words": [{}]},
        {**CIRCLE, "region": [0, 0, 0, 1]},
        {**CIRCLE, "region": 7},
        {"text": "no more"},
        "a note",
        None,
    ],
    ids=str,
)
def test_an_invalid_note_is_answered_and_nothing_changes(widget: Any, wrong: Any) -> None:
    before = [widget.note("An old one"), widget.note("Another", step=0)]
    answered = ask(widget, [CIRCLE, wrong])
    assert answered["type"] == "error"
    assert answered["message"]
    assert widget.trace.notes == before
    assert len(sent(widget)) == 3


def test_too_many_notes_and_a_run_that_is_gone(widget: Any) -> None:
    assert f"{MAX_NOTES} notes" in ask(widget, [CIRCLE] * (MAX_NOTES + 1))["message"]
    assert "run it again" in ask(widget, [CIRCLE], run="gone", request=6)["message"]
    assert not widget.trace.notes


def test_an_earlier_run_keeps_its_own(widget: Any) -> None:
    first = widget._outbox.run
    widget.note("On the first")
    page(widget, {"type": "run", "prompt": "a blue star"})
    second = widget.trace
    assert not second.notes
    assert ask(widget, [CIRCLE], run=first)["type"] == "notes"
    assert not second.notes
    assert saved(widget) == []
    page(widget, {"type": "show", "run": first})
    assert widget.wait(60)
    assert sent(widget)[-1][0]["text"] == "Here."
    assert saved(widget)[0]["text"] == "Here."


def test_a_run_shown_again_has_notes_that_still_wait_to_be_told(widget: Any) -> None:
    widget.note("An old one")
    first = widget._session.history.runs[0]
    page(widget, {"type": "run", "prompt": "a blue star"})
    _ = widget.trace
    held = threading.Event()
    widget._session.publisher._later(held.wait)
    try:
        ask(widget, [CIRCLE], run=first.id)
        widget._session.publisher.show(first)
    finally:
        held.set()
    assert [note["text"] for note in sent(widget)[-1]] == ["Here."]


def test_errors_of_python_name_what_is_wrong(widget: Any) -> None:
    with pytest.raises(KeyError, match="circle"):
        widget.note("Look", words=["dragon"])
    with pytest.raises(IndexError, match="0 to 2"):
        widget.note("Look", step=3)
    assert not widget.trace.notes


def test_what_a_note_expects_stays_when_the_page_edits_it(widget: Any) -> None:
    widget.note("Add the moon", expects='prompt has "moon"')
    (note,) = sent(widget)[-1]
    assert note["expects"]["conditions"] == [{"kind": "prompt", "phrase": "moon", "present": True}]
    assert ask(widget, [{**note, "text": "Add the moon!"}])["type"] == "notes"
    assert widget.trace.notes == [Note("Add the moon!", expects='prompt has "moon"')]
    assert sent(widget)[-1] == [{**note, "text": "Add the moon!"}]
    refused = ask(widget, [{**note, "expects": {"text": "import os", "conditions": []}}], request=6)
    assert (refused["type"], widget.trace.notes[0].text) == ("error", "Add the moon!")
    assert "expects: at its beginning" in refused["message"]
