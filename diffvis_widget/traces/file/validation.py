"""What was found out about a run must be about that run: seen to before it is written, and after it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from diffvis_widget.traces.results.relevance import WordRelevance
from diffvis_widget.traces.selectors import pick_words

if TYPE_CHECKING:
    from diffvis_widget.traces.trace import Trace


def check_additions(trace: Trace) -> None:
    """Raise ValueError, or KeyError for a word, unless notes, scores, saliency and relevance belong to the trace."""
    steps = len(trace.records)
    for note in trace.notes:
        if note.step is not None and note.step >= steps:
            raise ValueError(f"notes: {note.text[:40]!r} is about step {note.step}, and the steps are 0 to {steps - 1}")
        pick_words(trace.words, list(note.words)) if note.words else None
    for one in trace.saliency:
        if one.step >= steps or one.map.ndim != 2:
            raise ValueError(
                f"saliency: a map of {one.method} is of step {one.step} and shape {one.map.shape}; it must be (h, w) "
                f"of a step from 0 to {steps - 1}"
            )
    for one in trace.relevance:
        _check_relevance(one, trace)
    scores = trace.scores
    if scores is None:
        return
    count = len(scores.concepts)
    expected = {"cosine": (steps, count), "share": (steps, count), "null_band": (steps, 2), "emergence": (count,)}
    for name, shape in expected.items():
        if (found := getattr(scores, name).shape) != shape or not count:
            raise ValueError(f"scores: {name} is {found}, and this trace of {steps} steps needs {shape}")


def _check_relevance(one: WordRelevance, trace: Trace) -> None:
    steps, words = len(one.timesteps), len(trace.words)
    named = f"relevance under {one.schedule!r}"
    if one.timesteps.ndim != 1 or one.raw.shape != (steps, words) or not one.raw.size:
        raise ValueError(
            f"{named}: raw is {one.raw.shape} and timesteps {one.timesteps.shape}; with the {words} words of this "
            f"trace they must be (T, {words}) and (T,), T at least 1"
        )
    if one.maps is not None and (one.maps.ndim != 4 or one.maps.shape[:2] != one.raw.shape or not one.maps.size):
        raise ValueError(f"{named}: maps is {one.maps.shape} and must be {one.raw.shape} and a height and a width")
    if not np.isfinite(one.timesteps).all():
        raise ValueError(f"{named}: timesteps must be finite")
    own = one.schedule == str(trace.meta.get("schedule", "uniform"))
    if own and not np.array_equal(one.timesteps, trace.timesteps):
        raise ValueError(
            f"{named} is of another run: that is the schedule of this trace, whose {len(trace.records)} steps have "
            "other timesteps"
        )
