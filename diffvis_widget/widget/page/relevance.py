"""The relevance of a run's words for the page: of the run itself, and of the same run under another schedule."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from diffvis_widget.widget.pipe_argument import traits_of
from diffvis_widget.widget.session.jobs import JobFunction, JobResult, ReportProgress, Task
from diffvis_widget.widget.session.run import Run
from diffvis_widget.widget.session.sampling import sample
from diffvis_widget.wire.messages import RunRequest, StepImages
from diffvis_widget.wire.replies import relevance_curves
from diffvis_widget.wire.trace_messages import recorded_settings

if TYPE_CHECKING:
    from diffvis_widget.traces import Trace, WordRelevance
    from diffvis_widget.widget.session.session import Session

SCHEDULES = ("uniform", "early", "late")
SAMPLING = 0.1  # about the share of sampling in the time of sampling a run and computing its relevance


def prepare_relevance(session: Session, task: Task) -> JobFunction:
    """Prepare the job that gives the relevance of a run's prompt, seed and settings under a schedule.

    The job takes it from the trace, or computes it and keeps it there; maps are kept of the run's own schedule only.

    Args:
        session: the session of the widget.
        task: ``run`` is an id, ``schedule`` a name or "" for the run's own.

    Returns:
        The job.

    Raises:
        ValueError: there is no such run or schedule.
    """
    run, schedule = session.run_of(str(task.get("run"))), task.get("schedule")
    trace = run.trace
    if trace is None:
        raise ValueError("this run has no finished step yet")
    own_schedule = recorded_settings(trace).schedule
    if schedule == "":
        schedule = own_schedule
    if schedule not in (own_schedule, *SCHEDULES):
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, not {schedule!r}")

    def perform(report: ReportProgress) -> JobResult:
        relevance = next((each for each in reversed(trace.relevance) if each.schedule == schedule), None)
        if relevance is None:
            other_schedule = None if schedule == own_schedule else schedule
            relevance = _compute(session, run, trace, other_schedule, report)
            trace.relevance.append(relevance)
        return JobResult(relevance_curves(trace, relevance))

    return perform


def _compute(session: Session, run: Run, trace: Trace, other_schedule: Any, report: ReportProgress) -> WordRelevance:
    """Under another schedule the run is sampled first; None takes it as it was."""
    from diffvis_widget import explain

    pipe = run.pipe or session.pipe
    if pipe is None:
        raise ValueError("relevance needs the model, and a run that was opened from a file has none: run it again")
    request = run.request or RunRequest(**traits_of(trace))
    before = 0.0 if other_schedule is None else SAMPLING

    def sampled(sample_trace: Trace, images: StepImages) -> None:
        report(SAMPLING * (images.step.index + 1) / int(sample_trace.meta["planned_steps"]))

    def computed(done: int, total: int) -> None:
        report(before + (1 - before) * done / total)

    if other_schedule is not None:
        trace = sample(pipe, replace(request, schedule=other_schedule), session.arguments, sampled)
    relevance = explain.relevance_of(pipe, trace, progress=computed, **session.arguments).stored
    return relevance if other_schedule is None else replace(relevance, maps=None)
