"""One run of a session, and how its failure is explained."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from diffvis_widget.cancellation import Cancelled
from diffvis_widget.wire.messages import RunPayload, RunRequest
from diffvis_widget.wire.packed_run import Message

if TYPE_CHECKING:
    from diffvis_widget.traces import Trace

LOCK_POLL = 0.05  # seconds after which a thread that waits for a model checks whether its run was stopped

_numbers = itertools.count(1)
_PROCESS = uuid.uuid4().hex[:8]  # ids must differ from those in a notebook saved by an earlier kernel


class RunFailed(RuntimeError):
    """The latest run failed.

    Args:
        message: what happened and what to do.
        trace: the trace of the finished steps, or None where there are none; also an attribute.
    """

    def __init__(self, message: str, trace: Trace | None) -> None:
        super().__init__(message)
        self.trace = trace


@dataclass(eq=False)
class Run:
    """A run from the moment it is requested.

    Attributes:
        request: what to run; None where the run was made elsewhere.
        pipe: the pipeline of a run that the notebook's own code makes; None for the session's own.
        id: unique in this process and in notebooks saved by earlier ones.
        stop: set to end the run at its next step.
        started: when it began, on the performance counter.
        trace: the finished steps; None before the first.
        payload: the messages that show it, to show it again.
        decisions: decision curves of its words with their images, as the page gets them.
        inexact: steps whose image is a linear preview so far.
        inexact_latents: steps whose noisy image is one, and is to be decoded in idle time.
        decode_seconds: duration of one exact decode.
        has_images: whether its predictions can be decoded.
        state: "queued", "done", "stopped" or "failed".
        error: why it failed, for the reader of the page.
        cause: the exception that ended it.
        part: its part in several runs that were requested together: a "draft" with few steps, or one of the "seeds".
    """

    request: RunRequest | None
    pipe: Any = None
    id: str = field(default_factory=lambda: f"{_PROCESS}-{next(_numbers)}")
    stop: threading.Event = field(default_factory=threading.Event)
    started: float = field(default_factory=time.perf_counter)
    trace: Trace | None = None
    payload: RunPayload | None = None
    decisions: list[Message] = field(default_factory=list)
    inexact: set[int] = field(default_factory=set)
    inexact_latents: set[int] = field(default_factory=set)
    decode_seconds: float = 0.0
    has_images: bool = True
    state: str = "queued"
    error: str = ""
    cause: BaseException | None = None
    part: Literal["", "draft", "seeds"] = ""

    @property
    def steps(self) -> int:
        """Number of finished steps."""
        return 0 if self.trace is None else len(self.trace.records)

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.perf_counter() - self.started

    @property
    def nbytes(self) -> int:
        """Bytes of its trace, decoded frames included, and of the messages that show it."""
        messages = [] if self.payload is None else [self.payload.run, *self.payload.steps.values(), self.payload.end]
        messages = [*messages, *self.decisions]
        encoded = sum(message.size for message in messages if message is not None)
        return encoded + (0 if self.trace is None else self.trace.nbytes)

    def check(self) -> None:
        """Raise an exception if the run was stopped.

        Raises:
            Cancelled: it was stopped.
        """
        if self.stop.is_set():
            raise Cancelled

    def fail(self, cause: BaseException) -> None:
        """End it because of an error.

        Args:
            cause: what was raised.
        """
        planned = None if self.trace is None else self.trace.meta.get("planned_steps")
        self.state, self.cause = "failed", cause
        self.error = describe_failure(cause, self.steps, planned)


def describe_failure(error: BaseException, steps: int = 0, planned: int | None = None, what: str = "The run") -> str:
    """Say what happened and what to do, for the reader of the page.

    Args:
        error: what was raised.
        steps: number of finished steps.
        planned: planned number of steps; None where it is not known or does not matter.
        what: what failed, where it was no step.

    Returns:
        A sentence about what failed and what to do; on the next line the error and what is kept.
    """
    reason = f"{type(error).__name__}: {_printed(error)}".strip().removesuffix(":")
    what = f"Step {steps + 1} of {planned}" if planned and steps < planned else what
    finished = f"The {steps} finished {'step is' if steps == 1 else 'steps are'} kept; " if steps else ""
    return (
        f"{what} failed: {_advice(error)} and run again.\n{reason}{'' if reason.endswith('.') else '.'} "
        f"{finished}widget.trace raises the error with its full traceback."
    )


def error_text(error: BaseException) -> str:
    """The message of an error, without the quotes that a KeyError puts around its own.

    Args:
        error: what was raised.

    Returns:
        Its message; its type where it has none.
    """
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else _printed(error)
    return text or type(error).__name__


def _printed(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as other:  # noqa: BLE001 - a broken __str__ must not hide the error
        return f"<{type(other).__name__} in str>"


def _advice(error: BaseException) -> str:
    if type(error).__name__ == "OutOfMemoryError" or "out of memory" in _printed(error).lower():
        return "use a smaller height and width, half precision, or pipe.enable_model_cpu_offload(),"
    if isinstance(error, FileNotFoundError | ConnectionError):
        return "put the files in place or name another model,"
    return "correct the cause"
