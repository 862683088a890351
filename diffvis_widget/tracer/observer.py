"""What can show a pipeline call while it runs. The tracer knows no more of the widget than this."""

from __future__ import annotations

from typing import Any, Protocol

from diffvis_widget.traces import Step, Trace


class Follower(Protocol):
    """Is told of one call: of each finished step, from inside the call, and of its end, with what it raised."""

    def step(self, trace: Trace, step: Step) -> None: ...

    def end(self, error: BaseException | None) -> None: ...


class View(Protocol):
    """Can be asked to follow one call of a pipeline."""

    def follow(self, pipe: Any) -> Follower: ...
