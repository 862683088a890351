"""Shows a recorded call in a view, whose errors do not end the call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diffvis_widget.cancellation import Cancelled
from diffvis_widget.traces import Step, Trace

from .fault_guard import FaultGuard
from .observer import CallObserver, Observer


class CallView:
    """Shows the calls of one recording.

    Args:
        pipe: The pipeline.
        observer: The view, or None.
        guard: Lets the view cancel the call.
    """

    def __init__(self, pipe: Any, observer: Observer | None, guard: FaultGuard) -> None:
        self._pipe = pipe
        self._observer = observer
        self._guard = guard
        self._call: CallObserver | None = None
        self._has_failed = False

    def step(self, trace: Trace, step: Step) -> None:
        """Show a finished step.

        Args:
            trace: Everything recorded so far.
            step: The step.

        Raises:
            Cancelled: The view ends the call.
        """
        observer = self._observer
        if observer is None or self._has_failed:
            return

        def show() -> None:
            if self._call is None:
                self._call = observer.follow(self._pipe)
            self._call.step(trace, step)

        self._try(show)

    def end(self, error: BaseException | None) -> None:
        """Show that the call is over.

        Args:
            error: The exception that ended it, or None.
        """
        call, self._call = self._call, None
        if call is not None:
            self._try(lambda: call.end(error))
        self._has_failed = False

    def _try(self, show: Callable[[], None]) -> None:
        try:
            show()
        except Cancelled as error:
            self._guard.let_pass(error)
            raise
        except Exception as error:  # noqa: BLE001 - the call must not fail because its view does
            self._has_failed = True
            self._guard.warn(f"the view shows this call no further: {type(error).__name__}: {error}")
