"""Showing a pipeline call that the notebook's own code makes, while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diffvis_widget.cancellation import Cancelled
from diffvis_widget.wire.messages import RunRequest

from .run import Run, explain
from .sampling import Camera

if TYPE_CHECKING:
    from diffvis_widget.traces import Step, Trace

    from .session import Session


class ExternalCall:
    """One followed call. Its methods are called from inside the call, in the caller's thread."""

    def __init__(self, session: Session, pipe: Any) -> None:
        self._session = session
        self._run = Run(None, pipe=pipe)
        self._camera = Camera(pipe)
        self._request: RunRequest | None = None
        session.begin(self._run)

    def step(self, trace: Trace, step: Step) -> None:
        """A step is finished. Raises Cancelled, which ends the call, once Stop was pressed."""
        if self._request is None:
            self._request = _request(trace)
        self._session.step(self._run, self._request, trace, self._camera.shot(trace, step))

    def end(self, error: BaseException | None) -> None:
        """The call has returned, or raised."""
        run = self._run
        if isinstance(error, Cancelled | KeyboardInterrupt):
            run.state = "stopped"
        elif error is not None:
            planned = None if run.trace is None else run.trace.meta.get("planned_steps")
            run.state, run.error, run.cause = "failed", explain(error, run.steps, planned), error
        self._session.end(run)


def _request(trace: Trace) -> RunRequest:
    """What the call asked for, as far as its trace tells."""
    guidance, seed = trace.meta.get("guidance_scale"), trace.meta.get("seed")
    return RunRequest(
        prompt=trace.prompt,
        negative_prompt=trace.negative_prompt or "",
        seed=seed if isinstance(seed, int) else 0,
        guidance_scale=guidance if isinstance(guidance, float) else 1.0,
    )
