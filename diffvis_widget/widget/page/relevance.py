"""The relevance of a run's words for the page: what its trace has, and what it keeps once that was asked for.

It is of the run itself, and of the same under another sampling scheme.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from diffvis_widget.traces.results.relevance import typed
from diffvis_widget.widget.pipe_argument import traits_of
from diffvis_widget.widget.session.jobs import Perform, Result, Task, Tell
from diffvis_widget.widget.session.run import Run
from diffvis_widget.widget.session.sampling import Request, Shot, sample
from diffvis_widget.wire.encode import recorded_settings
from diffvis_widget.wire.messages import Message, RequestId

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diffvis_widget.traces import Trace, WordRelevance
    from diffvis_widget.widget.session.session import Session

SCHEDULES = ("uniform", "early", "late")
RUNNING = 0.1  # about the share of a run in the time of a run and its relevance


def relevance_message(request: RequestId, run: str, trace: Trace) -> Message:
    """All curves of a trace; of several under one schedule the newest."""
    curves = [_told(trace, one) for one in {one.schedule: one for one in trace.relevance}.values()]
    return Message({"type": "relevance", "id": request, "run": run, "curves": curves})


def relevance(session: Session, task: Task) -> Perform:
    """`explain.relevance` of a run's prompt, seed and settings under ``schedule``, "" for the run's own.

    The trace's own, else a new one, appended to `trace.relevance`; maps are kept of the run as it was.

    Raises:
        ValueError: there is no such run or schedule.
    """
    run, wanted = session.run_of(str(task.get("run"))), task.get("schedule")
    trace = run.trace
    if trace is None:
        raise ValueError("this run has no finished step yet")
    own = recorded_settings(trace).schedule
    schedule = own if wanted == "" else wanted
    if schedule not in (own, *SCHEDULES):
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, not {wanted!r}")

    def perform(tell: Tell) -> Result:
        found = next((one for one in reversed(trace.relevance) if one.schedule == schedule), None)
        if found is None:
            found = _found(session, run, trace, None if schedule == own else schedule, tell)
            trace.relevance.append(found)
        return Result(_told(trace, found))

    return perform


def _found(session: Session, run: Run, trace: Trace, schedule: Any, tell: Tell) -> WordRelevance:
    """schedule: another one than the run's own, which is sampled first; None for the run as it was."""
    from diffvis_widget import explain

    pipe = run.pipe or session.pipe
    if pipe is None:
        raise ValueError("relevance needs the model, and a run that was opened from a file has none: run it again")
    asked = run.request or Request(**traits_of(trace))
    begun = 0.0 if schedule is None else RUNNING

    def stepped(sampled: Trace, shot: Shot) -> None:
        tell(RUNNING * (shot.step.index + 1) / int(sampled.meta["planned_steps"]))

    def gone(done: int, total: int) -> None:
        tell(begun + (1 - begun) * done / total)

    if schedule is not None:
        trace = sample(pipe, replace(asked, schedule=schedule), session.arguments, stepped)
    kept = explain.relevance_of(pipe, trace, progress=gone, **session.arguments).kept
    return kept if schedule is None else replace(kept, maps=None)


def _told(trace: Trace, found: WordRelevance) -> dict[str, Any]:
    words = typed(trace.words)
    return {
        "schedule": found.schedule,
        "own_schedule": recorded_settings(trace).schedule,
        "words": words,
        "timesteps": [round(float(time), 2) for time in found.timesteps],
        "raw": _rows(found.raw[:, words]),
        "scaled": _rows(found.scaled(trace.words)[:, words]),
    }


def _rows(values: NDArray[Any]) -> list[list[float | None]]:
    return [[float(f"{one:.4g}") if math.isfinite(one) else None for one in row] for row in values.tolist()]
