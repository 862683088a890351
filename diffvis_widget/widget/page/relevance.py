"""The relevance of a run's words for the page: what its trace has, and what it keeps once that was asked for.

It is of the run itself, and of the same under another sampling scheme.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from diffvis_widget.widget.pipe_argument import traits_of
from diffvis_widget.widget.session.jobs import Perform, Result, Task, Tell
from diffvis_widget.widget.session.run import Run
from diffvis_widget.widget.session.sampling import sample
from diffvis_widget.wire.messages import RunRequest, StepImages
from diffvis_widget.wire.replies import relevance_curves
from diffvis_widget.wire.trace_messages import recorded_settings

if TYPE_CHECKING:
    from diffvis_widget.traces import Trace, WordRelevance
    from diffvis_widget.widget.session.session import Session

SCHEDULES = ("uniform", "early", "late")
RUNNING = 0.1  # about the share of a run in the time of a run and its relevance


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
        return Result(relevance_curves(trace, found))

    return perform


def _found(session: Session, run: Run, trace: Trace, schedule: Any, tell: Tell) -> WordRelevance:
    """schedule: another one than the run's own, which is sampled first; None for the run as it was."""
    from diffvis_widget import explain

    pipe = run.pipe or session.pipe
    if pipe is None:
        raise ValueError("relevance needs the model, and a run that was opened from a file has none: run it again")
    asked = run.request or RunRequest(**traits_of(trace))
    begun = 0.0 if schedule is None else RUNNING

    def stepped(sampled: Trace, shot: StepImages) -> None:
        tell(RUNNING * (shot.step.index + 1) / int(sampled.meta["planned_steps"]))

    def gone(done: int, total: int) -> None:
        tell(begun + (1 - begun) * done / total)

    if schedule is not None:
        trace = sample(pipe, replace(asked, schedule=schedule), session.arguments, stepped)
    kept = explain.relevance_of(pipe, trace, progress=gone, **session.arguments).kept
    return kept if schedule is None else replace(kept, maps=None)
