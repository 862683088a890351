"""Options of a view of a step, as arguments and as validated values: overlays, contours, scale, region."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict, Unpack

import numpy as np

from diffvis_widget.arguments import check_names, choice, count, flag, instance, items, real, shorten, step_index
from diffvis_widget.traces import Saliency, Trace
from diffvis_widget.traces.selectors import pick_frame, pick_words
from diffvis_widget.traces.types import MapKind

View = Literal["prediction", "latents", "guidance", "change"]
VIEWS: tuple[View, ...] = ("prediction", "latents", "guidance", "change")
Words = str | int | Sequence[str | int]
Range = tuple[float, float]
Region = tuple[float, float, float, float]
DEFAULT_OPACITY = 0.65
MAX_SIZE = 4096


class ViewOptions(TypedDict, total=False):
    """What a figure, filmstrip or animation shows of a step, as keyword arguments. All are optional.

    Attributes:
        words: Words whose heat maps are laid over the image, as for `Trace.heat_map`. A single word is coloured with
            viridis, several get one hue each.
        view: The image: "prediction" (the default), "latents" (noisy), "guidance", or "change" (the difference to the
            previous step).
        layer: The layer of the heat maps, as for `Trace.heat_map`.
        head: The head of the heat maps, as for `Trace.heat_map`.
        kind: "refined" or "probability", as for `Trace.heat_map`. By default the refined maps, where the trace is
            of an image and has them, and neither layer nor head is given.
        saliency: An overlay in place of words. The name of a method, as in `dv.explain.registered_methods`, selects
            its maps in `trace.saliency`, the newest of several at a step; in filmstrips and animations steps without
            one show the image alone. A map returned by `dv.explain` is shown at its own step only.
        opacity: Of the heat maps, 0..1; 0.65 by default.
        contours: Draw contours: inside, a map has values above the middle of its colour bar. True by default.
        shared_scale: Use one colour range for all words, steps and layers, so that colours of different images can be
            compared: from the lowest to the highest value of the prompt's words in the mean over the default layers.
            Otherwise, and always for saliency, each map spans its own range.
        region: (left, top, right, bottom), 0..1 from the left and the top of the image. The cells of the heat maps
            that it touches are framed.
        frame: Of a video, the latent frame; 0 by default.
    """

    words: Words
    view: View
    layer: str | int | None
    head: int | None
    kind: Literal["refined", "probability"] | None
    saliency: Saliency | str | None
    opacity: float
    contours: bool
    shared_scale: bool
    region: Sequence[float] | None
    frame: int


@dataclass(frozen=True)
class StepView:
    """Validated options of the view of one step; see `ViewOptions`.

    Attributes:
        step: Index of the step; None for the final image with the mean over the steps.
        words: Texts or indices of words.
        view: The image.
        layer: The layer of the heat maps.
        head: The head of the heat maps.
        saliency: The map that is laid over the image.
        opacity: 0..1.
        contours: Whether contours are drawn.
        value_range: Lowest and highest value of the shared scale; None for a range per map.
        region: The framed region.
        kind: The kind of the heat maps.
        frame: The latent frame of a video; 0 for an image.
        output_frame: The frame of the video that is drawn; None for the middle one of the latent frame.
    """

    step: int | None = None
    words: tuple[str | int, ...] = ()
    view: View = "prediction"
    layer: str | int | None = None
    head: int | None = None
    saliency: Saliency | None = None
    opacity: float = DEFAULT_OPACITY
    contours: bool = True
    value_range: Range | None = None
    region: Region | None = None
    kind: MapKind = "probability"
    frame: int = 0
    output_frame: int | None = None


def view_of_step(trace: Trace, step: int | None, **options: Unpack[ViewOptions]) -> StepView:
    """Validate the options of a view of one step.

    Args:
        trace: The trace.
        step: Index of the step; None for the final image with the mean over the steps.
        **options: See `ViewOptions`.

    Returns:
        The validated view.

    Raises:
        KeyError: A word is not in the prompt.
        IndexError: The step is out of range.
        ValueError: An option is out of range, or the named method has no map of this step.
    """
    view, saliency = _options_of(trace, options), options.get("saliency")
    index = _step_index(trace, step)
    if isinstance(saliency, str):
        overlay = None if index is None else saliency_at(trace, saliency, index)
        if overlay is None:
            where = "the final image: give a step" if index is None else f"the step with index {index}"
            raise ValueError(f"saliency: this run has no map of {saliency} at {where}{_stored_maps(trace)}")
        saliency = overlay
    return replace(view, step=index, saliency=saliency)


def views_of_steps(trace: Trace, steps: Sequence[int], **options: Unpack[ViewOptions]) -> Iterator[StepView]:
    """Validate the options of the same view of several steps.

    Args:
        trace: The trace.
        steps: Indices of the steps.
        **options: See `ViewOptions`.

    Yields:
        The validated view of each step.

    Raises:
        KeyError: A word is not in the prompt.
        IndexError: A step is out of range.
        ValueError: An option is out of range, or the named method has no map of any step of the run.
    """
    view, saliency = _options_of(trace, options), options.get("saliency")
    if isinstance(saliency, str) and all(stored.method != saliency for stored in trace.saliency):
        raise ValueError(f"saliency: this run has no map of {saliency} at any step{_stored_maps(trace)}")
    for step in steps:
        index = _step_index(trace, step)
        overlay = None
        if isinstance(saliency, str):
            overlay = None if index is None else saliency_at(trace, saliency, index)
        elif saliency is not None and saliency.step == index:
            overlay = saliency
        yield replace(view, step=index, saliency=overlay)


def views_of_frames(trace: Trace, step: int | None, **options: Unpack[ViewOptions]) -> list[StepView]:
    """Validate the options of the same view of all frames of a video.

    Args:
        trace: A trace of a video.
        step: Index of the step; None for the final video with maps averaged over the steps.
        **options: See `ViewOptions`.

    Returns:
        The validated view of each frame of the video; of its latent frames for guidance, and in a compact file.

    Raises:
        KeyError: A word is not in the prompt.
        IndexError: The step is out of range.
        ValueError: An option is out of range, or the trace is of an image.
    """
    view = view_of_step(trace, step, **options)
    frames = range(trace.frame_count)
    if len(frames) == 1:
        raise ValueError('over="frames" is for videos: this trace is of an image')
    if view.view == "guidance" or (trace.is_compact and step is not None):
        return [replace(view, frame=frame) for frame in frames]
    return [replace(view, frame=frame, output_frame=shown) for frame in frames for shown in trace.output_frames(frame)]


def saliency_at(trace: Trace, method: str, step: int) -> Saliency | None:
    """The stored map of a method at a step.

    Args:
        trace: The trace.
        method: Name of the method.
        step: Index of the step.

    Returns:
        The newest of several maps, as on the page; None where there is none.
    """
    stored = (saliency for saliency in reversed(trace.saliency) if (saliency.method, saliency.step) == (method, step))
    return next(stored, None)


def shared_range(trace: Trace, kind: MapKind = "probability") -> Range | None:
    """The range of the shared scale: the lowest and the highest value of the prompt's words over all steps.

    Special tokens are left out: their values are many times higher.

    Args:
        trace: The trace.
        kind: Of the heat maps.

    Returns:
        Lowest and highest value; None where the trace has no maps.
    """
    typed = [index for index, word in enumerate(trace.words) if word.kind == "word"]
    if not typed or not trace.layers:
        return None
    low, high = math.inf, -math.inf
    for step in range(len(trace.steps)):
        values = trace.heat_maps(step=step, kind=kind, frame="all")[typed]
        finite = values[np.isfinite(values)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return (low, high) if low <= high else None


def check_size(size: int) -> int:
    """Validate the size of an image.

    Args:
        size: Pixels on the longest side.

    Returns:
        The size.

    Raises:
        TypeError: It is no integer.
        ValueError: It is not between 32 and 4096.
    """
    return count("size", size, 32, MAX_SIZE)


def _options_of(trace: Trace, options: Any) -> StepView:
    instance("trace", trace, Trace, "a Trace, as dv.trace and dv.open_trace return it")
    check_names("this view", options, tuple(ViewOptions.__annotations__))
    return _check_options(trace, **options)


def _check_options(
    trace: Trace,
    words: Words = (),
    view: Any = "prediction",
    layer: str | int | None = None,
    head: int | None = None,
    saliency: object = None,
    opacity: float = DEFAULT_OPACITY,
    contours: bool = True,
    shared_scale: bool = False,
    region: Any = None,
    kind: Any = None,
    frame: Any = 0,
) -> StepView:
    """Validates what holds for every step."""
    choice("view", view, VIEWS)
    opacity = real("opacity", opacity, 0, 1)
    expected = "a word of the prompt, its index, or a list of these"
    chosen = (words,) if isinstance(words, str | int) else tuple(items("words", words, expected))
    for word in chosen:
        pick_words(trace.words, word)
    single = layer is not None or head is not None
    if kind is None:
        is_refined = trace.has_refined_maps and trace.frame_count == 1 and not single
        kind = "refined" if is_refined else "probability"
    choice("kind", kind, ("refined", "probability"))
    if single or (chosen and kind == "refined"):  # refuses what is not there before anything is drawn
        trace.heat_maps(step=0, layer=layer, head=head, kind=kind)
    if saliency is not None and not isinstance(saliency, str):
        instance("saliency", saliency, Saliency, "the name of a method, a Saliency, or None")
    if saliency is not None and chosen:
        raise ValueError("words and saliency are two overlays: give only one of them")
    value_range = shared_range(trace, kind) if flag("shared_scale", shared_scale) and chosen else None
    shared = (flag("contours", contours), value_range)
    shown = pick_frame(trace.frame_count, frame)
    if not isinstance(shown, int):
        raise TypeError(f"frame must be the index of a latent frame, not {shorten(frame)}")
    return StepView(None, chosen, view, layer, head, None, opacity, *shared, _check_region(region), kind, shown)


def _step_index(trace: Trace, step: int | None) -> int | None:
    return None if step is None else step_index(step, len(trace.steps))


def _stored_maps(trace: Trace) -> str:
    stored = sorted({(saliency.method, saliency.step) for saliency in trace.saliency})
    return f"; it has {', '.join(f'{method} at index {step}' for method, step in stored[:8])}" if stored else ""


def _check_region(region: Any) -> Region | None:
    """A region; a single point is one too."""
    if region is None:
        return None
    try:
        left, top, right, bottom = (float(edge) for edge in region)
    except (TypeError, ValueError, OverflowError):
        left = top = right = bottom = math.nan
    if not (0 <= left <= right <= 1 and 0 <= top <= bottom <= 1):
        raise ValueError(
            f"region must be (left, top, right, bottom), each 0..1, left and top first; not {shorten(region)}"
        )
    return left, top, right, bottom
