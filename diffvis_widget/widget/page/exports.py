"""Makes the files of a run that the page asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffvis_widget.export import page_files
from diffvis_widget.export.offers import FILE_KINDS, file_stem, requested_view
from diffvis_widget.widget.session.history import size as size_of
from diffvis_widget.widget.session.jobs import Perform, Result, Task, Tell

if TYPE_CHECKING:
    from diffvis_widget.widget.session.session import Session


def prepare(session: Session, task: Task) -> Perform:
    """The file that a task asks for.

    Raises:
        LookupError, ValueError: there is no such kind, run, step or word, or it would be too large for a page.
    """
    what, run = task.get("what"), task.get("run")
    if not isinstance(what, str) or what not in FILE_KINDS:
        raise ValueError(f"what must be one of {', '.join(map(repr, FILE_KINDS))}, not {what!r}")
    kind, trace, view = FILE_KINDS[what], session.trace_of(str(run)), requested_view(task)
    if what == "trace" and size_of(trace) > page_files.MAX_FILE:
        raise ValueError(page_files.too_large_message())

    def perform(tell: Tell) -> Result:
        data = page_files.MAKERS[what](trace, view, tell)
        name = file_stem(trace.prompt) + kind.suffix.format(step=view.step + 1)
        return Result({"name": name, "mime": kind.mime}, (data,))

    return perform
