"""Job that a page asks for and that takes a while: saliency maps, decision curves, files. Told how far it is, stopped.

The page asks again and again with the same task until the answer says that it is over: so a page that reloads, or a
message that gets lost, harms nothing. The session's worker does the work when no run wants the model.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from diffvis_widget.cancellation import Cancelled
from diffvis_widget.wire.packed_run import Message, RequestId

from .run import LOCK_POLL
from .threads import calm

log = logging.getLogger(__name__)

Task = Mapping[str, Any]
State = Literal["waiting", "running", "done", "canceled", "failed"]
KEPT = 4  # ended works that nobody has asked after yet


class Result(NamedTuple):
    """What goes into the answer, and its buffers."""

    content: dict[str, Any]
    buffers: tuple[bytes, ...] = ()


class Tell(Protocol):
    """Says how much is done, 0..1, and raises Cancelled once the work is to end."""

    def __call__(self, share: float) -> None: ...


Perform = Callable[[Tell], Result]


@dataclass(eq=False)
class Job:
    """A task from the moment it is asked for. share: 0..1 of it is done; left: seconds, None while nobody knows."""

    task: Task
    perform: Perform
    state: State = "waiting"
    share: float = 0.0
    error: str = ""
    result: Result = field(default_factory=lambda: Result({}))
    stop: threading.Event = field(default_factory=threading.Event)
    began: float = 0.0

    @property
    def over(self) -> bool:
        return self.state not in ("waiting", "running")

    @property
    def left(self) -> float | None:
        if self.state != "running" or self.share < 0.02:
            return None
        return (time.perf_counter() - self.began) * (1 / self.share - 1)

    def tell(self, share: float) -> None:
        if self.stop.is_set():
            raise Cancelled
        self.share = min(1.0, max(self.share, share))

    def do(self) -> None:
        """Perform it in this thread; whatever goes wrong is told in its state."""
        self.state, self.began = "running", time.perf_counter()
        try:
            self.tell(0)
            self.result = self.perform(self.tell)
            self.share, state = 1.0, "done"
        except Cancelled:
            state = "canceled"
        except (LookupError, ValueError, OSError, ImportError, RuntimeError) as cause:
            self.error, state = str(cause.args[0] if isinstance(cause, KeyError) else cause), "failed"
        except Exception as cause:
            log.exception("%s failed", self.task)
            self.error, state = f"{type(cause).__name__}: {cause}", "failed"
        self.state = state


class JobQueue:
    """The works of one session. Every method may be called in any thread; ``wake`` is called when there is one more."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._works: dict[str, Job] = {}

    def ask(self, task: Task, prepare: Callable[[Task], Perform]) -> Job:
        """The work for this task: the one that is there, else a new one, which waits for the worker.

        One that ended is given once and forgotten: asking again begins anew. What ``prepare`` raises is raised.
        """
        key = json.dumps(task, sort_keys=True)
        with self._lock:
            if (known := self._works.get(key)) is not None:
                if known.over:
                    del self._works[key]
                return known
        perform = prepare(task)
        with self._lock:
            work = self._works.setdefault(key, Job(task, perform))
            ended = [name for name, other in self._works.items() if other.over]
            for name in ended[:-KEPT]:
                del self._works[name]
        self._wake()
        return work

    def drop(self, task: Task) -> None:
        """Stop the work for this task; nothing happens where there is none."""
        with self._lock:
            work = self._works.get(json.dumps(task, sort_keys=True))
            if work is not None:
                _stop(work)

    def stop(self) -> None:
        """Stop them all: a run is wanted, or the widget is closed."""
        with self._lock:
            for work in self._works.values():
                _stop(work)

    def next(self) -> Job | None:
        """The oldest work that waits."""
        with self._lock:
            return next((work for work in self._works.values() if work.state == "waiting"), None)


def run_exclusively(work: Job, pipe: Any) -> None:
    """Perform it while no run of another widget, nor of the notebook's own, has the model of ``pipe`` (None: no model).

    It is left alone if it is stopped before its turn has come.
    """
    from diffvis_widget.tracer import denoiser_lock

    if pipe is None:
        work.do()
        return
    lock = denoiser_lock(pipe)
    while not lock.acquire(timeout=LOCK_POLL):
        if work.stop.is_set():
            return
    try:
        with calm(pipe):
            work.do()
    finally:
        lock.release()


def _stop(work: Job) -> None:
    work.stop.set()
    if work.state == "waiting":
        work.state = "canceled"


def job_message(request: RequestId, work: Job) -> Message:
    """How a work stands. Result and buffers come with the state "done"."""
    result = work.result if work.state == "done" else Result({})
    left = work.left
    told = {
        "state": work.state,
        "progress": round(work.share, 4),
        "seconds_left": None if left is None else round(left, 1),
        "error": work.error,
    }
    return Message({**result.content, "type": "job", "id": request, **told}, result.buffers)
