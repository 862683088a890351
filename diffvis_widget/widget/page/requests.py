"""Answers to what the page asks the kernel: each question has an id, and exactly one answer or refusal."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from diffvis_widget import front_end
from diffvis_widget.export.offers import exports_message, source_code_message
from diffvis_widget.widget.session.history import RUNS
from diffvis_widget.widget.session.jobs import Perform, Task, job_message
from diffvis_widget.wire.packed_run import Message
from diffvis_widget.wire.replies import (
    compare_message,
    layer_maps,
    layers_message,
    more_message,
    packed_message,
    relevance_message,
    runs_message,
    saliency_message,
)

from . import decision as deciding
from . import exports as exporting
from . import notes as annotate
from .relevance import relevance
from .saliency import estimates, saliency

if TYPE_CHECKING:
    from diffvis_widget.widget.session.session import Session

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
            return more_message(request, *front_end.more())
        case {"type": "layers", "id": int(request), "run": str(run), "step": int(step), "word": int(word)}:
            return layers_message(run, request, step, word, layer_maps(session.trace_of(run), step, word))
        case {"type": "saliency", "id": int(request), "run": str(run)}:
            return saliency_message(request, run, session.trace_of(run))
        case {"type": "relevance", "id": int(request), "run": str(run)}:
            return relevance_message(request, run, session.trace_of(run))
        case {"type": "runs", "id": int(request)}:
            return runs_message(request, session.history.runs, RUNS)
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
