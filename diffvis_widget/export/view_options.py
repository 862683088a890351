"""What is looked at of a run, as it is asked for and as it is drawn: the settings of the stage, checked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

import numpy as np

from diffvis_widget.traces.selectors import pick_words

if TYPE_CHECKING:
    from diffvis_widget.traces import Saliency, Trace

View = Literal["prediction", "latents", "guidance", "change"]
VIEWS: tuple[View, ...] = ("prediction", "latents", "guidance", "change")
Words = str | int | Sequence[str | int]
Range = tuple[float, float]
Region = tuple[float, float, float, float]
OPACITY = 0.65
MAX_SIZE = 4096


class Shown(TypedDict, total=False):
    """What a picture shows of a step; every figure, filmstrip and animation takes it.

    words: whose heat maps lie over the picture, as for `Trace.heat_map`; one comes in viridis, several each in a colour
    of its own. view: what the picture is: "prediction", "latents" (the noisy ones), "guidance", or "change" (what the
    step changed). layer, head: as for `Trace.heat_map`.

    saliency: in place of words, the name of a method ("df_rise", "df_cam", "df_lime") whose maps in `trace.saliency`
    are shown, of several for a step the newest. In filmstrips and animations a step without such a map shows the plain
    picture. A map of `dv.explain` itself can be given too; there it lies on its own step only.

    opacity: 0..1, of the heat maps; by default 0.65. contours: lines around the half, the quarter and the tenth of the
    picture with the highest values; on pictures under 160 pixels around the tenth alone.

    shared: one scale of colours for all words, all steps and every layer, so that colours of different pictures can be
    compared: from the least to the greatest value of the prompt's words in the mean over the default layers. Else each
    map spans its own values, as a method's map always does: its unit is another.

    region: (left, top, right, bottom) of a part of the picture, 0..1 from its left and its top: the cells of the heat
    maps that it touches are framed.
    """

    words: Words
    view: View
    layer: str | int | None
    head: int | None
    saliency: Saliency | str | None
    opacity: float
    contours: bool
    shared: bool
    region: Sequence[float] | None


@dataclass(frozen=True)
class Looked:
    """One step as it is drawn: what `Shown` asks for. scale: one range of colours for all words, or None."""

    step: int | None = None
    words: tuple[str | int, ...] = ()
    view: View = "prediction"
    layer: str | int | None = None
    head: int | None = None
    saliency: Saliency | None = None
    opacity: float = OPACITY
    contours: bool = False
    scale: Range | None = None
    region: Region | None = None


def look(trace: Trace, step: int | None, **shown: Unpack[Shown]) -> Looked:
    """One step, an index, or None for the finished picture, with the means over the steps.

    Raises KeyError for a word, IndexError for a step, ValueError for anything else that cannot be, also where a method
    is named that has no map of this step.
    """
    looked, saliency = _checked(trace, **shown), shown.get("saliency")
    at = _index(trace, step)
    if isinstance(saliency, str):
        laid = None if at is None else map_at(trace, saliency, at)
        if laid is None:
            where = "the finished picture: give a step" if at is None else f"step {at}"
            raise ValueError(f"this run has no map of {saliency} at {where}{_kept(trace)}")
        saliency = laid
    return replace(looked, step=at, saliency=saliency)


def looks(trace: Trace, steps: Sequence[int], **shown: Unpack[Shown]) -> Iterator[Looked]:
    """Several steps alike. Raises what `look` raises; a method needs a map of at least one step of the run."""
    looked, saliency = _checked(trace, **shown), shown.get("saliency")
    if isinstance(saliency, str) and all(one.method != saliency for one in trace.saliency):
        raise ValueError(f"this run has no map of {saliency} at any step{_kept(trace)}")
    for step in steps:
        at = _index(trace, step)
        laid = None
        if isinstance(saliency, str):
            laid = None if at is None else map_at(trace, saliency, at)
        elif saliency is not None and saliency.step == at:
            laid = saliency
        yield replace(looked, step=at, saliency=laid)


def map_at(trace: Trace, method: str, step: int) -> Saliency | None:
    """The map of a method at a step, of several the newest, which is the one that the page shows."""
    return next((one for one in reversed(trace.saliency) if (one.method, one.step) == (method, step)), None)


def shared_scale(trace: Trace) -> Range | None:
    """The least and the greatest value of the prompt's words over all steps; special tokens would drown them."""
    typed = [index for index, word in enumerate(trace.words) if word.kind == "word"]
    if not typed or not trace.layers:
        return None
    lo, hi = math.inf, -math.inf
    for step in range(len(trace.steps)):
        values = trace.heat_maps(step=step)[typed]
        known = values[np.isfinite(values)]
        if known.size:
            lo, hi = min(lo, float(known.min())), max(hi, float(known.max()))
    return (lo, hi) if lo <= hi else None


def checked_size(value: int) -> int:
    """Pixels on the longest side of a picture. Raises ValueError for what cannot be."""
    if not 32 <= value <= MAX_SIZE:
        raise ValueError(f"size must be between 32 and {MAX_SIZE} pixels, not {value!r}")
    return int(value)


def _checked(
    trace: Trace,
    words: Words = (),
    view: Any = "prediction",
    layer: str | int | None = None,
    head: int | None = None,
    saliency: object = None,
    opacity: float = OPACITY,
    contours: bool = False,
    shared: bool = False,
    region: Any = None,
) -> Looked:
    """What holds for every step."""
    if view not in VIEWS:
        raise ValueError(f"view must be one of {', '.join(map(repr, VIEWS))}, not {view!r}")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must be between 0 and 1, not {opacity!r}")
    chosen = (words,) if isinstance(words, str | int) else tuple(words)
    for word in chosen:
        pick_words(trace.words, word)
    if saliency is not None and chosen:
        raise ValueError("words and saliency are two overlays: give one of them")
    scale = shared_scale(trace) if shared and chosen else None
    return Looked(None, chosen, view, layer, head, None, opacity, bool(contours), scale, _region(region))


def _index(trace: Trace, step: int | None) -> int | None:
    count = len(trace.steps)
    if step is None:
        return None
    if not -count <= step < count:
        raise IndexError(f"step {step} is out of range: this trace has steps 0 to {count - 1}")
    return step % count


def _kept(trace: Trace) -> str:
    there = sorted({(one.method, one.step) for one in trace.saliency})
    return f"; it has {', '.join(f'{method} at {step}' for method, step in there[:8])}" if there else ""


def _region(value: Any) -> Region | None:
    """A part of the picture; a single point is one too, as where somebody has clicked."""
    if value is None:
        return None
    try:
        left, top, right, bottom = (float(edge) for edge in value)
    except (TypeError, ValueError, OverflowError):
        left = top = right = bottom = math.nan
    if not (0 <= left <= right <= 1 and 0 <= top <= bottom <= 1):
        raise ValueError(f"region must be (left, top, right, bottom), each 0..1, left and top first; not {value!r}")
    return left, top, right, bottom
