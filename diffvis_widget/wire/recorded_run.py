"""A run that is over, as all that the page has to be told of it: for the offline page and for a compact file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from diffvis_widget.shipped import is_scenes_model
from diffvis_widget.widget.session.run import Run

from . import encode
from .messages import Message

if TYPE_CHECKING:
    from diffvis_widget.traces import Trace

Layers = bool | Literal["heads"]


def run_of(trace: Trace, name: str = "recorded") -> Run:
    """The run of a trace, with all that there is to tell of it."""
    run = Run(None, id=name, trace=trace, state=encode.state_of(trace))
    meter = None if trace.scores is None else trace.scores.meter or None
    run.told = encode.told_of(name, trace, unknown_words(trace), meter)
    return run


def messages_of(trace: Trace) -> list[Message]:
    """The run's messages in order: run, steps, scores where there are some, end."""
    told = run_of(trace).told
    return [] if told is None else told.messages()


def layer_messages(run: Run, layers: Layers) -> Iterator[Message]:
    """What the page would be answered if it asked for the layers of every typed word at every step.

    layers: True for the mean over the heads of each layer, "heads" for every head where the trace has them.
    Raises ValueError for a trace without maps of single layers.
    """
    trace = run.trace
    if not layers or trace is None or not trace.layers:
        return
    words = [index for index, word in enumerate(trace.words) if word.kind == "word" and word.tokens]
    for step in range(len(trace.steps)):
        for word in words:
            yield encode.layers_message(run.id, 0, trace, step, word, heads=layers == "heads")


def unknown_words(trace: Trace) -> set[str]:
    """Words of the prompt that the model never saw; known of the scenes model only."""
    from diffvis_widget import scenes

    is_scenes = is_scenes_model(trace.meta.get("fingerprint"))
    return set(scenes.unknown_words(trace.prompt)) if is_scenes else set()
