"""Long jobs that a page requests: saliency maps, decision curves, files.

The page repeats its request until a reply says that the job has ended, so a reload or a lost message does no harm. The
session's worker performs a job when no run needs the model.
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

from .run import LOCK_POLL, error_text
from .threads import single_threaded_denoiser

log = logging.getLogger(__name__)

Task = Mapping[str, Any]
JobState = Literal["waiting", "running", "done", "canceled", "failed"]
WAITING = 32  # jobs that may wait or run at a time
ENDED = 4  # ended jobs that are kept until the page asks for them
EXPECTED = (LookupError, ValueError, OSError, ImportError, RuntimeError)  # their messages are written for the reader


class JobResult(NamedTuple):
    """The result of a job.

    Attributes:
        content: the fields of the reply.
        buffers: its binary buffers.
    """

    content: dict[str, Any]
    buffers: tuple[bytes, ...] = ()


class ReportProgress(Protocol):
    """Reports how much of a job is done."""

    def __call__(self, progress: float) -> None:
        """Report progress.

        Args:
            progress: the finished share, 0..1; it never falls.

        Raises:
            Cancelled: the job was cancelled.
        """
        ...


JobFunction = Callable[[ReportProgress], JobResult]


@dataclass(eq=False)
class Job:
    """A task and its state, from the request of the page to the result.

    Attributes:
        task: the request of the page, JSON data.
        function: performs it.
        state: "waiting" or "running", or how it ended.
        progress: the finished share, 0..1.
        error: why it failed.
        result: what `function` returned; empty before that.
        stop: set to cancel it.
        started: when it began, on the performance counter.
    """

    task: Task
    function: JobFunction
    state: JobState = "waiting"
    progress: float = 0.0
    error: str = ""
    result: JobResult = field(default_factory=lambda: JobResult({}))
    stop: threading.Event = field(default_factory=threading.Event)
    started: float = 0.0

    @property
    def over(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.state not in ("waiting", "running")

    @property
    def seconds_left(self) -> float | None:
        """How long it will take from now; None while that is not known."""
        if self.state != "running" or self.progress < 0.02:
            return None
        return (time.perf_counter() - self.started) * (1 / self.progress - 1)

    def report(self, progress: float) -> None:
        """Record progress.

        Args:
            progress: the finished share, 0..1.

        Raises:
            Cancelled: the job was cancelled.
        """
        if self.stop.is_set():
            raise Cancelled
        self.progress = min(1.0, max(self.progress, progress))

    def cancel(self) -> None:
        """Cancel it: at once if it waits, else at its next report."""
        self.stop.set()
        if self.state == "waiting":
            self.state = "canceled"

    def run(self) -> None:
        """Perform it in this thread. Never raises: what goes wrong ends in ``state`` and ``error``."""
        self.state, self.started = "running", time.perf_counter()
        try:
            self.report(0)
            self.result = self.function(self.report)
            self.progress, self.state = 1.0, "done"
        except Cancelled:
            self.state = "canceled"
        except BaseException as error:  # noqa: BLE001 - the page must learn that the job ended, whatever it raised
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """End it because of an error.

        Args:
            error: what was raised.
        """
        expected = isinstance(error, EXPECTED)
        if not expected:
            log.error("%s failed", self.task, exc_info=error)
        self.error = error_text(error) if expected else f"{type(error).__name__}: {error_text(error)}"
        self.state = "failed"


class JobQueue:
    """The jobs of one session. Every method may be called in any thread.

    Args:
        wake: called when a job is added.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = threading.RLock()  # re-entrant: the garbage collector may close a widget in any thread
        self._jobs: dict[str, Job] = {}
        self._inputs: dict[str, Any] = {}

    def put_input(self, key: str, value: Any) -> None:
        """Store an input of a later job that is too large for its task; it replaces the stored one.

        Args:
            key: its name in the task.
            value: the input.
        """
        with self._lock:
            self._inputs = {key: value}

    def input_of(self, key: object) -> Any:
        """Look up the stored input of a job.

        Args:
            key: its name in the task.

        Returns:
            The input; None unless it is the one that is stored.
        """
        with self._lock:
            return self._inputs.get(key) if isinstance(key, str) else None

    def ask(self, task: Task, prepare: Callable[[Task], JobFunction]) -> Job:
        """The job for a task: the one that exists, else a new one, which waits for the worker.

        A job that has ended is returned once and then forgotten, so the same request then starts a new one.

        Args:
            task: JSON data that says what to do.
            prepare: checks a new task and returns the function that performs it; what it raises is raised.

        Returns:
            The job.

        Raises:
            ValueError: too many jobs wait already.
        """
        key = json.dumps(task, sort_keys=True)
        with self._lock:
            if (job := self._jobs.get(key)) is not None:
                if job.over:
                    del self._jobs[key]
                return job
        function = prepare(task)
        with self._lock:
            if sum(not other.over for other in self._jobs.values()) >= WAITING:
                raise ValueError(f"{WAITING} jobs are waiting or running already: wait, or stop some of them")
            job = self._jobs.setdefault(key, Job(task, function))
            ended = [name for name, other in self._jobs.items() if other.over]
            for name in ended[:-ENDED]:
                del self._jobs[name]
        self._wake()
        return job

    def cancel(self, task: Task) -> None:
        """Cancel the job for a task; nothing happens where there is none.

        Args:
            task: the same data as for `ask`.
        """
        with self._lock:
            job = self._jobs.get(json.dumps(task, sort_keys=True))
            if job is not None:
                job.cancel()

    def cancel_all(self) -> None:
        """Cancel every job: a run is requested, or the widget is closed."""
        with self._lock:
            for job in self._jobs.values():
                job.cancel()

    def next(self) -> Job | None:
        """Find the job that has waited longest.

        Returns:
            The job; None if none waits.
        """
        with self._lock:
            return next((job for job in self._jobs.values() if job.state == "waiting"), None)


def run_exclusively(job: Job, pipe: Any) -> None:
    """Perform a job while it alone uses the model. Never raises; a job cancelled before its turn is left alone.

    Args:
        job: a job that waits.
        pipe: the pipeline whose denoiser no other run may use meanwhile; None for a job without a model.
    """
    from diffvis_widget.tracer import denoiser_lock

    try:
        if pipe is None:
            job.run()
            return
        lock = denoiser_lock(pipe)
        while not lock.acquire(timeout=LOCK_POLL):
            if job.stop.is_set():
                return
        try:
            with single_threaded_denoiser(pipe):
                job.run()
        finally:
            lock.release()
    except BaseException as error:  # noqa: BLE001 - a job that stays waiting would be tried for ever
        job.fail(error)


def job_message(request: RequestId, job: Job) -> Message:
    """The state of a job as a reply. Its result and buffers come with the state "done".

    Args:
        request: the id of the request.
        job: the job.

    Returns:
        The reply.
    """
    result = job.result if job.state == "done" else JobResult({})
    seconds = job.seconds_left
    standing = {
        "state": job.state,
        "progress": round(job.progress, 4),
        "seconds_left": None if seconds is None else round(seconds, 1),
        "error": job.error,
    }
    return Message({**result.content, "type": "job", "id": request, **standing}, result.buffers)
