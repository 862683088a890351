"""Replies to requests of the page; each carries the id of its request. The offline page holds some ready-made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.traces import ConceptScores, Note, Saliency, Trace, WordRelevance, compare
from diffvis_widget.traces.results import result_kinds
from diffvis_widget.traces.results.relevance import typed

from . import images
from .messages import RunPayload
from .packed_run import Json, Message, RequestId, json_numbers, pack, quantise
from .trace_messages import recorded_settings
from .video_messages import image_buffers

THUMBNAIL = 96  # pixels, longest side
KINDS_WITH_OWN_MESSAGES = frozenset({Note.kind, ConceptScores.kind, Saliency.kind, WordRelevance.kind})
RUN_LIMIT = 12  # runs that a kernel keeps, unless it says otherwise


class ShownRun(Protocol):
    """A run that a page can list and show."""

    @property
    def id(self) -> str:
        """Its id."""
        ...

    @property
    def state(self) -> str:
        """How it ended ("done", "stopped" or "failed"), or how far it is."""
        ...

    @property
    def steps(self) -> int:
        """Number of finished steps."""
        ...

    @property
    def payload(self) -> RunPayload | None:
        """Its messages; None where there is nothing to show yet."""
        ...


@dataclass(frozen=True, slots=True)
class LayerMap:
    """A word's map in one layer.

    Attributes:
        layer: name of the layer.
        head: index of the head; None is the mean over heads.
        map: (h, w), attention probability.
    """

    layer: str
    head: int | None
    map: NDArray[np.floating[Any]]


def layer_maps(trace: Trace, step: int, word: int, heads: bool = True) -> list[LayerMap]:
    """Takes a word's maps of one step, layer by layer.

    Args:
        trace: the trace.
        step: index of the step.
        word: index into `trace.words`.
        heads: whether to take each head where the trace has them, not the mean.

    Returns:
        The maps, in the order of `trace.layers`.

    Raises:
        IndexError: there is no such step or word.
        ValueError: the trace has no maps of single layers.
    """
    if not trace.layers:
        raise ValueError("the attention of this pipeline cannot be read, so there are no layers to show")
    if not 0 <= word < len(trace.words):
        raise IndexError(f"word {word} is out of range: this run has words 0 to {len(trace.words) - 1}")
    maps: list[LayerMap] = []
    for index, layer in enumerate(trace.layers):
        parts = range(layer.heads) if trace.keep == "heads" and heads else (None,)
        maps += [LayerMap(layer.name, head, trace.heat_maps(step=step, layer=index, head=head)[word]) for head in parts]
    return maps


def layers_message(run: str, request: RequestId, step: int, word: int, maps: Sequence[LayerMap]) -> Message:
    """Builds the reply with a word's maps layer by layer.

    Args:
        run: id of the run.
        request: id of the request.
        step: index of the step.
        word: index of the word.
        maps: the maps.

    Returns:
        The layers message; its one buffer holds all quantised maps, one after the other.
    """
    entries: list[Json] = []
    data: list[bytes] = []
    for part in maps:
        quantised, (scale,) = quantise(part.map[None])
        grid = [int(size) for size in part.map.shape]
        entries.append({"layer": part.layer, "head": part.head, "grid": grid, "scale": scale, "focus": focus(part.map)})
        data.append(quantised.tobytes())
    content = {"type": "layers", "run": run, "id": request, "step": step, "word": word, "maps": entries}
    return Message(content, (b"".join(data),))


def focus(values: NDArray[np.floating[Any]]) -> float | None:
    """Measures how concentrated a map is: 1 minus its normalised entropy.

    Args:
        values: (h, w), 0 or more.

    Returns:
        0 for a flat map to 1 for a single cell; None where the map has no mass or is not finite.
    """
    total = float(values.sum())
    if values.size < 2 or not math.isfinite(total) or total <= 0:
        return None
    share = values[values > 0].astype(np.float64) / total
    return round(1 + float((share * np.log(share)).sum()) / math.log(values.size), 4)


def saliency_message(request: RequestId, run: str, trace: Trace, methods: Sequence[Json]) -> Message:
    """Builds the reply with the saliency maps of a trace; of several by one method at one step, the newest.

    Args:
        request: id of the request.
        run: id of the run.
        trace: its trace.
        methods: rows of the registry of explaining methods: name, label, caption and finding of each.

    Returns:
        The saliency message.
    """
    content, buffer = packed_saliency(list({(each.method, each.step): each for each in trace.saliency}.values()))
    return Message({"type": "saliency", "id": request, "run": run, "methods": list(methods), **content}, (buffer,))


def packed_saliency(maps: Sequence[Saliency]) -> tuple[Json, bytes]:
    """Quantises saliency maps.

    Args:
        maps: the maps.

    Returns:
        A JSON object with method, step, grid and scale of each, and all maps in one buffer.
    """
    entries: list[Json] = []
    data: list[bytes] = []
    for saliency in maps:
        quantised, (scale,) = quantise(saliency.map[None])
        grid = [int(size) for size in saliency.map.shape]
        entries.append({"method": saliency.method, "step": saliency.step, "grid": grid, "scale": scale})
        data.append(quantised.tobytes())
    return {"maps": entries}, b"".join(data)


def relevance_message(request: RequestId, run: str, trace: Trace) -> Message:
    """Builds the reply with the relevance curves of a trace; of several under one schedule, the newest.

    Args:
        request: id of the request.
        run: id of the run.
        trace: its trace.

    Returns:
        The relevance message.
    """
    newest = {relevance.schedule: relevance for relevance in trace.relevance}
    curves = [relevance_curves(trace, relevance) for relevance in newest.values()]
    return Message({"type": "relevance", "id": request, "run": run, "curves": curves})


def result_message(request: RequestId, run: str, trace: Trace, kind: str) -> Message:
    """Builds the reply with the stored results of one kind.

    The page gets header and tensors of each result:
    ``{"results": [{"header": {...}, "tensors": [{"name", "dtype", "shape"}]}]}``, and one buffer for each tensor, in
    order and little endian.

    Args:
        request: id of the request.
        run: id of the run.
        trace: its trace.
        kind: name of the kind.

    Returns:
        The message.

    Raises:
        ValueError: there is no such kind.
    """
    kinds = result_kinds()
    if kind not in kinds:
        raise ValueError(f"kind must be one of {', '.join(map(repr, kinds))}, not {kind!r}")
    entries: list[Json] = []
    buffers: list[bytes] = []
    for result in trace.results(kinds[kind]):
        tensors = {name: np.ascontiguousarray(part) for name, part in result.tensors().items()}
        forms = [{"name": name, "dtype": part.dtype.name, "shape": list(part.shape)} for name, part in tensors.items()]
        entries.append({"header": dict(result.header()), "tensors": forms})
        buffers += [part.tobytes() for part in tensors.values()]
    content = {"type": "results", "id": request, "run": run, "kind": kind, "results": entries}
    return Message(content, tuple(buffers))


def result_messages(run: str, trace: Trace, methods: Sequence[Json]) -> list[Message]:
    """Builds the replies with all stored results of a trace, for a page without a kernel.

    Args:
        run: id of the run.
        trace: its trace.
        methods: rows of the registry of explaining methods; see `saliency_message`.

    Returns:
        The messages; notes and scores are sent with the run itself.
    """
    messages: list[Message] = []
    if trace.saliency or trace.relevance:
        messages.append(saliency_message(0, run, trace, methods))
    if trace.relevance:
        messages.append(relevance_message(0, run, trace))
    others = [kind for kind in trace.stored_results if kind not in KINDS_WITH_OWN_MESSAGES]
    return messages + [result_message(0, run, trace, kind) for kind in others]


def relevance_curves(trace: Trace, relevance: WordRelevance) -> Json:
    """Describes the relevance of the typed words, to four significant digits.

    Args:
        trace: the trace.
        relevance: of its run, or of the same under another schedule.

    Returns:
        A JSON object with one row per step and one column per typed word.
    """
    words = typed(trace.words)
    return {
        "schedule": relevance.schedule,
        "own_schedule": recorded_settings(trace).schedule,
        "words": words,
        "timesteps": [round(float(time), 2) for time in relevance.timesteps],
        "raw": _significant(relevance.raw[:, words]),
        "scaled": _significant(relevance.scaled(trace.words)[:, words]),
    }


def _significant(values: NDArray[Any]) -> list[list[float | None]]:
    return [[float(f"{value:.4g}") if math.isfinite(value) else None for value in row] for row in values.tolist()]


def runs_message(request: RequestId, runs: Sequence[ShownRun], limit: int = RUN_LIMIT) -> Message:
    """Builds the reply that lists the runs that can be shown, each with a thumbnail of its last step.

    Args:
        request: id of the request.
        runs: the runs, oldest first.
        limit: how many runs are kept at most.

    Returns:
        The runs message.
    """
    entries: list[Json] = []
    thumbnails: list[bytes] = []
    for run in runs:
        payload = run.payload
        if payload is None:
            continue
        last = payload.steps[max(payload.steps)] if payload.steps else None
        has_image = last is not None and "prediction" in last.content["views"]
        if has_image and last is not None:
            image = last.buffers[image_buffers(last.content, "prediction").start]
            thumbnails.append(images.shrunk(image, THUMBNAIL, 80))
        names = ("prompt", "seed", "steps", "guidance_scale", "schedule", "schedule_strength", "weights")
        entry = {name: payload.run.content[name] for name in names}
        entry["notes"] = len(payload.run.content.get("notes", ()))
        entries.append({**entry, "run": run.id, "state": run.state, "finished": run.steps, "has_image": has_image})
    return Message({"type": "runs", "id": request, "limit": limit, "runs": entries}, tuple(thumbnails))


def packed_message(request: RequestId, run: ShownRun) -> Message:
    """Builds the reply with a whole run in the packed form.

    Args:
        request: id of the request.
        run: the run.

    Returns:
        The packed message.

    Raises:
        ValueError: the run has nothing to show yet.
    """
    payload = run.payload
    if payload is None:
        raise ValueError("this run has nothing to show yet")
    return Message({"type": "packed", "id": request, "run": run.id}, (pack(payload.messages()),))


def compare_message(request: RequestId, a: Trace, b: Trace) -> Message:
    """Builds the reply that compares two runs.

    Steps are compared by index where both runs have the same noise levels, else by noise level.

    Args:
        request: id of the request.
        a: the trace of one run.
        b: the trace of the other.

    Returns:
        The compare message.
    """
    same = len(a.steps) == len(b.steps) and np.allclose(a.sigmas, b.sigmas, rtol=0.01, atol=1e-4)
    align = "index" if same else "noise"
    comparison = compare(a, b, align=align)
    return Message(
        {
            "type": "compare",
            "id": request,
            "align": align,
            "steps": comparison.steps.tolist(),
            "words": [{"a": pair.a, "b": pair.b, "change": pair.change} for pair in comparison.words],
            "distance": json_numbers(comparison.distance),
            "threshold": comparison.threshold,
            "divergence_step": comparison.divergence_step,
            "maps": [json_numbers(row) for row in comparison.maps],
            "image_difference": comparison.image_difference,
        }
    )


def more_message(request: RequestId, script: bytes, style: str) -> Message:
    """Builds the reply to a page that opens the first of the drawers, which are not part of its first bundle.

    Args:
        request: id of the request.
        script: the module that holds the drawers.
        style: their CSS.

    Returns:
        The more message.
    """
    return Message({"type": "more", "id": request, "style": style}, (script,))


def error_message(run: str | None, message: str, request: RequestId | None = None) -> Message:
    """Builds the message that says what could not be done.

    Args:
        run: id of the run that the page shows.
        message: the reason, for its reader.
        request: id of the request, None where no request caused the error.

    Returns:
        The error message.
    """
    return Message({"type": "error", "run": run, "id": request, "message": message})
