"""Makes the files that a page requests, one function per kind of file.

Every image in a file is the exactly decoded one, even where the page shows a preview.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from . import figures, html
from .live_page import check_live
from .offers import RequestedView, figure_size
from .view_options import VIEWS

if TYPE_CHECKING:
    from diffvis_widget.traces import Trace

DecodedFrame = Literal["prediction", "latents"]
Progress = Callable[[float], object]
MAX_FILE = 256 * 2**20  # bytes of a file that a page can receive
MAX_TILES = 60  # images in a filmstrip; longer runs are sampled evenly
DECODING_SHARE = 0.5  # of the progress; the rest is the file itself


Maker = Callable[["Trace", RequestedView, Progress], bytes]


def too_large_message() -> str:
    """The error message for a trace that is too large for a page.

    Returns:
        A sentence.
    """
    return f"this trace is larger than {MAX_FILE >> 20} MB: save it from a cell, by trace.save(path)"


def _png(trace: Trace, view: RequestedView, progress: Progress) -> bytes:
    previous = [max(view.step - 1, 0)] if view.view == "change" else []
    _decode(trace, view, [*previous, view.step], progress)
    return figures.png(trace, step=view.step, size=figure_size(trace), **view.options)


def _filmstrip(trace: Trace, view: RequestedView, progress: Progress) -> bytes:
    count = len(trace.steps)
    steps = [round(position) for position in np.linspace(0, count - 1, min(count, MAX_TILES)).tolist()]
    _decode(trace, view, steps, progress)
    return figures.filmstrip(trace, steps=steps, **view.options)


def _animation(kind: figures.Animation) -> Maker:
    def make(trace: Trace, view: RequestedView, progress: Progress) -> bytes:
        _decode(trace, view, range(len(trace.steps)), progress)
        size = None if kind == "gif" else figure_size(trace)

        def report(share: float) -> None:
            progress(DECODING_SHARE + share / 2)

        return figures.animate(trace, kind, report, size=size, **view.options)

    return make


def _html(live: bool) -> Maker:
    def make(trace: Trace, view: RequestedView, progress: Progress) -> bytes:
        if live:
            check_live([trace])
        _decode_all(trace, progress)
        return html.page([trace], live=live).encode()

    return make


def _trace_file(compact: bool) -> Maker:
    def make(trace: Trace, view: RequestedView, progress: Progress) -> bytes:
        _decode_all(trace, progress)
        with tempfile.TemporaryDirectory() as folder:
            data = trace.save(Path(folder, "trace"), compact=compact).read_bytes()
        if len(data) > MAX_FILE:
            raise ValueError(too_large_message())
        return data

    return make


def _decode(trace: Trace, view: RequestedView, steps: Sequence[int], progress: Progress) -> None:
    """Decodes the frames that a view needs one by one, so that the progress can be reported."""
    if view.view not in VIEWS:
        raise ValueError(f"view must be one of {', '.join(map(repr, VIEWS))}, not {view.view!r}")
    if view.view != "guidance":
        kind: DecodedFrame = "latents" if view.view == "latents" else "prediction"
        for number, step in enumerate(steps):
            progress(DECODING_SHARE * number / len(steps))
            trace.frame(kind, step)
    progress(DECODING_SHARE)


def _decode_all(trace: Trace, progress: Progress) -> None:
    kinds = [kind for kind in get_args(DecodedFrame) if trace.has_frames(kind)]
    for number, kind in enumerate(kinds):
        for step in range(len(trace.steps)):
            progress(DECODING_SHARE * (number + step / len(trace.steps)) / len(kinds))
            trace.frame(kind, step)
    progress(DECODING_SHARE)


MAKERS: dict[str, Maker] = {
    "png": _png,
    "filmstrip": _filmstrip,
    "webp": _animation("webp"),
    "gif": _animation("gif"),
    "mp4": _animation("mp4"),
    "html": _html(live=False),
    "live": _html(live=True),
    "trace": _trace_file(compact=False),
    "compact": _trace_file(compact=True),
}
