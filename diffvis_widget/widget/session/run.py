"""What the session keeps of one run, and how it says that one went wrong."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from diffvis_widget.cancellation import Cancelled
from diffvis_widget.wire.messages import RunRequest

if TYPE_CHECKING:
    from diffvis_widget.traces import Trace
    from diffvis_widget.wire.messages import RunPayload

LOCK_POLL = 0.05  # whoever waits for a model looks this often whether it is still wanted

_numbers = itertools.count(1)
_PROCESS = uuid.uuid4().hex[:8]  # ids must differ from those in a notebook saved by an earlier kernel


class RunFailed(RuntimeError):
    """The latest run failed. ``trace`` holds the steps that were finished, or is None where there are none."""

    def __init__(self, message: str, trace: Trace | None) -> None:
        super().__init__(message)
        self.trace = trace


@dataclass(eq=False)
class Run:
    """A run from the moment it is asked for."""

    request: RunRequest | None
    pipe: Any = None  # of a run that was made elsewhere and only followed: its pipeline
    id: str = field(default_factory=lambda: f"{_PROCESS}-{next(_numbers)}")
    stop: threading.Event = field(default_factory=threading.Event)
    started: float = field(default_factory=time.perf_counter)
    trace: Trace | None = None
    payload: RunPayload | None = None  # what the page was told of it, to tell it again
    decisions: list[dict[str, Any]] = field(
        default_factory=list
    )  # what was found out about when its words were decided
    inexact: set[int] = field(default_factory=set)  # steps whose picture is a linear preview so far
    decode_seconds: float = 0.0  # what one exact picture costs
    has_pictures: bool = True
    state: str = "queued"
    error: str = ""
    cause: BaseException | None = None

    @property
    def steps(self) -> int:
        return 0 if self.trace is None else len(self.trace.records)

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self.started

    def check(self) -> None:
        """Raise Cancelled if the run is to end."""
        if self.stop.is_set():
            raise Cancelled


def explain(error: BaseException, steps: int, planned: int | None) -> str:
    """What happened and what to do, for the reader of the page."""
    said = f"{type(error).__name__}: {error}".strip().removesuffix(":")
    kept = f" The {steps} finished {'step is' if steps == 1 else 'steps are'} kept." if steps else ""
    where = f"Step {steps + 1} of {planned} failed: " if planned else ""
    return f"{where}{said}{'' if said.endswith('.') else '.'}{kept} {_advice(error)}"


def _advice(error: BaseException) -> str:
    if type(error).__name__ == "OutOfMemoryError" or "out of memory" in str(error).lower():
        return "Use a smaller height and width, half precision, or pipe.enable_model_cpu_offload(), and run again."
    if isinstance(error, FileNotFoundError | ConnectionError):
        return "Put the files in place or name another model, and run again."
    return "Change what it complains about and run again; widget.trace raises it with its full traceback."
