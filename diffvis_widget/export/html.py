"""One HTML file that shows a run anywhere: without a kernel and without a network, everything but new runs.

The page contains the run in the packed form, compressed, and the whole front end. It makes no request; a
Content-Security-Policy enforces that, whatever a prompt contains.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from diffvis_widget.arguments import file_path, flag, instance, items, shorten
from diffvis_widget.explain.methods import method_rows
from diffvis_widget.shipped import is_scenes_model
from diffvis_widget.traces import ConceptScores, Trace
from diffvis_widget.traces.file.whole_file import check_destination, write_bytes_whole
from diffvis_widget.traces.noise import lacks_noise_levels
from diffvis_widget.traces.results import check_results
from diffvis_widget.wire.packed_run import Message, pack
from diffvis_widget.wire.recorded_run import Layers, RecordedRun, layer_messages, record
from diffvis_widget.wire.replies import compare_message, result_messages, runs_message
from diffvis_widget.wire.shrink import fit, smallest
from diffvis_widget.wire.trace_messages import recorded_settings, state_of

from .live_page import check_live, live_page
from .offers import offline_exports_messages
from .page_shell import Shell, fill_page

MAX_SIZE = 3_000_000  # bytes of a page without layers


class HasTrace(Protocol):
    """An object with a trace, such as a widget."""

    @property
    def trace(self) -> Trace:
        """The trace of its run."""
        ...


def to_html(
    source: Trace | HasTrace | Sequence[Trace],
    path: str | os.PathLike[str],
    *,
    layers: Layers = False,
    live: bool = False,
) -> Path:
    """Write a run as one HTML file that works without a kernel and without a network.

    Notes and scores of the trace are part of the page. Of several traces of the scenes model, those without scores are
    scored with the concepts of the first one that has some, so that the runs can be compared. Without ``layers`` the
    file stays under 3 MB: images and maps of long runs are made smaller to fit. The page's address can name a step,
    counted from 1, and words: ``run.html#step=12&word=moon``.

    Args:
        source: A trace; a widget, or any other object with a ``trace``; or several traces, of which the last is shown
            and the one before it is the comparison run.
        path: The file to write.
        layers: True adds the maps of each layer; "heads" those of each head, where the trace has them.
        live: True adds the model, for runs of the built-in scenes model only: who opens the page can paint new images
            in it, without Python and without a network. The file then has about 26 MB.

    Returns:
        The path of the file.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: No step is finished, the notes or scores of the trace do not fit it, the path has
            another suffix than .html, `layers` is something else, or `live` is True for a run of another model.
        FileNotFoundError: The folder does not exist, or the front end is not built.
        OSError: The file cannot be written; no part of it is left.

    Example:
        >>> import diffvis_widget as dv, pathlib, tempfile
        >>> trace = dv.trace(dv.load(), "a red circle", num_inference_steps=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     dv.to_html(trace, pathlib.Path(folder, "run.html")).name
        'run.html'
    """
    target = file_path("path", path, ".html", ".htm")
    check_layers(layers)
    flag("live", live)
    check_destination(target)
    return write_bytes_whole(target, page(_traces(source), layers, live).encode())


def check_layers(layers: Any) -> Layers:
    """Check which maps of layers a page contains.

    Args:
        layers: True, False or "heads".

    Returns:
        The same.

    Raises:
        ValueError: It is something else.
    """
    if layers is not True and layers is not False and not (isinstance(layers, str) and layers == "heads"):
        raise ValueError(f'layers must be True, False or "heads", not {shorten(layers)}')
    return layers


def _traces(source: Any) -> list[Trace]:
    if isinstance(source, Trace):
        return [source]
    expected = "a Trace, a widget, or a list of traces"
    if isinstance(source, list | tuple):
        return [instance("source", trace, Trace, expected) for trace in items("source", source, expected)]
    if isinstance(source, str | bytes | type) or not hasattr(type(source), "trace"):
        raise TypeError(f"source must be {expected}, not {shorten(source)}")
    return [instance("source", source.trace, Trace, expected)]


def page(traces: Sequence[Trace], layers: Layers = False, live: bool = False) -> str:
    """The HTML of a page; see `to_html`.

    Args:
        traces: The traces; the last is shown.
        layers: True adds the maps of each layer, "heads" those of each head.
        live: True adds the model.

    Returns:
        The HTML.

    Raises:
        ValueError: There is no trace, no step is finished, the notes or scores of a trace do not fit it, or `live` is
            True for a run of another model.
        FileNotFoundError: The front end is not built.
    """
    if not traces:
        raise ValueError("source: there is no trace to show; give one or more")
    if live:
        check_live(traces)
    for trace in traces:
        if not trace.records:
            raise ValueError("source: this trace has no finished step to show; wait for its run, or run it again")
        check_results(trace, trace.stored_results)
    scores = _scores_of(traces)
    runs = [
        record(trace, f"recorded-{number}", _unknown_words(trace), scores[number - 1])
        for number, trace in enumerate(traces, start=1)
    ]
    trace = traces[-1]
    comparison = runs[-2].id if len(runs) > 1 else ""
    traits = {**_traits(trace, scores[-1]), "_comparison_run": comparison}

    def fill(run: str) -> str:
        return fill_page(Shell(title=trace.prompt, traits=traits, run=run))

    empty = len(fill("").encode())
    answers = [message for run in runs for message in layer_messages(run, layers)]
    messages = [message for run in runs for message in run.payload.messages()]
    if not answers:
        messages = [_without_layers(message) for message in messages]
    answers += [runs_message(0, runs), *_comparisons(runs)]
    traced_runs = list(zip(runs, traces, strict=True))
    methods = method_rows()
    answers += [message for run, trace in traced_runs for message in result_messages(run.id, trace, methods)]
    answers += offline_exports_messages((run.id, trace) for run, trace in traced_runs)
    shown = fit(messages, lambda smaller: empty + len(_encode(smaller)) < MAX_SIZE) or smallest(messages)
    if live:
        return live_page([*shown, *answers], traits, trace.notes, trace.prompt)
    return fill(_encode([*shown, *answers]))


def _scores_of(traces: Sequence[Trace]) -> list[ConceptScores | None]:
    """The scores of each run: its own, else those of the first scored run's concepts, where these can be measured."""
    first = next((trace.scores for trace in traces if trace.scores is not None), None)
    return [_measured(trace, first) if trace.scores is None else trace.scores for trace in traces]


def _measured(trace: Trace, like: ConceptScores | None) -> ConceptScores | None:
    """Measures the concepts of other scores with the same meter; None where it is not the scenes model's own."""
    from diffvis_widget.concepts import default_meter
    from diffvis_widget.concepts.scores import measured_scores

    is_measurable = trace.has_frames("prediction") and not lacks_noise_levels(trace.meta)
    if like is None or not is_measurable or not is_scenes_model(trace.meta.get("fingerprint")):
        return None
    return measured_scores(trace, like.concepts, None) if like.meter == default_meter().label else None


def _vocabulary(trace: Trace) -> dict[str, list[str]]:
    """The words that the page names where the prompt has others."""
    from diffvis_widget import scenes

    return scenes.vocabulary_groups() if is_scenes_model(trace.meta.get("fingerprint")) else {}


def _unknown_words(trace: Trace) -> list[str]:
    """Words of the prompt that the model never saw in training: known of the scenes model only."""
    from diffvis_widget import scenes

    return scenes.unknown_words(trace.prompt) if is_scenes_model(trace.meta.get("fingerprint")) else []


def _comparisons(runs: Sequence[RecordedRun]) -> Iterator[Message]:
    """The comparisons of each two runs that can be compared."""
    for a, b in itertools.permutations(runs, 2):
        with contextlib.suppress(ValueError):  # of other sizes, or compact: the page compares the images only
            message = compare_message(0, a.trace, b.trace)
            yield Message({**message.content, "a": a.id, "b": b.id}, message.buffers)


def _encode(messages: Sequence[Message]) -> str:
    # Without a time stamp, so that the same run gives the same file.
    return base64.b64encode(gzip.compress(pack(messages), 6, mtime=0)).decode()


def _without_layers(message: Message) -> Message:
    """Hides the layers of a run that the page cannot show."""
    if message.content["type"] != "run":
        return message
    return Message({**message.content, "layers": []}, message.buffers)


def _traits(trace: Trace, scores: ConceptScores | None) -> dict[str, Any]:
    settings = recorded_settings(trace)
    return {
        "prompt": settings.prompt,
        "negative_prompt": settings.negative_prompt,
        "seed": settings.seed or 0,
        "steps": settings.steps,
        "guidance_scale": settings.guidance_scale,
        "schedule": settings.schedule,
        "schedule_strength": settings.schedule_strength,
        "weights": settings.weights,
        "concepts": [] if scores is None else scores.concepts,
        "_vocabulary": _vocabulary(trace),
        "status": state_of(trace),
        "progress": len(trace.steps) / max(settings.steps, 1),
    }
