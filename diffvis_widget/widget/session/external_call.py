"""Shows a pipeline call that the notebook's own code makes, while it runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from diffvis_widget.cancellation import Cancelled

from .camera import Camera
from .run import Run

if TYPE_CHECKING:
    from diffvis_widget.traces import Step, Trace

    from .session import Session

log = logging.getLogger(__name__)


class CallStopped(Cancelled):
    """Ends a call of the notebook's own code: Stop was pressed in the widget. IPython prints its sentence alone."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


class ExternalCall:
    """One call of a pipeline that a session shows. Its methods are called inside the call, in the caller's thread.

    Args:
        session: the session, whose own run is stopped.
        pipe: the pipeline that is called.
        traits_of: the traits of a widget that shows a trace, by name.

    Raises:
        CallStopped: Stop was pressed in this very moment.
        RuntimeError: the widget is closed.
        ValueError: the widget shows another model.
    """

    def __init__(self, session: Session, pipe: Any, traits_of: Callable[[Trace], Mapping[str, Any]]) -> None:
        self._session = session
        self._traits_of = traits_of
        self._run = Run(None, pipe=pipe)
        try:
            session.begin(self._run)
        except Cancelled:
            raise CallStopped("Stopped in the widget at the first step.") from None
        try:
            self._camera = Camera(pipe)
        except BaseException as error:
            self.end(error)
            raise

    def step(self, trace: Trace, step: Step) -> None:
        """Show a finished step. The first one sets the traits of the widget to the settings of the call.

        Args:
            trace: the trace, with that step.
            step: the step.

        Raises:
            CallStopped: Stop was pressed; it ends the call.
        """
        if self._run.trace is None:
            self._session.runner.show_settings(self._traits_of(trace))
        images = self._camera.images(trace, step)
        self._session.runner.step(self._run, trace, images, self._run.elapsed)
        if self._run.stop.is_set():
            planned = trace.meta.get("planned_steps")
            of = f" of {planned}" if isinstance(planned, int) and planned > step.index else ""
            finished = "step is" if step.index == 0 else "steps are"
            raise CallStopped(
                f"Stopped in the widget after step {step.index + 1}{of}. The finished {finished} in tracer.traces."
            )

    def end(self, error: BaseException | None) -> None:
        """Show that the call has returned or raised. Never raises: the call must not fail because the page does.

        Args:
            error: what the call raised; None if it returned.
        """
        if isinstance(error, Cancelled | KeyboardInterrupt):
            self._run.state = "stopped"
        elif error is not None:
            self._run.fail(error)
        self._session.runner.end(self._run)
