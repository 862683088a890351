"""The relevance of a run's words for the page: of the run itself, and of the same under another sampling scheme."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from diffvis_widget.widget.encode import recorded_settings
from diffvis_widget.widget.runs import Run
from diffvis_widget.widget.sampling import Request, Shot, sample
from diffvis_widget.widget.sources import traits_of
from diffvis_widget.widget.works import Perform, Result, Task, Tell

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diffvis_widget.traces import Trace
    from diffvis_widget.widget.session import Session

SCHEDULES = ("uniform", "early", "late")
RUNNING = 0.1  # about the share of a run in the time of a run and its relevance


def relevance(session: Session, task: Task) -> Perform:
    """`explain.relevance` of a run's prompt, seed and settings under ``schedule``, "" for the run's own; kept with it.

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
        if schedule not in run.relevance:
            run.relevance[schedule] = _found(session, run, trace, None if schedule == own else schedule, tell)
        return Result({"schedule": schedule, **run.relevance[schedule]})

    return perform


def _found(session: Session, run: Run, trace: Trace, schedule: Any, tell: Tell) -> dict[str, Any]:
    """schedule: another one than the run's own, which is sampled first; None for the run as it was."""
    from diffvis_widget import explain

    pipe = run.pipe or session.pipe
    if pipe is None:
        raise ValueError("relevance needs the model, and a run that was opened from a file has none: run it again")
    begun = 0.0
    if schedule is not None:
        asked = run.request or Request(**traits_of(trace))

        def stepped(sampled: Trace, shot: Shot) -> None:
            tell(RUNNING * (shot.step.index + 1) / int(sampled.meta["planned_steps"]))

        trace = sample(pipe, replace(asked, schedule=schedule), session.arguments, stepped)
        begun = RUNNING

    def gone(done: int, total: int) -> None:
        tell(begun + (1 - begun) * done / total)

    found = explain.relevance_of(pipe, trace, progress=gone, **session.arguments)
    typed = [index for index, word in enumerate(trace.words) if word.kind == "word" and word.tokens]
    return {
        "words": typed,
        "timesteps": [round(float(time), 2) for time in trace.timesteps],
        "raw": _rows(found.raw[:, typed]),
        "scaled": _rows(found.scaled[:, typed]),
    }


def _rows(values: NDArray[Any]) -> list[list[float | None]]:
    return [[float(f"{one:.4g}") if math.isfinite(one) else None for one in row] for row in values.tolist()]
