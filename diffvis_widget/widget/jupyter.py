"""What the widget must know of the Jupyter kernel it lives in, and nothing where there is none."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import Any

_by_cell: dict[str, list[tuple[str, weakref.ref[Any], Callable[[], None]]]] = {}


def let_page_choose_thread(comm: Any) -> None:
    """Make the page's messages reach Python while a cell is running.

    JupyterLab sends them to a subshell, a thread of its own. From 7.4 on, ipykernel sends them instead to the shell
    that last wrote to the comm, which is the main one as soon as a cell touches the widget: then Stop waits until
    ``widget.wait()`` in that cell returns. This undoes the redirection for this comm; elsewhere it does nothing.
    """
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda data, default: default


def stop_earlier_runs_of_this_cell(owner: object, stop: Callable[[], None]) -> None:
    """Call what earlier executions of the running cell registered here, and register ``stop`` for later ones.

    Somebody who runs a cell again wants the new run, not to wait for the old one that nobody can see any more. The
    widget of the old one lives on only if the notebook's own names still hold it. ``stop`` must not hold ``owner``.
    """
    cell, execution = _running_cell()
    if cell is None:
        return
    known = [(run, ref, call) for run, ref, call in _by_cell.get(cell, []) if ref() is not None]
    for run, ref, call in known:
        if run != execution:
            call()
            let_go(ref())
    here = [entry for entry in known if entry[0] == execution]
    _by_cell[cell] = [*here, (execution, weakref.ref(owner), stop)]


def is_unattended() -> bool:
    """Whether the running cell is executed by a program (nbconvert, papermill): nobody watches."""
    ipython = sys.modules.get("IPython")
    kernel = None if ipython is None else getattr(ipython.get_ipython(), "kernel", None)
    return getattr(kernel, "_allow_stdin", True) is False


def let_go(widget: Any) -> None:
    """Undo what ipywidgets holds a widget with: its list of all widgets, and the comm that delivers messages to it.

    It goes on working for whoever has it; when nobody has, it is collected, and closes itself then.
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
    """The id of the cell that is being executed, where the host tells it, and of this execution."""
    ipython = sys.modules.get("IPython")  # where nobody imported it, this is no kernel
    kernel = None if ipython is None else getattr(ipython.get_ipython(), "kernel", None)
    if kernel is None:
        return None, ""
    parent = kernel.get_parent()
    cell = parent.get("metadata", {}).get("cellId")
    return (cell, parent["header"]["msg_id"]) if isinstance(cell, str) and "header" in parent else (None, "")
