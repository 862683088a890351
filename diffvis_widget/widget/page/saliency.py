"""Maps of the explaining methods for the page, from the trace or newly computed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from diffvis_widget.explain.methods import find_method
from diffvis_widget.widget.session.jobs import JobFunction, JobResult, ReportProgress, Task
from diffvis_widget.wire.replies import packed_saliency

if TYPE_CHECKING:
    from diffvis_widget.traces import Trace
    from diffvis_widget.widget.session.session import Session


def prepare_saliency(session: Session, task: Task) -> JobFunction:
    """Prepare the job that gives a method's map of one step: the trace's own, else a new one, which the trace stores.

    With a new map comes the time that it took: a better estimate for the next one than that of `prepare_estimates`.

    Args:
        session: the session of the widget.
        task: ``run`` is an id, ``step`` an index, ``method`` a name.

    Returns:
        The job.

    Raises:
        ValueError: there is no such run or method.
        IndexError: there is no such step.
    """
    trace, step, method = _trace(session, task), task.get("step"), task.get("method")
    find_method(str(method))
    if type(step) is not int or not 0 <= step < len(trace.steps):
        raise IndexError(
            f"step {step!r} is out of range: the indices of this run's steps are 0 to {len(trace.steps) - 1}"
        )

    def perform(report: ReportProgress) -> JobResult:
        newest_first = reversed(trace.saliency)
        saliency = next((each for each in newest_first if (each.method, each.step) == (method, step)), None)
        took = None
        if saliency is None:
            from diffvis_widget import explain

            began = time.perf_counter()
            saliency = explain.overlay(trace, step, str(method), progress=report)
            took = time.perf_counter() - began
        content, buffer = packed_saliency([saliency])
        return JobResult({**content, "took": took}, (buffer,))

    return perform


def prepare_estimates(session: Session, task: Task) -> JobFunction:
    """Prepare the job that estimates how long each method will take for a map of a run's step.

    Args:
        session: the session of the widget.
        task: ``run`` is an id.

    Returns:
        The job, which gives seconds by method.

    Raises:
        ValueError: there is no such run.
    """
    trace = _trace(session, task)

    def perform(report: ReportProgress) -> JobResult:
        from diffvis_widget import explain

        return JobResult({"seconds": explain.estimates(trace, 0)})

    return perform


def _trace(session: Session, task: Task) -> Trace:
    return session.trace_of(str(task.get("run")))
