"""Files of a run that the page asks for: what `dv.export` makes, with the name that the page saves it under.

Every picture that a file needs is the exactly decoded one, also where the page shows a preview. What the page holds all
of, it makes itself: the table of the scores, and the stage as it is on the screen.
"""

from __future__ import annotations

import contextlib
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from diffvis_widget.export import figures as export
from diffvis_widget.export import source_code as again
from diffvis_widget.export.video import ffmpeg
from diffvis_widget.export.view_options import MAX_SIZE, VIEWS, Shown
from diffvis_widget.widget.session.history import size as size_of
from diffvis_widget.widget.session.jobs import Perform, Result, Task, Tell
from diffvis_widget.wire.messages import Message, RequestId

if TYPE_CHECKING:
    from diffvis_widget.traces import Trace
    from diffvis_widget.widget.session.session import Session

Pictured = Literal["prediction", "latents"]
LARGEST = 256 * 2**20  # bytes of a file that still goes through a page
TILES = 60  # pictures in a filmstrip; of more steps it shows so many, evenly spread
DECODING = 0.5  # the share of the work that goes before the file itself
NAME = 48  # characters of a prompt in a file's name


@dataclass(frozen=True)
class Seen:
    """What is looked at: a step, and what is shown of every step. Checked by the functions that draw it."""

    step: int
    shown: Shown

    @property
    def view(self) -> Any:
        return self.shown.get("view")


@dataclass(frozen=True)
class Kind:
    """A sort of file. tail: what its name ends with, after the prompt."""

    tail: str
    mime: str
    make: Callable[[Trace, Seen, Tell], bytes] = field(repr=False)


def exports_message(request: RequestId, run: str, trace: Trace) -> Message:
    """The files that can be made of a run, and how their names begin."""
    kinds = [kind for kind in KINDS if kind != "mp4" or ffmpeg()]
    if trace.is_compact:
        kinds.remove("trace")
    return Message({"type": "exports", "id": request, "run": run, "kinds": kinds, "name": stem(trace.prompt)})


def source_code_message(request: RequestId, run: str, trace: Trace, view: Mapping[str, Any]) -> Message:
    """The Python that makes the figure of a view.

    Where the run cannot be made again, the Python opens a trace file, and ``file`` is the name under which the page
    saves that file.

    Raises:
        LookupError, ValueError: the view has a step, a word or an option that there is not.
    """
    seen, file = _seen(view), None
    try:
        again.source(trace)
    except ValueError:
        file = stem(trace.prompt) + KINDS["compact" if trace.is_compact else "trace"].tail
    python = again.code(trace, step=seen.step, size=figure_size(trace), file=file, **seen.shown)
    return Message({"type": "source_code", "id": request, "run": run, "python": python, "file": file})


def prepare(session: Session, task: Task) -> Perform:
    """The file that a task asks for.

    Raises:
        LookupError, ValueError: there is no such kind, run, step or word, or it would be too large for a page.
    """
    what, run = task.get("what"), task.get("run")
    if not isinstance(what, str) or what not in KINDS:
        raise ValueError(f"what must be one of {', '.join(map(repr, KINDS))}, not {what!r}")
    kind, trace, seen = KINDS[what], session.trace_of(str(run)), _seen(task)
    if what == "trace" and size_of(trace) > LARGEST:
        raise ValueError(f"this trace is larger than {LARGEST >> 20} MB: save it from a cell, by trace.save(path)")

    def perform(tell: Tell) -> Result:
        data = kind.make(trace, seen, tell)
        name = stem(trace.prompt) + kind.tail.format(step=seen.step + 1)
        return Result({"name": name, "mime": kind.mime}, (data,))

    return perform


def _seen(task: Task) -> Seen:
    match task:
        case {"step": int(step), "words": list(words), "view": view, "opacity": int(opacity) | float(opacity)}:
            shown = Shown(
                words=tuple(words),
                view=view,
                layer=task.get("layer"),
                head=task.get("head"),
                saliency=task.get("saliency"),
                opacity=float(opacity),
                contours=task.get("contours") is True,
                shared=task.get("shared_scale") is True,
                region=task.get("region"),
            )
            return Seen(step, shown)
        case _:
            raise ValueError("an export needs a step, words, a view and an opacity")


def stem(prompt: str) -> str:
    """The prompt as the beginning of a file's name: letters and digits of any script, with hyphens between them."""
    text = unicodedata.normalize("NFKC", prompt).lower()
    parts = "".join(one if one.isalnum() else " " for one in text).split()
    kept = ""
    for part in parts:
        if len(kept) + len(part) > NAME:
            break
        kept += f"-{part}"
    return kept[1:] or "".join(parts)[:NAME] or "run"


