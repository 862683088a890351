"""The relevance of a run's words for the page: of the run itself, and of the same run under another schedule."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from diffvis_widget.export.repeatable import SCHEDULE_ARGUMENTS, call_arguments, check_repeatable
from diffvis_widget.widget.pipe_argument import traits_of
from diffvis_widget.widget.session.jobs import JobFunction, JobResult, ReportProgress, Task
from diffvis_widget.widget.session.run import Run
from diffvis_widget.widget.session.sampling import sample
from diffvis_widget.wire.messages import RunRequest
from diffvis_widget.wire.replies import relevance_curves
from diffvis_widget.wire.trace_messages import recorded_settings

if TYPE_CHECKING:
    from diffvis_widget.traces import Step, Trace, WordRelevance
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
        raise ValueError("this run has no finished step yet: try again after its first one")
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
    request, arguments = run.request, dict(session.arguments)
    if request is None:  # a call of the user's own
        if other_schedule is not None:
            check_repeatable(trace.meta, "run it in the widget to compare schedules")
        request = RunRequest(**traits_of(trace))
        arguments = {
            name: value for name, value in call_arguments(trace.meta).items() if name not in SCHEDULE_ARGUMENTS
        }
    before = 0.0 if other_schedule is None else SAMPLING

    def sampled(sample_trace: Trace, step: Step) -> None:
        report(SAMPLING * (step.index + 1) / int(sample_trace.meta["planned_steps"]))

    def computed(done: int, total: int) -> None:
        report(before + (1 - before) * done / total)

    if other_schedule is not None:
        recorded, trace = trace, sample(pipe, replace(request, schedule=other_schedule), arguments, sampled)
        _check_noise(recorded, trace)
    relevance = explain.relevance_of(pipe, trace, progress=computed, **arguments).stored
    return relevance if other_schedule is None else replace(relevance, maps=None)


def _check_noise(recorded: Trace, sampled: Trace) -> None:
    """Raise ValueError unless both runs begin with the same noise; schedules differ in its scale."""
    noises = [trace.latents[0].astype(np.float32) for trace in (recorded, sampled)]
    first, second = (noise / max(float(noise.std()), 1e-12) for noise in noises)
    if first.shape != second.shape or not np.allclose(first, second, atol=1e-2):
        raise ValueError(
            "sampled again, this run begins with other noise than the recorded one, so their relevance cannot be "
            "compared: run it in the widget"
        )
