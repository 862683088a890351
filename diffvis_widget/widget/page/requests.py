"""Requests of the page: each has an id and gets exactly one reply, or one error, with that id."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from diffvis_widget import front_end
from diffvis_widget.arguments import shorten
from diffvis_widget.explain.methods import method_rows
from diffvis_widget.export.offers import exports_message, source_code_message
from diffvis_widget.widget.session.history import RUNS
from diffvis_widget.widget.session.jobs import JobFunction, Task, job_message
from diffvis_widget.wire.packed_run import Message, RequestId
from diffvis_widget.wire.replies import (
    compare_message,
    layer_maps,
    layers_message,
    more_message,
    packed_message,
    relevance_message,
    result_message,
    runs_message,
    saliency_message,
)

from .attention import prepare_attention
from .decision import prepare_decision
from .existing_image import prepare_image, take_image
from .exports import prepare_export
from .limits import check_message
from .notes import replace_notes
from .relevance import prepare_relevance
from .saliency import prepare_estimates, prepare_saliency

if TYPE_CHECKING:
    from diffvis_widget.widget.session.session import Session

MAX_NUMBER = 2**53 - 1  # the largest whole number that a page keeps exactly
MAX_TEXT = 128  # characters of an id that is a text

JOBS: dict[str, Callable[[Session, Task], JobFunction]] = {
    "attention": prepare_attention,
    "saliency": prepare_saliency,
    "estimates": prepare_estimates,
    "relevance": prepare_relevance,
    "export": prepare_export,
    "decision": prepare_decision,
    "image": prepare_image,
}


@dataclass(frozen=True)
class RequestType:
    """How requests of one type are answered.

    Attributes:
        reply: called with the session, the id and the fields, by name; returns the reply. What it raises is the error.
        fields: the fields that a request must have beside its id, and their types.
    """

    reply: Callable[..., Message]
    fields: Mapping[str, type] = field(default_factory=dict)

    def fits(self, content: Mapping[str, Any]) -> bool:
        """Whether a request has all fields.

        Args:
            content: the request.

        Returns:
            True if it does. A boolean is no number.
        """
        return all(type(content.get(name)) is kind for name, kind in self.fields.items())


def request_id(content: object) -> RequestId | None:
    """The id of a message from the page.

    Args:
        content: the message.

    Returns:
        The id, as the page sent it; None where there is none.

    Raises:
        ValueError: the id is neither a whole number of at most 2**53 - 1 nor a text of 1 to 128 characters.
    """
    number = content.get("id") if isinstance(content, Mapping) else None
    if not isinstance(number, int | str):
        check_message(number)  # it is written into the error
    match number:
        case None:
            return None
        case int() if not isinstance(number, bool) and abs(number) <= MAX_NUMBER:
            return number
        case str() if 1 <= len(number) <= MAX_TEXT:
            return number
        case _:
            works = f"a whole number of at most 2**53 - 1 or a text of 1 to {MAX_TEXT} characters"
            raise ValueError(f"the id of a request must be {works}; got {shorten(number)}")


def reply(session: Session, request: RequestId | None, content: object) -> Message:
    """Reply to a request. Any error, those of what it calls included, goes to the page with the id.

    Args:
        session: the session of the widget.
        request: the id of the request.
        content: the request.

    Returns:
        The reply.

    Raises:
        ValueError: it is no request, it lacks a field or its id, or it names what does not exist.
    """
    name = content.get("type") if isinstance(content, Mapping) else None
    kind = REQUESTS.get(name) if isinstance(name, str) else None
    if kind is None or not isinstance(content, Mapping) or not kind.fits(content):
        raise ValueError(f"the kernel does not know this message: {shorten(content)}")
    if request is None:
        raise ValueError(f"a request needs an id: {shorten(content)}")
    return kind.reply(session, request, **{name: content[name] for name in kind.fields})


def prepare(session: Session, task: Task) -> JobFunction:
    """Validate a task, as far as that takes no time.

    Args:
        session: the session that will perform it.
        task: JSON data: its ``kind`` is a name in `JOBS`.

    Returns:
        The function that performs it.

    Raises:
        ValueError: there is no such kind, or the task cannot be performed.
        LookupError: it names a step or word that does not exist.
    """
    if (kind := task.get("kind")) not in JOBS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, JOBS))}, not {kind!r}")
    return JOBS[kind](session, task)


# -- the types -------------------------------------------------------------------------------------------------------


def _more(session: Session, request: RequestId) -> Message:
    return more_message(request, *front_end.more())


def _layers(session: Session, request: RequestId, run: str, step: int, word: int) -> Message:
    return layers_message(run, request, step, word, layer_maps(session.trace_of(run), step, word))


def _saliency(session: Session, request: RequestId, run: str) -> Message:
    return saliency_message(request, run, session.trace_of(run), method_rows())


def _relevance(session: Session, request: RequestId, run: str) -> Message:
    return relevance_message(request, run, session.trace_of(run))


def _results(session: Session, request: RequestId, run: str, kind: str) -> Message:
    return result_message(request, run, session.trace_of(run), kind)


def _runs(session: Session, request: RequestId) -> Message:
    return runs_message(request, session.history.runs, RUNS)


def _packed(session: Session, request: RequestId, run: str) -> Message:
    return packed_message(request, session.history.find(run))


def _notes(session: Session, request: RequestId, run: str, notes: list[Any]) -> Message:
    replace_notes(session, run, notes)
    return Message({"type": "notes", "id": request})


def _decisions(session: Session, request: RequestId, run: str) -> Message:
    decisions = session.history.find(run).decisions
    content = {"type": "decisions", "id": request, "decisions": [decision.content for decision in decisions]}
    return Message(content, tuple(image for decision in decisions for image in decision.buffers))


def _compare(session: Session, request: RequestId, a: str, b: str) -> Message:
    return compare_message(request, session.trace_of(a), session.trace_of(b))


def _exports(session: Session, request: RequestId, run: str) -> Message:
    return exports_message(request, run, session.trace_of(run))


def _source_code(session: Session, request: RequestId, run: str, view: dict[str, Any]) -> Message:
    return source_code_message(request, run, session.trace_of(run), view)


def _job(session: Session, request: RequestId, task: dict[str, Any]) -> Message:
    return job_message(request, session.jobs.ask(task, functools.partial(prepare, session)))


def _cancel(session: Session, request: RequestId, task: dict[str, Any]) -> Message:
    session.jobs.cancel(task)
    return Message({"type": "cancel", "id": request})


REQUESTS: dict[str, RequestType] = {
    "more": RequestType(_more),
    "layers": RequestType(_layers, {"run": str, "step": int, "word": int}),
    "saliency": RequestType(_saliency, {"run": str}),
    "relevance": RequestType(_relevance, {"run": str}),
    "results": RequestType(_results, {"run": str, "kind": str}),
    "runs": RequestType(_runs),
    "packed": RequestType(_packed, {"run": str}),
    "notes": RequestType(_notes, {"run": str, "notes": list}),
    "decisions": RequestType(_decisions, {"run": str}),
    "compare": RequestType(_compare, {"a": str, "b": str}),
    "exports": RequestType(_exports, {"run": str}),
    "source_code": RequestType(_source_code, {"run": str, "view": dict}),
    "image": RequestType(take_image, {"data": str}),
    "job": RequestType(_job, {"task": dict}),
    "cancel": RequestType(_cancel, {"task": dict}),
}
