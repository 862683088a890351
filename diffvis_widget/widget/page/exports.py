"""The job that makes a file of a run for the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffvis_widget.export import page_files
from diffvis_widget.export.offers import FILE_KINDS, file_stem, requested_view
from diffvis_widget.step_numbers import step_number
from diffvis_widget.widget.session.jobs import JobFunction, JobResult, ReportProgress, Task

if TYPE_CHECKING:
    from diffvis_widget.widget.session.session import Session


def prepare_export(session: Session, task: Task) -> JobFunction:
    """Prepare the job that makes a file.

    Args:
        session: the session of the widget.
        task: ``what`` is a name in `FILE_KINDS`, ``run`` an id; the rest is the view of the page.

    Returns:
        The job.

    Raises:
        ValueError: there is no such kind or run, or the file would be too large for a page.
        LookupError: there is no such step or word.
    """
    what, run = task.get("what"), task.get("run")
    if not isinstance(what, str) or what not in FILE_KINDS:
        raise ValueError(f"what must be one of {', '.join(map(repr, FILE_KINDS))}, not {what!r}")
    kind, trace, view = FILE_KINDS[what], session.trace_of(str(run)), requested_view(task)
    if what == "trace" and trace.nbytes > page_files.MAX_FILE:
        raise ValueError(page_files.too_large_message())

    def perform(report: ReportProgress) -> JobResult:
        data = page_files.MAKERS[what](trace, view, report)
        name = file_stem(trace.prompt) + kind.suffix.format(step=step_number(view.step))
        return JobResult({"name": name, "mime": kind.mime}, (data,))

    return perform