# -- the files -------------------------------------------------------------------------------------------------------


def figure_size(trace: Trace) -> int:
    """Pixels on the longest side of a figure: enough for every pixel of the picture."""
    return min(max(512, *trace.image.shape[:2]), MAX_SIZE)


def _png(trace: Trace, seen: Seen, tell: Tell) -> bytes:
    before = [max(seen.step - 1, 0)] if seen.view == "change" else []
    _decode(trace, seen, [*before, seen.step], tell)
    return export.png(trace, step=seen.step, size=figure_size(trace), **seen.shown)


def _filmstrip(trace: Trace, seen: Seen, tell: Tell) -> bytes:
    count = len(trace.steps)
    steps = [round(at) for at in np.linspace(0, count - 1, min(count, TILES)).tolist()]
    _decode(trace, seen, steps, tell)
    return export.filmstrip(trace, steps=steps, **seen.shown)


def _moving(kind: export.Animated) -> Callable[[Trace, Seen, Tell], bytes]:
    def make(trace: Trace, seen: Seen, tell: Tell) -> bytes:
        _decode(trace, seen, range(len(trace.steps)), tell)
        size = {} if kind == "gif" else {"size": figure_size(trace)}
        return export.animate(trace, kind, lambda share: tell(DECODING + share / 2), **seen.shown, **size)

    return make


def _html(trace: Trace, seen: Seen, tell: Tell) -> bytes:
    from diffvis_widget.export import html as offline  # which itself takes the answers to the page's questions

    _decode_all(trace, tell)
    return offline.page([trace]).encode()


def _saved(compact: bool) -> Callable[[Trace, Seen, Tell], bytes]:
    def make(trace: Trace, seen: Seen, tell: Tell) -> bytes:
        _decode_all(trace, tell)
        with tempfile.TemporaryDirectory() as folder:
            data = trace.save(Path(folder, "trace"), compact=compact).read_bytes()
        if len(data) > LARGEST:
            raise ValueError(f"this trace is larger than {LARGEST >> 20} MB: save it from a cell, by trace.save(path)")
        return data

    return make


def _decode(trace: Trace, seen: Seen, steps: Sequence[int], tell: Tell) -> None:
    """Have the pictures that the view needs, one by one, so that it can be told how far this is."""
    if seen.view not in VIEWS:
        raise ValueError(f"view must be one of {', '.join(map(repr, VIEWS))}, not {seen.view!r}")
    if seen.view != "guidance":
        kind: Pictured = "latents" if seen.view == "latents" else "prediction"
        for number, step in enumerate(steps):
            tell(DECODING * number / len(steps))
            trace.frame(kind, step)
    tell(DECODING)


def _decode_all(trace: Trace, tell: Tell) -> None:
    kinds = [kind for kind in get_args(Pictured) if trace.has_frames(kind)]
    for number, kind in enumerate(kinds):
        for step in range(len(trace.steps)):
            tell(DECODING * (number + step / len(trace.steps)) / len(kinds))
            trace.frame(kind, step)
    tell(DECODING)


KINDS: dict[str, Kind] = {
    "png": Kind("-step-{step}.png", "image/png", _png),
    "filmstrip": Kind("-filmstrip.png", "image/png", _filmstrip),
    "webp": Kind("-steps.webp", "image/webp", _moving("webp")),
    "gif": Kind("-steps.gif", "image/gif", _moving("gif")),
    "mp4": Kind("-steps.mp4", "video/mp4", _moving("mp4")),
    "html": Kind("-run.html", "text/html", _html),
    "trace": Kind("-run.safetensors", "application/octet-stream", _saved(compact=False)),
    "compact": Kind("-compact.dvr", "application/octet-stream", _saved(compact=True)),
}


def exports_messages(runs: Iterable[tuple[str, Trace]]) -> list[Message]:
    """The replies for an offline page, which makes no files: no kinds, and the Python that makes the run again."""
    messages: list[Message] = []
    for run, trace in runs:
        messages.append(Message({**exports_message(0, run, trace).content, "kinds": []}))
        with contextlib.suppress(ValueError):  # a run that cannot be made again
            reply = {"run": run, "view": None, "python": again.source(trace), "file": None}
            messages.append(Message({"type": "source_code", "id": 0, **reply}))
    return messages
