"""A finished run as the messages that the page needs: for the replay, the offline page and the compact file."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from diffvis_widget.traces import ConceptScores, Trace

from . import images
from .messages import RunPayload, State, StepImages, end_message
from .packed_run import Message
from .replies import layer_maps, layers_message
from .trace_messages import (
    image_note_of,
    recorded_settings,
    scores_payload,
    state_of,
    traced_run_message,
    traced_step_message,
    views_of,
)
from .video_messages import shown_frames, with_video

Layers = bool | Literal["heads"]


@dataclass(frozen=True)
class RecordedRun:
    """A finished run with its messages.

    Attributes:
        id: its id on the page.
        trace: its trace.
        state: how it ended.
        payload: all its messages.
    """

    id: str
    trace: Trace
    state: State
    payload: RunPayload

    @property
    def steps(self) -> int:
        """Number of finished steps."""
        return len(self.trace.steps)


def record(
    trace: Trace, name: str = "recorded", unknown: Collection[str] = (), scores: ConceptScores | None = None
) -> RecordedRun:
    """Makes a run of a trace.

    Args:
        trace: the trace, with one finished step at least.
        name: id of the run.
        unknown: words (lower case) that the model never saw in training.
        scores: its concept scores, where the trace stores none.

    Returns:
        The run; frames that the trace does not hold yet are decoded.
    """
    shown = scores if trace.scores is None else trace.scores
    payload = run_payload(name, trace, unknown, None if shown is None else shown.meter or None)
    return RecordedRun(name, trace, state_of(trace), replace(payload, scores=scores_payload(shown)))


def run_payload(run: str, trace: Trace, unknown: Collection[str], meter: str | None) -> RunPayload:
    """Builds all messages of a recorded run.

    Args:
        run: id of the run.
        trace: its trace; frames that it does not hold yet are decoded.
        unknown: words (lower case) that the model never saw in training.
        meter: name of the concept meter.

    Returns:
        The messages.
    """
    views = views_of(trace)
    size, steps = (0, 0), dict[int, Message]()
    for index, shown in enumerate(recorded_images(trace)):
        size = (0, 0) if shown.prediction is None else shown.prediction.shape[-3:-1]
        steps[index] = traced_step_message(run, trace, shown, 0.0)
    begin = traced_run_message(run, trace, recorded_settings(trace), unknown, size, views, meter)
    image = images.png(trace.image) if "prediction" in views and trace.is_complete else None
    end = with_video(end_message(run, state_of(trace), len(steps), 0.0, None, image, image_note_of(trace)), trace)
    return RunPayload(begin, steps, scores_payload(trace.scores), end)


def recorded_images(trace: Trace) -> Iterator[StepImages]:
    """Takes the images of each step of a recorded run; those that the trace does not hold yet are decoded.

    Args:
        trace: the trace.

    Yields:
        The images of each step; of a video, one for each latent frame.
    """
    views = views_of(trace)
    if trace.frame_count == 1:  # decoded several at a time
        for kind in ("prediction", "latents"):
            if kind in views:
                trace.frames(kind)
    for index, step in enumerate(trace.steps):
        prediction = trace.frame("prediction", index) if "prediction" in views else None
        latents = trace.frame("latents", index) if "latents" in views else None
        if trace.frame_count > 1:
            prediction = None if prediction is None else shown_frames(trace, prediction)
            latents = None if latents is None else shown_frames(trace, latents)
        yield StepImages(step, prediction, latents, exact=True)


def layer_messages(run: RecordedRun, layers: Layers) -> Iterator[Message]:
    """Builds the replies to all requests for layer maps: those of every typed word at every step.

    Args:
        run: the run.
        layers: True for the mean over the heads of each layer, "heads" for every head where the trace has them, False
            for nothing.

    Yields:
        One layers message per step and word.

    Raises:
        ValueError: the trace has no maps of single layers.
    """
    trace = run.trace
    if not layers or not trace.layers:
        return
    words = [index for index, word in enumerate(trace.words) if word.kind == "word" and word.tokens]
    for step in range(len(trace.steps)):
        for word in words:
            maps = layer_maps(trace, step, word, heads=layers == "heads")
            yield layers_message(run.id, 0, step, word, maps)
