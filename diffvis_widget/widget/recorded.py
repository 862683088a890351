"""A run that is over, as all that the page has to be told of it: for the offline page and for a compact file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from diffvis_widget.widget import encode, pictures, protocol
from diffvis_widget.widget.protocol import Message
from diffvis_widget.widget.sampling import Shot

if TYPE_CHECKING:
    from diffvis_widget.traces import Trace

RUN = "recorded"
Layers = bool | Literal["heads"]


def messages_of(trace: Trace, run: str = RUN) -> list[Message]:
    """The run's messages in order: run, steps, scores where there are some, end."""
    views = encode.views_of(trace)
    predictions = trace.frames("prediction") if "prediction" in views else None
    noisy = trace.frames("latents") if "latents" in views else None
    size = (0, 0) if predictions is None else (predictions.shape[1], predictions.shape[2])
    meter = None if trace.scores is None else trace.scores.meter
    settings = encode.recorded_settings(trace)
    found = [encode.run_message(run, trace, settings, unknown_words(trace), size, views, meter)]
    for index, step in enumerate(trace.steps):
        picture = None if predictions is None else predictions[index]
        shot = Shot(step, picture, None if noisy is None else noisy[index], exact=True)
        found.append(encode.step_message(run, trace, shot, 0.0))
    if (scores := encode.stored_scores(trace)) is not None:
        found.append(scores.message(run, 0))
    picture = None if predictions is None or not trace.is_complete else pictures.png(trace.image)
    found.append(protocol.end_message(run, encode.state_of(trace), len(trace.steps), 0.0, None, picture))
    return found


def layer_messages(trace: Trace, layers: Layers, run: str = RUN) -> Iterator[Message]:
    """What the page would be answered if it asked for the layers of every typed word at every step.

    layers: True for the mean over the heads of each layer, "heads" for every head where the trace has them.
    Raises ValueError for a trace without maps of single layers.
    """
    if not layers or not trace.layers:
        return
    words = [index for index, word in enumerate(trace.words) if word.kind == "word" and word.tokens]
    for step in range(len(trace.steps)):
        for word in words:
            yield encode.layers_message(run, 0, trace, step, word, heads=layers == "heads")


def unknown_words(trace: Trace) -> set[str]:
    """Words of the prompt that the model never saw; known of the scenes model only."""
    from diffvis_widget import scenes

    ours = scenes.fingerprint()
    is_scenes = ours is not None and trace.meta.get("fingerprint") == ours
    return set(scenes.unknown_words(trace.prompt)) if is_scenes else set()
