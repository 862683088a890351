"""Which files of a run a page can offer, their names, and the Python code that the page offers to copy."""

from __future__ import annotations

import contextlib
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diffvis_widget.shipped import is_scenes_model
from diffvis_widget.wire.packed_run import Message, RequestId

from .source_code import code, trace_source
from .video import find_ffmpeg
from .view_options import MAX_SIZE, ViewOptions

if TYPE_CHECKING:
    from diffvis_widget.traces import Trace

MAX_WORDS = 256  # of a view that a page requests
MAX_NAME = 48  # characters of a prompt in a file name


@dataclass(frozen=True)
class FileKind:
    """A kind of file.

    Attributes:
        suffix: The end of its name, after the prompt; ``{step}`` stands for the number of the step.
        mime: Its media type.
    """

    suffix: str
    mime: str


FILE_KINDS: dict[str, FileKind] = {
    "png": FileKind("-step-{step}.png", "image/png"),
    "filmstrip": FileKind("-filmstrip.png", "image/png"),
    "webp": FileKind("-steps.webp", "image/webp"),
    "gif": FileKind("-steps.gif", "image/gif"),
    "mp4": FileKind("-steps.mp4", "video/mp4"),
    "html": FileKind("-run.html", "text/html"),
    "live": FileKind("-page-that-paints.html", "text/html"),
    "trace": FileKind("-run.safetensors", "application/octet-stream"),
    "compact": FileKind("-compact.dvr", "application/octet-stream"),
}


@dataclass(frozen=True)
class RequestedView:
    """The view that a page shows. The functions that draw it validate it.

    Attributes:
        step: Index of the step.
        options: What is shown of each step.
    """

    step: int
    options: ViewOptions

    @property
    def view(self) -> Any:
        """The image: "prediction", "latents", "guidance" or "change"."""
        return self.options.get("view")


def requested_view(view: Mapping[str, Any]) -> RequestedView:
    """Read the view that a request of the page describes.

    Args:
        view: The fields of the view, as in the request.

    Returns:
        The view.

    Raises:
        ValueError: Step, words, view or opacity are missing or of another type.
    """
    match view:
        case {"step": int(step), "words": list(words), "view": image, "opacity": int(opacity) | float(opacity)}:
            if len(words) > MAX_WORDS:
                raise ValueError(f"a view shows at most {MAX_WORDS} words, not {len(words)}")
            options = ViewOptions(
                words=tuple(words),
                view=image,
                layer=view.get("layer"),
                head=view.get("head"),
                kind=view.get("map_kind"),
                saliency=view.get("saliency"),
                opacity=float(opacity),
                contours=view.get("contours") is not False,
                shared_scale=view.get("shared_scale") is True,
                region=view.get("region"),
            )
            return RequestedView(step, options)
        case _:
            raise ValueError("an export needs a step, words, a view and an opacity")


def figure_size(trace: Trace) -> int:
    """The size of a figure that shows every pixel of the image.

    Args:
        trace: The trace.

    Returns:
        Pixels on the longest side, 512 to 4096.
    """
    return min(max(512, *trace.image.shape[:2]), MAX_SIZE)


def exports_message(request: RequestId, run: str, trace: Trace) -> Message:
    """The kinds of files that a kernel can make of a run, and the beginning of their names.

    Args:
        request: Id of the page's request.
        run: Id of the run.
        trace: Its trace.

    Returns:
        The reply to the page.
    """
    kinds = [kind for kind in FILE_KINDS if kind != "mp4" or find_ffmpeg()]
    if trace.is_compact:
        kinds.remove("trace")
    if not is_scenes_model(trace.meta.get("fingerprint")):
        kinds.remove("live")
    return Message({"type": "exports", "id": request, "run": run, "kinds": kinds, "name": file_stem(trace.prompt)})


def source_code_message(request: RequestId, run: str, trace: Trace, view: Mapping[str, Any]) -> Message:
    """The Python code that draws the figure of a view.

    Where the run cannot be repeated the code opens a trace file, and ``file`` is the name under which the page saves
    it.

    Args:
        request: Id of the page's request.
        run: Id of the run.
        trace: Its trace.
        view: The fields of the view, as in the request.

    Returns:
        The reply to the page.

    Raises:
        LookupError: The run has no such step or word.
        ValueError: An option is out of range.
    """
    requested, file = requested_view(view), None
    try:
        trace_source(trace)
    except ValueError:
        file = file_stem(trace.prompt) + FILE_KINDS["compact" if trace.is_compact else "trace"].suffix
    python = code(trace, step=requested.step, size=figure_size(trace), file=file, **requested.options)
    return Message({"type": "source_code", "id": request, "run": run, "python": python, "file": file})


def offline_exports_messages(runs: Iterable[tuple[str, Trace]]) -> list[Message]:
    """The replies for an offline page: no files, and the Python code of the runs that can be repeated.

    Args:
        runs: Id and trace of each run.

    Returns:
        One or two messages per run.
    """
    messages: list[Message] = []
    for run, trace in runs:
        messages.append(Message({**exports_message(0, run, trace).content, "kinds": []}))
        with contextlib.suppress(ValueError):  # a run that cannot be repeated
            reply = {"run": run, "view": None, "python": trace_source(trace), "file": None}
            messages.append(Message({"type": "source_code", "id": 0, **reply}))
    return messages


def file_stem(prompt: str) -> str:
    """Turn a prompt into the beginning of a file name: letters and digits of any script, joined by hyphens.

    Args:
        prompt: The prompt.

    Returns:
        At most 48 characters; "run" for a prompt without letters and digits.

    Example:
        >>> file_stem("A red circle, above a blue square!")
        'a-red-circle-above-a-blue-square'
    """
    text = unicodedata.normalize("NFKC", prompt).lower()
    words = "".join(character if character.isalnum() else " " for character in text).split()
    stem = ""
    for word in words:
        if len(stem) + len(word) > MAX_NAME:
            break
        stem += f"-{word}"
    return stem[1:] or "".join(words)[:MAX_NAME] or "run"
