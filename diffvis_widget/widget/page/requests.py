"""Answers to what the page asks the kernel: each question has an id, and exactly one answer or refusal."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from diffvis_widget import front_end
from diffvis_widget.export.offers import exports_message, source_code_message
from diffvis_widget.widget.session.history import RUNS
from diffvis_widget.widget.session.jobs import Perform, Task, job_message
from diffvis_widget.wire import images as pictures
from diffvis_widget.wire import messages as protocol
from diffvis_widget.wire.encode import layers_message
from diffvis_widget.wire.messages import Message, RequestId

from . import decision as deciding
from . import exports as exporting
from . import notes as annotate
from .relevance import relevance, relevance_message
from .saliency import estimates, saliency, saliency_message

if TYPE_CHECKING:
    from diffvis_widget.traces import Trace
    from diffvis_widget.widget.session.run import Run
    from diffvis_widget.widget.session.session import Session

THUMB = 96

JOBS: dict[str, Callable[[Session, Task], Perform]] = {
    "saliency": saliency,
    "estimates": estimates,
    "relevance": relevance,
    "export": exporting.prepare,
    "decision": deciding.prepare,
}


def answer(session: Session, asked: Any) -> Message | None:
    """The answer to ``asked``; None if it is no question.

    Raises:
        ValueError, LookupError, OSError: it cannot be answered; the message says why.
    """
    match asked:
        case {"type": "more", "id": int(request)}:
            return protocol.more_message(request, *front_end.more())
        case {"type": "layers", "id": int(request), "run": str(run), "step": int(step), "word": int(word)}:
            return layers_message(run, request, session.trace_of(run), step, word)
        case {"type": "saliency", "id": int(request), "run": str(run)}:
            return saliency_message(request, run, session.trace_of(run))
        case {"type": "relevance", "id": int(request), "run": str(run)}:
            return relevance_message(request, run, session.trace_of(run))
        case {"type": "runs", "id": int(request)}:
            return runs_message(request, session.history.runs)
        case {"type": "packed", "id": int(request), "run": str(run)}:
            return packed_message(request, session.history.find(run))
        case {"type": "notes", "id": int(request), "run": str(run), "notes": list(notes)}:
            annotate.rewrite(session, run, notes)
            return Message({"type": "notes", "id": request})
        case {"type": "decisions", "id": int(request), "run": str(run)}:
            return Message({"type": "decisions", "id": request, "decisions": session.history.find(run).decisions})
        case {"type": "compare", "id": int(request), "a": str(a), "b": str(b)}:
            return compare_message(request, session.trace_of(a), session.trace_of(b))
        case {"type": "exports", "id": int(request), "run": str(run)}:
            return exports_message(request, run, session.trace_of(run))
        case {"type": "source_code", "id": int(request), "run": str(run), "view": dict(view)}:
            return source_code_message(request, run, session.trace_of(run), view)
        case {"type": "job", "id": int(request), "task": dict(task)}:
            return job_message(request, session.jobs.ask(task, functools.partial(prepare, session)))
        case {"type": "cancel", "id": int(request), "task": dict(task)}:
            session.jobs.drop(task)
            return Message({"type": "cancel", "id": request})
        case _:
            return None


def prepare(session: Session, task: Task) -> Perform:
    """What is to be done for a task, checked as far as that takes no time.

    Raises:
        LookupError, ValueError: it cannot be done.
    """
    if (kind := task.get("kind")) not in JOBS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, JOBS))}, not {kind!r}")
    return JOBS[kind](session, task)


def runs_message(request: RequestId, runs: list[Run]) -> Message:
    """The runs that are kept, oldest first, each with a small picture of its last step."""
    entries: list[dict[str, Any]] = []
    images: list[bytes] = []
    for run in runs:
        if run.told is None:
            continue
        begun = run.told.run.content
        last = run.told.steps[max(run.told.steps)] if run.told.steps else None
        shows = last is not None and "prediction" in last.content["views"]
        if shows and last is not None:
            images.append(pictures.again(last.buffers[last.content["views"].index("prediction")], THUMB, 80))
        names = ("prompt", "seed", "steps", "guidance_scale", "schedule", "schedule_strength", "weights")
        entry = {name: begun[name] for name in names}
        entries.append({**entry, "run": run.id, "state": run.state, "finished": run.steps, "has_image": shows})
    return Message({"type": "runs", "id": request, "limit": RUNS, "runs": entries}, tuple(images))


def compare_message(request: RequestId, a: Trace, b: Trace) -> Message:
    """How two runs differ. Steps are compared one by one where both runs have the same ones, else by their noise."""
    from diffvis_widget.traces.comparison import compare

    same = len(a.steps) == len(b.steps) and np.allclose(a.sigmas, b.sigmas, rtol=0.01, atol=1e-4)
    align = "index" if same else "noise"
    found = compare(a, b, align=align)
    told = {
        "align": align,
        "steps": found.steps.tolist(),
        "words": [{"a": word.a, "b": word.b, "change": word.change} for word in found.words],
        "distance": deciding.numbers(found.distance),
        "threshold": found.threshold,
        "divergence_step": found.divergence_step,
        "maps": [deciding.numbers(row) for row in found.maps],
        "image_difference": found.image_difference,
    }
    return Message({"type": "compare", "id": request, **told})


def packed_message(request: RequestId, run: Run) -> Message:
    """A kept run as a whole, in the packed form."""
    if run.told is None:
        raise ValueError("this run has nothing to show yet")
    return Message({"type": "packed", "id": request, "run": run.id}, (protocol.pack(run.told.messages()),))
