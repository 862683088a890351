"""Maps of the explaining methods for the page: those that a run's trace has, and new ones, which it then keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffvis_widget.widget.session.jobs import Perform, Result, Task, Tell
from diffvis_widget.wire.replies import packed_saliency

if TYPE_CHECKING:
    from diffvis_widget.traces import Trace
    from diffvis_widget.widget.session.session import Session

METHODS = ("df_rise", "df_cam", "df_lime")  # `dv.explain.OVERLAYS`, known before anything heavy is imported


def saliency(session: Session, task: Task) -> Perform:
    """A method's map of one step: the trace's own, else a new one, appended to `trace.saliency`.

    Raises:
        ValueError: there is no such run or method.
        IndexError: there is no such step.
    """
    trace, step, method = _trace(session, task), task.get("step"), task.get("method")
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    if type(step) is not int or not 0 <= step < len(trace.steps):
        raise IndexError(f"step {step!r} is out of range: this run has steps 0 to {len(trace.steps) - 1}")

    def perform(tell: Tell) -> Result:
        found = next((one for one in reversed(trace.saliency) if (one.method, one.step) == (method, step)), None)
        if found is None:
            from diffvis_widget import explain

            found = explain.overlay(trace, step, method, progress=tell)
            trace.saliency.append(found)
        content, buffer = packed_saliency([found])
        return Result(content, (buffer,))

    return perform


def estimates(session: Session, task: Task) -> Perform:
    """Seconds that each method will take at most for a map of a run's step; ValueError where there is no such run."""
    trace = _trace(session, task)

    def perform(tell: Tell) -> Result:
        from diffvis_widget import explain

        return Result({"seconds": explain.estimates(trace, 0)})

    return perform


def _trace(session: Session, task: Task) -> Trace:
    return session.trace_of(str(task.get("run")))
