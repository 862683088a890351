"""What a place of the image attends to, for the page: the model is evaluated again, by the session's worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffvis_widget.traces.attended_positions import check_position
from diffvis_widget.widget.session.jobs import JobFunction, JobResult, ReportProgress, Task
from diffvis_widget.wire.attention_messages import attention_content

if TYPE_CHECKING:
    from diffvis_widget.widget.session.session import Session


def prepare_attention(session: Session, task: Task) -> JobFunction:
    """Prepare the job that computes what a place attends to at a step.

    Args:
        session: the session of the widget.
        task: ``run`` is an id, ``step`` the index of a step, ``position`` (y, x) as shares of the image.

    Returns:
        The job.

    Raises:
        TypeError: the position is no pair of numbers.
        ValueError: there is no such run, or the position is outside the image.
    """
    trace = session.trace_of(str(task.get("run")))
    position, step = check_position(task.get("position")), task.get("step")
    if not isinstance(step, int) or isinstance(step, bool):
        raise ValueError(f"step must be the index of a step, not {step!r}")

    def perform(report: ReportProgress) -> JobResult:
        content, buffers = attention_content(trace, step, position)
        return JobResult(content, buffers)

    return perform
