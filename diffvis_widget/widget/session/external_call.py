"""Shows a pipeline call that the notebook's own code makes, while it runs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from diffvis_widget.cancellation import Cancelled
from diffvis_widget.wire.messages import RunRequest

from .run import Run
from .sampling import Camera

if TYPE_CHECKING:
    from diffvis_widget.traces import Step, Trace

    from .session import Session

log = logging.getLogger(__name__)


class ExternalCall:
    """One call of a pipeline that a session shows. Its methods are called inside the call, in the caller's thread.

    Args:
        session: the session, whose own run is stopped.
        pipe: the pipeline that is called.

    Raises:
        RuntimeError: the widget is closed.
        ValueError: the widget shows another model.
    """

    def __init__(self, session: Session, pipe: Any) -> None:
        self._session = session
        self._run = Run(None, pipe=pipe)
        session.begin(self._run)
        try:
            self._camera = Camera(pipe)
        except BaseException as error:
            self.end(error)
            raise
        self._request: RunRequest | None = None

    def step(self, trace: Trace, step: Step) -> None:
        """Show a finished step.

        Args:
            trace: the trace, with that step.
            step: the step.

        Raises:
            Cancelled: Stop was pressed; it ends the call.
        """
        if self._request is None:
            self._request = _request(trace)
        self._session.runner.step(self._run, self._request, trace, self._camera.images(trace, step))

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


def _request(trace: Trace) -> RunRequest:
    """What the call asked for, as far as its trace tells."""
    guidance, seed = trace.meta.get("guidance_scale"), trace.meta.get("seed")
    return RunRequest(
        prompt=trace.prompt,
        negative_prompt=trace.negative_prompt or "",
        seed=seed if isinstance(seed, int) else 0,
        guidance_scale=guidance if isinstance(guidance, float) else None,
    )
