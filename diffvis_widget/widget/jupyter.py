"""Adapts the widget to the Jupyter kernel that it runs in. Outside of a kernel these functions do nothing."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import Any

_by_cell: dict[str, list[tuple[str, weakref.ref[Any], Callable[[], None]]]] = {}


def let_page_choose_thread(comm: Any) -> None:
    """Deliver the page's messages while a cell is running.

    JupyterLab sends them to a subshell, a thread of its own. Since 7.4 ipykernel redirects them to the shell that last
    wrote to the comm, which is the main one as soon as a cell touches the widget: Stop would wait until
    ``widget.wait()`` in that cell returns. This undoes the redirection for this comm.

    Args:
        comm: The comm of the widget.
    """
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda data, default: default


def stop_earlier_runs_of_this_cell(owner: object, stop: Callable[[], None]) -> None:
    """Stop what earlier executions of the running cell registered here, and register ``stop`` for later ones.

    A user who runs a cell again wants the new run, and does not want to wait for the old one, whose output is gone. The
    old widget stays alive only while a variable of the notebook holds it.

    Args:
        owner: The widget; it is held weakly.
        stop: Stops its run. It must not hold ``owner``.
    """
    cell, execution = _running_cell()
    if cell is None:
        return
    registered = [(run, ref, call) for run, ref, call in _by_cell.get(cell, []) if ref() is not None]
    for run, ref, call in registered:
        if run != execution:
            call()
            let_go(ref())
    same_execution = [entry for entry in registered if entry[0] == execution]
    _by_cell[cell] = [*same_execution, (execution, weakref.ref(owner), stop)]


def has_page() -> bool:
    """Whether the running cell's output is likely to be shown on a page.

    Returns:
        True in a kernel, unless a program executes the cell.
    """
    kernel = _kernel()
    return kernel is not None and not is_unattended()


def is_unattended() -> bool:
    """Whether a program (nbconvert, papermill), and no user, executes the running cell.

    Returns:
        True where it does.
    """
    return getattr(_kernel(), "_allow_stdin", True) is False


def _kernel() -> Any:
    ipython = sys.modules.get("IPython")
    return None if ipython is None else getattr(ipython.get_ipython(), "kernel", None)


def let_go(widget: Any) -> None:
    """Release the references to a widget that ipywidgets holds: its registry, and the comm that delivers messages.

    The widget works as long as something else refers to it. Then it is garbage collected and closes itself.

    Args:
        widget: The widget, or None.
    """
    from ipywidgets.widgets import widget as ipywidgets

    if widget is None or widget.comm is None:
        return
    ipywidgets._instances.pop(widget.model_id, None)
    reference = weakref.ref(widget)

    def deliver(message: Any) -> None:
        if (alive := reference()) is not None:
            alive._handle_msg(message)

    widget.comm.on_msg(deliver)


def _running_cell() -> tuple[str | None, str]:
    """The id of the running cell, where the host gives it, and of this execution."""
    ipython = sys.modules.get("IPython")  # if it was never imported, this is not a kernel
    kernel = None if ipython is None else getattr(ipython.get_ipython(), "kernel", None)
    if kernel is None:
        return None, ""
    parent = kernel.get_parent()
    cell = parent.get("metadata", {}).get("cellId")
    return (cell, parent["header"]["msg_id"]) if isinstance(cell, str) and "header" in parent else (None, "")
