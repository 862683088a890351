"""One HTML file that shows a run anywhere: no kernel, no network, everything but new runs.

The page holds the run in the packed form, compressed, and all of the front end. It asks nobody for anything, and a
Content-Security-Policy keeps it so, whatever a prompt tries to bring in.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import html
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from diffvis_widget import front_end
from diffvis_widget.traces import Trace
from diffvis_widget.traces.file.reader import write_whole
from diffvis_widget.traces.file.validation import check_additions
from diffvis_widget.widget.page.exports import exports_messages
from diffvis_widget.widget.page.relevance import relevance_message
from diffvis_widget.widget.page.requests import compare_message, runs_message
from diffvis_widget.widget.page.saliency import saliency_message
from diffvis_widget.wire import encode
from diffvis_widget.wire import messages as protocol
from diffvis_widget.wire.messages import Message
from diffvis_widget.wire.recorded_run import Layers, layer_messages, messages_of, run_of
from diffvis_widget.wire.shrink import fit, smallest

from .mime_bundle import mime_bundle

if TYPE_CHECKING:
    from diffvis_widget.widget.session.run import Run
    from diffvis_widget.widget.widget import DiffVis

LIMIT = 3_000_000  # bytes of a page without layers

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main></main>
<noscript>This page shows its run with JavaScript, which is switched off here.</noscript>
<script type="application/json" id="dv-traits">{traits}</script>
<script type="application/octet-stream" id="dv-run">{run}</script>
<script>{script}</script>
</body>
</html>
"""
_STYLE = "body{margin:16px;background:light-dark(#fff,#141518);color:light-dark(#1d1f23,#ecedef)}.dv{margin:0 auto}"


def to_html(source: Trace | DiffVis | Sequence[Trace], path: str | os.PathLike[str], *, layers: Layers = False) -> Path:
    """Write a run as one HTML file that works without a kernel and without a network, and return its path.

    source: a trace, or a DiffVis, whose run is waited for; of several traces the last one is shown, with the one before
    it beside for comparison. layers: also put every layer's maps in (True), or every
    head's ("heads", where they were kept); without them the file of a 30-step run of 512 px stays under 3 MB, for
    which pictures and maps of long runs are made smaller. The trace's notes and scores are in the page.

    Raises:
        ValueError: no step is finished, or what was added to the trace (notes, scores) is not of it.
        FileNotFoundError: the folder does not exist, or the front end is not built.
        OSError: the file cannot be written; nothing is left half-written.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {target}: the folder {target.parent} does not exist")
    data = page(_traces(source), layers).encode()

    def write(name: str) -> None:
        Path(name).write_bytes(data)

    return write_whole(target, len(data), write)


def _traces(source: Trace | DiffVis | Sequence[Trace]) -> list[Trace]:
    if isinstance(source, Trace):
        return [source]
    return list(source) if isinstance(source, list | tuple) else [cast("DiffVis", source).trace]


def page(traces: Sequence[Trace], layers: Layers = False) -> str:
    """The page as text; see `to_html`."""
    if not traces:
        raise ValueError("there is no trace to show")
    for trace in traces:
        if not trace.records:
            raise ValueError("this trace has no finished step to show")
        check_additions(trace)
    runs = [run_of(trace, f"recorded-{number}") for number, trace in enumerate(traces, start=1)]
    trace = traces[-1]
    script, style = front_end.standalone()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    beside = runs[-2].id if len(runs) > 1 else ""
    traits = json.dumps({**_traits(trace), "_beside": beside}).replace("<", "\\u003c")
    title = html.escape(trace.prompt.encode("utf-8", "replace").decode() or "A recorded run")

    def filled(run: str) -> str:
        return _PAGE.format(policy=policy, title=title, style=_STYLE + style, traits=traits, run=run, script=script)

    empty = len(filled("").encode())
    answers = [message for run in runs for message in layer_messages(run, layers)]
    messages = [message for run in runs if run.told is not None for message in run.told.messages()]
    if not answers:
        messages = [_without_layers(message) for message in messages]
    answers += [runs_message(0, runs), *_comparisons(runs)]
    known = list(zip(runs, traces, strict=True))
    answers += [saliency_message(0, run.id, trace) for run, trace in known if trace.saliency]
    answers += [relevance_message(0, run.id, trace) for run, trace in known if trace.relevance]
    answers += exports_messages((run.id, trace) for run, trace in known)
    shown = fit(messages, lambda tried: empty + len(_text(tried)) < LIMIT) or smallest(messages)
    return filled(_text([*shown, *answers]))


def _comparisons(runs: Sequence[Run]) -> Iterator[Message]:
    """In numbers how every two runs differ that can be compared."""
    for a, b in itertools.permutations(runs, 2):
        assert a.trace is not None
        assert b.trace is not None
        with contextlib.suppress(ValueError):  # of other sizes, or a compact one: then there are the pictures
            message = compare_message(0, a.trace, b.trace)
            yield Message({**message.content, "a": a.id, "b": b.id}, message.buffers)


def frame(document: str, height: int) -> str:
    """A page as the output of a cell: it can run its own script and hand out downloads, and reach nothing around it."""
    return (
        f'<iframe sandbox="allow-scripts allow-downloads" srcdoc="{html.escape(document)}" title="diffvis_widget" '
        f'style="width:100%;height:{height}px;border:0"></iframe>'
    )


class Static:
    """A run as the output of a cell, for hosts with and without HTML."""

    def __init__(self, trace: Trace, layers: Layers, height: int) -> None:
        if not 100 <= height <= 10_000:
            raise ValueError(f"height must be between 100 and 10000 pixels, not {height!r}")
        self._bundle = {"text/html": frame(page([trace], layers), height), **mime_bundle(messages_of(trace))}

    def __repr__(self) -> str:
        return self._bundle["text/plain"]

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return dict(self._bundle)


def _text(messages: Sequence[Message]) -> str:
    # no time in it, so that the same run gives the same file
    return base64.b64encode(gzip.compress(protocol.pack(messages), 6, mtime=0)).decode()


def _without_layers(message: Message) -> Message:
    """A run whose layers cannot be asked for shows no button that asks for them."""
    if message.content["type"] != "run":
        return message
    return Message({**message.content, "layers": []}, message.buffers)


def _traits(trace: Trace) -> dict[str, Any]:
    settings = encode.recorded_settings(trace)
    return {
        "prompt": settings.prompt,
        "negative_prompt": settings.negative_prompt,
        "seed": settings.seed or 0,
        "steps": settings.steps,
        "guidance_scale": settings.guidance_scale or 0,
        "schedule": settings.schedule,
        "schedule_strength": settings.schedule_strength,
        "weights": settings.weights,
        "concepts": [] if trace.scores is None else trace.scores.concepts,
        "status": encode.state_of(trace),
        "progress": len(trace.steps) / max(settings.steps, 1),
    }
