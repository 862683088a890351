"""A run as the output of a notebook cell that needs no kernel."""

from __future__ import annotations

import hashlib
import html
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from diffvis_widget.arguments import count, flag
from diffvis_widget.wire.recorded_run import Layers, record

from .html import check_layers, page
from .mime_bundle import static_representations

if TYPE_CHECKING:
    from diffvis_widget.traces import Trace


HEIGHT = 820  # pixels of a frame without notes
NOTE_HEIGHT, NOTES_HEIGHT, LINE_LENGTH = 54, 90, 90  # of a note's first line, of their heading; characters of a line

# Grows a frame to the height that its page reports, and never shrinks it: parts of the page follow the frame's height.
# A frame from a string cannot be the target of a link: a click on "#step=12&word=moon" is handed over to it. As in
# js/src/core/links.ts, a link is about the widget before it, or the first one of the page.
_SCRIPT = """<script>if (!window.diffvisFrames) {
  window.diffvisFrames = true;
  addEventListener("message", ({ data, source }) => {
    const height = Number(data && data.diffvisHeight);
    if (!(height > 0 && height < 20000)) return;
    for (const frame of document.querySelectorAll("iframe[data-diffvis-height]"))
      if (frame.contentWindow === source)
        frame.style.height = `${Math.max(frame.dataset.diffvisHeight, Math.ceil(height))}px`;
  });
  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element && event.target.closest("a[href*='#']");
    const hash = link && link.getAttribute("href").split("#")[1];
    if (!hash || !/(^|&)(step=\\d|word=)/.test(hash)) return;
    const widgets = [...document.querySelectorAll(".dv, iframe[data-diffvis]")];
    const isBefore = (widget) => widget.compareDocumentPosition(link) & Node.DOCUMENT_POSITION_FOLLOWING;
    const widget = widgets.findLast(isBefore) || widgets[0];
    if (!widget || !widget.contentWindow) return;
    widget.contentWindow.postMessage({ diffvisLink: hash }, "*");
    widget.scrollIntoView({ block: "nearest" });
    event.preventDefault();
    event.stopPropagation();
  }, true);
}</script>"""


def frame(document: str, height: int, fits: bool = False) -> str:
    """Embed a page in a sandboxed frame: it can run its own script and offer downloads, and reach nothing else.

    Args:
        document: HTML of the page.
        height: Height of the frame in pixels.
        fits: Whether the frame grows with its page, where the host runs scripts.

    Returns:
        HTML of the frame.
    """
    source = html.escape(document)
    return (
        f'{_SCRIPT}<iframe sandbox="allow-scripts allow-downloads" srcdoc="{source}" title="diffvis_widget" '
        f"data-diffvis {f'data-diffvis-height={height} ' if fits else ''}"
        f'style="width:100%;height:{height}px;border:0"></iframe>'
    )


def height_of(trace: Trace) -> int:
    """Estimate the height of a page with the notes of a trace, which are open from the start.

    Args:
        trace: The trace.

    Returns:
        Pixels.
    """
    notes = sum(NOTE_HEIGHT + 20 * (len(note.text) // LINE_LENGTH) for note in trace.notes)
    return min(10_000, HEIGHT + (NOTES_HEIGHT + notes if trace.notes else 0))


TRUST = (
    "The interactive page is not shown: this notebook is not trusted, or the host runs no scripts. If you trust the "
    "author, choose “Trust Notebook” in the command palette of JupyterLab (Ctrl+Shift+C), or run the cell again."
)


def sanitized_fallback(representations: Mapping[str, str]) -> str:
    """What remains of the output where the host removes scripts, styles and frames, as in notebooks it does not trust.

    Args:
        representations: Those of `static_representations`.

    Returns:
        HTML of a filmstrip and two sentences. The style hides them; where a host removes it, they appear.
    """
    sentence = html.escape(representations["text/plain"])
    image = representations.get("image/png", "")
    # A name of its own: the style of an output that is shown must not hide the fallback of another one.
    name = f"dv-fallback-{hashlib.sha256((sentence + image).encode()).hexdigest()[:12]}"
    strip = f'<p><img alt="{sentence}" src="data:image/png;base64,{image}"></p>' if image else ""
    return f'<style>.{name}{{display:none}}</style><div class="{name}">{strip}<p>{sentence}</p><p>{TRUST}</p></div>'


class StaticOutput:
    """A run as the output of a cell, for hosts that show HTML and for those that do not.

    Args:
        trace: The trace of the run.
        layers: True adds the maps of each layer, "heads" those of each head.
        height: Height of the frame in pixels, 100 to 10000; None makes room for the notes, and lets the frame grow with
            its page where the host runs scripts.
        live: True adds the model; see `diffvis_widget.to_html`.

    Raises:
        TypeError: ``height`` is no integer.
        ValueError: ``height`` is out of range, the trace has no finished step, or ``live`` is True for a run of another
            model than the built-in one.
    """

    def __init__(self, trace: Trace, layers: Layers, height: int | None, live: bool = False) -> None:
        pixels = height_of(trace) if height is None else count("height", height, 100, 10_000)
        check_layers(layers)
        flag("live", live)
        fixed = static_representations(record(trace).payload.messages())
        document = frame(page([trace], layers, live), pixels, fits=height is None) + sanitized_fallback(fixed)
        self._bundle = {"text/html": document, **fixed}

    def __repr__(self) -> str:
        return self._bundle["text/plain"]

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return dict(self._bundle)
