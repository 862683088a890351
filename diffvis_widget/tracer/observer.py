"""What can show pipeline calls while they run. The tracer knows no more of the widget than these protocols."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from diffvis_widget.traces import Step, Trace


class CallObserver(Protocol):
    """Observes one pipeline call, in the thread that makes it."""

    def step(self, trace: Trace, step: Step) -> None:
        """Called after each denoising step, from inside the call.

        Args:
            trace: Everything recorded so far.
            step: The finished step.
        """
        ...

    def end(self, error: BaseException | None) -> None:
        """Called when the call is over.

        Args:
            error: The exception that the call raised, or None.
        """
        ...


@runtime_checkable
class Observer(Protocol):
    """Can observe calls of a pipeline; a DiffVis is one."""

    def check_model(self, pipe: Any) -> None:
        """Check that calls of a pipeline can be observed, before the first one is made.

        Args:
            pipe: The pipeline.

        Raises:
            ValueError: The observer belongs to another model.
        """
        ...

    def follow(self, pipe: Any) -> CallObserver:
        """Observe one call, which begins now.

        Args:
            pipe: The pipeline.

        Returns:
            The observer of that call.
        """
        ...
