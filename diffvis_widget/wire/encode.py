"""What a Trace says, as messages for the page."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.traces.selectors import pick_words
from diffvis_widget.widget.session.outbox import Scores, Told
from diffvis_widget.widget.session.sampling import Request, Shot

from . import images as pictures
from . import messages as protocol
from .messages import LayerMap, Message, RequestId, Settings, State, View

if TYPE_CHECKING:
    from diffvis_widget.traces import Trace


def settings_of(request: Request, planned: int, trace: Trace) -> Settings:
    """The settings of a run that the widget started."""
    meta = trace.meta
    return Settings(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt or None,
        seed=request.seed,
        steps=planned,
        guidance_scale=request.guidance_scale,
        schedule=request.schedule,
        schedule_strength=request.schedule_strength,
        scheduler=_name(meta, "scheduler"),
        pipeline=_name(meta, "pipeline"),
        weights=request.present_weights,
    )


def recorded_settings(trace: Trace) -> Settings:
    """The settings of a run that was recorded elsewhere, as far as its trace tells them."""
    meta = trace.meta
    strength = meta.get("schedule_strength")
    seed, guidance, planned = meta.get("seed"), meta.get("guidance_scale"), meta.get("planned_steps")
    return Settings(
        prompt=trace.prompt,
        negative_prompt=trace.negative_prompt,
        seed=seed if isinstance(seed, int) else None,
        steps=max(planned, len(trace.steps)) if isinstance(planned, int) else len(trace.steps),
        guidance_scale=float(guidance) if isinstance(guidance, int | float) else None,
        schedule=str(meta.get("schedule", "uniform")),
        schedule_strength=float(strength) if isinstance(strength, int | float) else 60.0,
        scheduler=_name(meta, "scheduler"),
        pipeline=_name(meta, "pipeline"),
        weights=_weights(meta),
    )


def _name(meta: dict[str, Any], key: str) -> str:
    value = meta.get(key, "")
    return str(value.get("class", "")) if isinstance(value, dict) else str(value)


def _weights(meta: dict[str, Any]) -> dict[str, float | None]:
    """What of a trace's interventions can be said as the weights of words: those in force over the whole run."""
    found: dict[str, float | None] = {}
    listed = meta.get("interventions")
    for told in listed if isinstance(listed, list) else []:
        if not isinstance(told, dict):
            continue
        word, steps = told.get("word"), told.get("steps")
        if told.get("kind") in ("weight", "drop") and isinstance(word, str) and steps in (None, [0, None]):
            found[word.lower()] = told.get("factor")
    return found


def state_of(trace: Trace) -> State:
    """How a recorded run ended, as far as its trace tells."""
    return "done" if trace.is_complete else "stopped"


def stored_scores(trace: Trace) -> Scores | None:
    """The concept scores that the trace holds, as the page gets them."""
    found = trace.scores
    if found is None:
        return None
    share = found.share if len(found.concepts) > 1 else None
    return Scores(found.concepts, found.cosine, found.null_band, share, found.emergence, found.meter or None)


def notes_of(trace: Trace) -> list[dict[str, Any]]:
    """The trace's notes for the page, their words as indices."""
    return [
        {
            "text": note.text,
            "step": note.step,
            "words": pick_words(trace.words, list(note.words)) if note.words else [],
            "region": note.region,
        }
        for note in trace.notes
    ]


def with_notes(run: Message, trace: Trace) -> Message:
    """The message that begins a run, with the notes that its trace has by now."""
    return Message({**run.content, "notes": notes_of(trace)}, run.buffers)


def views_of(trace: Trace) -> list[View]:
    """The pictures that every step of ``trace`` can show."""
    return [view for view in protocol.VIEWS if trace.has_frames(view)]


def maps_of(trace: Trace, step: int) -> NDArray[np.float32]:
    """The word maps of a step (words, h, w); without any cell where the pipeline's attention could not be read."""
    if not trace.layers:
        return np.empty((len(trace.words), 0, 0), dtype=np.float32)
    return trace.heat_maps(step=step)


def told_of(run: str, trace: Trace, unknown: Collection[str], meter: str | None) -> Told:
    """A whole recorded run; decodes the pictures that ``trace`` does not hold yet."""
    views = views_of(trace)
    predictions = trace.frames("prediction") if "prediction" in views else None
    noisy = trace.frames("latents") if "latents" in views else None
    size = (0, 0) if predictions is None else (predictions.shape[1], predictions.shape[2])
    steps: dict[int, Message] = {}
    for index, step in enumerate(trace.steps):
        prediction = None if predictions is None else predictions[index]
        shot = Shot(step, prediction, None if noisy is None else noisy[index], exact=True)
        steps[index] = step_message(run, trace, shot, 0.0)
    begun = run_message(run, trace, recorded_settings(trace), unknown, size, views, meter)
    image = pictures.png(trace.image) if predictions is not None and trace.is_complete else None
    end = protocol.end_message(run, state_of(trace), len(steps), 0.0, None, image)
    return Told(begun, steps, stored_scores(trace), end)


def run_message(
    run: str,
    trace: Trace,
    settings: Settings,
    unknown: Collection[str],
    image: tuple[int, int],
    views: Sequence[View],
    meter: str | None,
) -> Message:
    pieces = [word.token_texts if word.kind == "word" else () for word in trace.words]
    _, height, width = maps_of(trace, 0).shape
    size = (height, width)
    told = protocol.run_message(run, settings, trace.words, pieces, unknown, size, image, trace.layers, views, meter)
    return with_notes(told, trace)


def layers_message(run: str, request: RequestId, trace: Trace, step: int, word: int, heads: bool = True) -> Message:
    """A word's maps of one step, layer by layer, head by head where the trace has heads and they are wanted.

    Raises:
        IndexError: there is no such step or word.
        ValueError: the trace has no layers.
    """
    if not trace.layers:
        raise ValueError("the attention of this pipeline cannot be read, so there are no layers to show")
    if not 0 <= word < len(trace.words):
        raise IndexError(f"word {word} is out of range: this run has words 0 to {len(trace.words) - 1}")
    maps: list[LayerMap] = []
    for index, layer in enumerate(trace.layers):
        parts = range(layer.heads) if trace.keep == "heads" and heads else (None,)
        maps += [LayerMap(layer.name, head, trace.heat_maps(step=step, layer=index, head=head)[word]) for head in parts]
    return protocol.layers_message(run, request, step, word, maps)


def step_message(run: str, trace: Trace, shot: Shot, elapsed: float) -> Message:
    """One step with its pictures encoded and its word maps."""
    images: dict[View, bytes] = {}
    if shot.prediction is not None:
        largest = pictures.LARGEST if shot.exact else pictures.LATENTS_LARGEST
        images["prediction"] = pictures.webp(shot.prediction, largest)
    if shot.latents is not None:
        images["latents"] = pictures.webp(shot.latents, pictures.LATENTS_LARGEST, 70)
    guidance = trace.records[shot.step.index].guidance
    span = None
    if guidance is not None:
        span = (float(np.min(guidance)), float(np.max(guidance)))
        images["guidance"] = pictures.grey(guidance, *span)
    maps = maps_of(trace, shot.step.index)
    return protocol.step_message(run, shot.step, maps, images, span, shot.exact, elapsed)
