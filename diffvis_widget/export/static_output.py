"""A run as the output of a notebook cell that needs no kernel."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from diffvis_widget.arguments import count
from diffvis_widget.wire.recorded_run import Layers, record

from .html import check_layers, page
from .mime_bundle import static_representations

if TYPE_CHECKING:
    from diffvis_widget.traces import Trace


def frame(document: str, height: int) -> str:
    """Embed a page in a sandboxed frame: it can run its own script and offer downloads, and reach nothing else.

    Args:
        document: HTML of the page.
        height: Height of the frame in pixels.

    Returns:
        HTML of the frame.
    """
    return (
        f'<iframe sandbox="allow-scripts allow-downloads" srcdoc="{html.escape(document)}" title="diffvis_widget" '
        f'style="width:100%;height:{height}px;border:0"></iframe>'
    )


class StaticOutput:
    """A run as the output of a cell, for hosts that show HTML and for those that do not.

    Args:
        trace: The trace of the run.
        layers: True adds the maps of each layer, "heads" those of each head.
        height: Height of the frame in pixels, 100 to 10000.

    Raises:
        TypeError: ``height`` is no integer.
        ValueError: ``height`` is out of range, or the trace has no finished step.
    """

    def __init__(self, trace: Trace, layers: Layers, height: int) -> None:
        count("height", height, 100, 10_000)
        check_layers(layers)
        document = frame(page([trace], layers), height)
        self._bundle = {"text/html": document, **static_representations(record(trace).payload.messages())}

    def __repr__(self) -> str:
        return self._bundle["text/plain"]

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return dict(self._bundle)
