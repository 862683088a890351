"""The messages of a run, taken from its trace: while it runs, and after it was opened from a file."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.traces import ConceptScores, Trace
from diffvis_widget.traces.expectations import word_weights
from diffvis_widget.traces.noise import lacks_noise_levels
from diffvis_widget.traces.selectors import pick_words
from diffvis_widget.traces.types import Size

from . import images
from .messages import (
    VIEWS,
    RunRequest,
    RunSettings,
    ScoresPayload,
    State,
    StepImages,
    View,
    run_message,
    step_message,
)
from .packed_run import Json, Message, quantise
from .video_messages import frames_content, webps, with_frames

MAX_NOTE = 200  # characters of the reason why an image is another one


def requested_settings(request: RunRequest, planned: int, trace: Trace) -> RunSettings:
    """Describes the settings of a run that a session started.

    Args:
        request: the request of the run.
        planned: number of steps that the scheduler plans.
        trace: the trace of the run.

    Returns:
        The settings.
    """
    return RunSettings(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt or None,
        seed=request.seed,
        steps=planned,
        guidance_scale=request.guidance_scale,
        schedule=request.schedule,
        schedule_strength=request.schedule_strength,
        scheduler=_class_name(trace.meta, "scheduler"),
        pipeline=_class_name(trace.meta, "pipeline"),
        weights=request.present_weights,
        has_noise_levels=not lacks_noise_levels(trace.meta),
        rewritten_prompt=_rewritten_prompt(trace),
        shares=[str(text) for text in trace.meta.get("refined_shares", ())],
    )


def recorded_settings(trace: Trace) -> RunSettings:
    """Reads the settings of a run from its trace, as far as the trace holds them.

    Args:
        trace: the trace.

    Returns:
        The settings.
    """
    meta = trace.meta
    strength = meta.get("schedule_strength")
    seed, guidance, planned = meta.get("seed"), meta.get("guidance_scale"), meta.get("planned_steps")
    return RunSettings(
        prompt=trace.typed_prompt,
        negative_prompt=trace.negative_prompt,
        seed=seed if isinstance(seed, int) else None,
        steps=max(planned, len(trace.steps)) if isinstance(planned, int) else len(trace.steps),
        guidance_scale=float(guidance) if isinstance(guidance, int | float) else None,
        schedule=str(meta.get("schedule", "uniform")),
        schedule_strength=float(strength) if isinstance(strength, int | float) else 60.0,
        scheduler=_class_name(meta, "scheduler"),
        pipeline=_class_name(meta, "pipeline"),
        weights=word_weights(meta),
        has_noise_levels=not lacks_noise_levels(meta),
        rewritten_prompt=_rewritten_prompt(trace),
        shares=[str(text) for text in trace.meta.get("refined_shares", ())],
    )


def _rewritten_prompt(trace: Trace) -> str | None:
    return None if trace.typed_prompt == trace.prompt else trace.prompt


def _class_name(meta: dict[str, Any], key: str) -> str:
    value = meta.get(key, "")
    return str(value.get("class", "")) if isinstance(value, dict) else str(value)


def state_of(trace: Trace) -> State:
    """Finds how a recorded run ended.

    Args:
        trace: the trace.

    Returns:
        "done" if it has all planned steps, else "stopped".
    """
    return "done" if trace.is_complete else "stopped"


def image_note_of(trace: Trace) -> str | None:
    """Finds why the final image of a trace is not the one that was decoded.

    Args:
        trace: the trace.

    Returns:
        The reason, None where they are the same.
    """
    note = trace.meta.get("image_note")
    return note[:MAX_NOTE] if isinstance(note, str) else None


def scores_payload(scores: ConceptScores | None) -> ScoresPayload | None:
    """Prepares concept scores for the page.

    Args:
        scores: the scores of a run, or None.

    Returns:
        The scores for the page, None where there are none.
    """
    if scores is None:
        return None
    share = scores.share if len(scores.concepts) > 1 else None
    return ScoresPayload(
        scores.concepts, scores.cosine, scores.null_band, share, scores.emergence, scores.meter or None, scores.present
    )


def notes_of(trace: Trace) -> list[Json]:
    """Describes the notes of a trace.

    Args:
        trace: the trace.

    Returns:
        The notes as JSON, with words as indices into `trace.words`; what a note expects, where it does.
    """
    return [
        {
            "text": note.text,
            "step": note.step,
            "words": pick_words(trace.words, list(note.words)) if note.words else [],
            "region": note.region,
            **({} if note.expectation is None else {"expects": note.expectation.data()}),
        }
        for note in trace.notes
    ]


def with_notes(run: Message, trace: Trace) -> Message:
    """Renews the notes in a run message.

    Args:
        run: the run message.
        trace: the trace whose notes to take.

    Returns:
        The message with the present notes of the trace.
    """
    return Message({**run.content, "notes": notes_of(trace)}, run.buffers)


def views_of(trace: Trace) -> list[View]:
    """Lists the images that every step of a trace can show.

    Args:
        trace: the trace.

    Returns:
        The views, in the order of `VIEWS`.
    """
    return [view for view in VIEWS if trace.has_frames(view)]


def maps_of(trace: Trace, step: int) -> NDArray[np.float32]:
    """Computes the attention maps of a step.

    Args:
        trace: the trace.
        step: index of the step.

    Returns:
        float32 (words, h, w), of a video (words, F, h, w); h and w are 0 where attention cannot be traced.
    """
    axes = (trace.frame_count, 0, 0) if trace.frame_count > 1 else (0, 0)
    if not trace.layers:
        return np.empty((len(trace.words), *axes), dtype=np.float32)
    return trace.heat_maps(step=step, frame="all" if trace.frame_count > 1 else None)


def traced_run_message(
    run: str,
    trace: Trace,
    settings: RunSettings,
    unknown: Collection[str],
    image: Size,
    views: Sequence[View],
    meter: str | None,
) -> Message:
    """Builds the run message of a trace.

    Args:
        run: id of the run.
        trace: its trace, with one finished step at least.
        settings: its settings.
        unknown: words (lower case) that the model never saw in training.
        image: (H, W) of the image, (0, 0) where none is shown.
        views: the images that every step can show.
        meter: name of the concept meter.

    Returns:
        The message, with the notes of the trace.
    """
    height, width = maps_of(trace, 0).shape[-2:]
    message = run_message(
        run,
        settings,
        trace.words,
        trace.layers,
        grid=(height, width),
        image=image,
        views=views,
        meter=meter,
        unknown=unknown,
        notes=notes_of(trace),
    )
    return Message({**message.content, **frames_content(trace)}, message.buffers)


def traced_step_message(run: str, trace: Trace, shown: StepImages, elapsed: float) -> Message:
    """Builds the message of one step of a trace: encodes its images and quantises its maps.

    Args:
        run: id of the run.
        trace: its trace.
        shown: the step and its images.
        elapsed: seconds since the run began.

    Returns:
        The step message; where the trace has refined maps, its last buffer holds these.
    """
    is_video = trace.frame_count > 1
    encoded: dict[View, tuple[bytes, ...]] = {}
    if shown.prediction is not None:
        largest = images.LARGEST if shown.exact else images.LATENTS_LARGEST
        encoded["prediction"] = webps(shown.prediction, largest)
    if shown.latents is not None:
        encoded["latents"] = webps(shown.latents, images.LATENTS_LARGEST, 70)
    guidance = trace.records[shown.step.index].guidance
    guidance_range = None
    if guidance is not None:
        guidance_range = (float(np.min(guidance)), float(np.max(guidance)))
        parts = guidance if is_video else guidance[None]
        encoded["guidance"] = tuple(images.grey(part, *guidance_range) for part in parts)
    maps = maps_of(trace, shown.step.index)
    exact: dict[View, bool] = {"prediction": shown.exact, "latents": shown.exact_latents, "guidance": True}
    previews: list[View] = [view for view in VIEWS if view in encoded and not exact[view]]
    single: dict[View, bytes] = {} if is_video else {view: parts[0] for view, parts in encoded.items()}
    flat = maps[:, 0] if is_video else maps
    message = step_message(run, shown.step, flat, single, guidance_range, shown.exact, elapsed, previews)
    if is_video:
        return with_frames(message, maps, encoded)
    if not trace.has_refined_maps:
        return message
    return _with_refined_maps(message, trace.heat_maps(step=shown.step.index, kind="refined"))


def _with_refined_maps(message: Message, maps: NDArray[np.float32]) -> Message:
    """Adds refined maps (words, h, w) to a step message, in its last buffer."""
    quantised, scales = quantise(maps)
    content = {**message.content, "refined": {"shape": list(maps.shape), "scales": scales}}
    return Message(content, (*message.buffers, quantised.tobytes()))
