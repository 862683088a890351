"""What a session was asked for and how it stands with it: its threads read and change it under one lock."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from .run import Run

if TYPE_CHECKING:
    from diffvis_widget.traces import Trace


class Show(Protocol):
    """Sets traits of the widget; does nothing once the widget is gone."""

    def __call__(self, **traits: Any) -> None: ...


@dataclass(eq=False)
class SessionState:
    """``changed`` is the lock of all the rest, and is notified when the worker has something else to do."""

    load: bool = False  # the pipeline is still to be loaded
    recorded: Trace | None = None  # what a widget without a pipeline shows
    wanted: Run | None = None
    active: Run | None = None
    latest: Run | None = None  # the last run that ended, whatever way
    finished: Run | None = None  # the run that is shown
    again: Run | None = None  # a kept run that is to be shown again
    to_compare: Trace | None = None  # a recorded run that is to be laid beside
    closed: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def busy(self) -> bool:
        if self.closed:
            return False
        showing = self.recorded is not None and self.finished is None
        asked = self.wanted is not None or self.again is not None or self.to_compare is not None
        return self.load or showing or asked or self.active is not None

    def wake(self) -> None:
        with self.changed:
            self.changed.notify_all()
