"""The worker behind a widget: it loads the pipeline and runs it, and does all that needs the model when it is idle.

One thread per session does everything that touches the pipeline. Whoever asks for something (the notebook's main
thread, a message handler in any thread) only leaves a note under the lock and wakes it. The latest request wins: a
run under way is stopped at its next step. A run that another session keeps from the denoiser waits, and says so.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from diffvis_widget.cancellation import Cancelled
from diffvis_widget.loading import load
from diffvis_widget.wire.messages import RunRequest, StepImages
from diffvis_widget.wire.trace_messages import requested_settings

from .decoding import IdleDecoder
from .history import History
from .jobs import JobQueue, run_exclusively
from .outbox import Outbox
from .pipeline import SessionPipeline
from .publisher import Publisher
from .replay import Replay
from .run import LOCK_POLL, Run, RunFailed, explain
from .sampling import check_call, sample
from .scoring import SCENES_LABEL
from .state import SessionState, Show
from .threads import calm

if TYPE_CHECKING:
    from diffvis_widget.concepts import ConceptMeter
    from diffvis_widget.traces import Trace

log = logging.getLogger(__name__)


class Session:
    """Runs for one widget.

    ``source`` is a pipeline, the name of one to load, None for the scenes model, or a Trace to show.
    ``pipe_kwargs`` go to every pipeline call.
    """

    def __init__(
        self,
        source: Any,
        outbox: Outbox,
        show: Show,
        meter: ConceptMeter | None = None,
        pipe_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self._show = show
        self._arguments = dict(pipe_kwargs or {})
        self._pipeline = model = SessionPipeline(source)
        self._state = SessionState(load=model.recorded is None and model.pipe is None, recorded=model.recorded)
        self.history = History()
        self.jobs = JobQueue(self._state.wake)
        self.publisher = Publisher(outbox, lambda notice: show(_notice=notice))
        self.decoder = IdleDecoder(self.publisher, show)
        self.replay = Replay(self._state, model, self.publisher, self.history, show)
        self._own_meter = meter is not None
        if meter is not None:
            self.publisher.scorer.use(lambda: meter, meter.label)
        self._use_scenes_meter()
        self._thread = threading.Thread(target=self._work, name="diffvis-session", daemon=True)
        _sessions.add(self)
        self._thread.start()

    # -- asked from any thread ---------------------------------------------------------------------------------------

    def run(self, request: RunRequest) -> None:
        """Ask for a run and return at once; it replaces one that waits and ends one that goes on."""
        state = self._state
        with state.changed:
            if state.closed:
                raise RuntimeError("this widget is closed: make a new DiffVis")
            if state.recorded is not None:
                raise RuntimeError("this widget shows a recorded run and has no pipeline: DiffVis(pipe) can run")
            state.wanted = Run(request)
            self.jobs.stop()
            state.load = state.load or self._pipeline.pipe is None
            if state.active is not None and state.active.pipe is not None:
                self._show(_notice="Queued: a run of the notebook's own is going on")
            elif state.active is not None:
                state.active.stop.set()
                self._show(status="stopping", error="")
            elif state.load:
                self._show(status="loading", _notice=self._pipeline.loading, error="")
            else:
                self._show(status="queued", error="")
            state.changed.notify_all()

    def stop(self) -> None:
        """End the run at its next step and forget the one that waits. Nothing happens where there is none."""
        state = self._state
        with state.changed:
            wanted, state.wanted = state.wanted, None
            if state.active is not None:
                state.active.stop.set()
                self._show(status="stopping")
            elif wanted is not None:
                wanted.state = "stopped"
                state.latest = wanted
                if not state.load:
                    self._show(status="stopped", _notice="")
            state.changed.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is asked for, loading or running; False if ``timeout`` seconds were not enough."""
        state = self._state
        with state.changed:
            return state.changed.wait_for(lambda: not state.busy, timeout)

    def trace(self) -> Trace:
        """The trace of the latest run.

        Raises:
            RunFailed: the latest run failed.
            RuntimeError: there was no run yet, or it was stopped before its first step.
        """
        state = self._state
        with state.changed:
            latest, finished = state.latest, state.finished
        if latest is not None and latest.state == "failed":
            raise RunFailed(latest.error, latest.trace) from latest.cause
        if finished is None or finished.trace is None:
            raise RuntimeError(
                "no run has a finished step yet: call run() first, or give DiffVis a prompt"
                if latest is None
                else "the run was stopped before its first step was finished: call run() again"
            )
        return finished.trace

    def run_of(self, run: str) -> Run:
        """The run with this id, that goes on or is kept; ValueError if it is no longer here."""
        state = self._state
        with state.changed:
            active = state.active
        return active if active is not None and active.id == run else self.history.find(run)

    def trace_of(self, run: str) -> Trace:
        """The trace of the run with this id, as far as it has come; ValueError if it is no longer here."""
        known = self.run_of(run)
        if known.trace is None:
            raise ValueError("this run has no finished step yet")
        return known.trace

    @property
    def watched(self) -> Trace | None:
        """The trace of the run that goes on, as far as it has come; else of the one that is shown."""
        with self._state.changed:
            active, finished = self._state.active, self._state.finished
        run = active if active is not None and active.trace is not None else finished
        return None if run is None else run.trace

    def show(self, run: Run) -> None:
        """Show a run of the history again. Returns at once.

        Raises:
            RuntimeError: the widget is closed, or a run is going on.
        """
        state = self._state
        with state.changed:
            if state.closed:
                raise RuntimeError("this widget is closed: make a new DiffVis")
            if state.busy:
                raise RuntimeError("a run is going on: stop it, or wait until it is done, to see an earlier one")
            state.again = run
            state.changed.notify_all()

    def compare(self, trace: Trace | None) -> None:
        """Lay a recorded run beside the one that is shown; None takes it away. Returns at once.

        Raises:
            RuntimeError: the widget is closed.
        """
        state = self._state
        with state.changed:
            if state.closed:
                raise RuntimeError("this widget is closed: make a new DiffVis")
            state.to_compare = trace
            if trace is None:
                self.history.put_beside(None)
                self._show(_beside="")
            state.changed.notify_all()

    def close(self) -> None:
        """Stop what goes on and end the threads. Returns at once."""
        state = self._state
        with state.changed:
            state.closed = True
            state.wanted = None
            self.jobs.stop()
            if state.active is not None:
                state.active.stop.set()
            state.changed.notify_all()
        self.publisher.close()

    @property
    def pipe(self) -> Any:
        """The pipeline; None while there is none, and for a recorded run."""
        return self._pipeline.pipe

    @property
    def arguments(self) -> dict[str, Any]:
        """What every pipeline call is given beside what the widget sets."""
        return dict(self._arguments)

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)

    @property
    def alive(self) -> bool:
        """Whether the worker's thread still goes."""
        return self._thread.is_alive()

    # -- the worker --------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (task := self._next()) is not None:
            try:
                task()
            except Exception:  # the thread must outlive whatever went wrong
                log.exception("the widget's worker met an error of its own")

    def _next(self) -> Callable[[], None] | None:
        state = self._state
        with state.changed:
            while not state.closed:
                if state.load:
                    return self._load_pipeline
                if state.recorded is not None and state.finished is None:
                    trace = state.recorded
                    return lambda: self.replay.recorded(trace)
                if state.wanted is not None and state.active is None:
                    run, state.wanted = state.wanted, None
                    state.active = run
                    return lambda: self._perform(run)
                if state.again is not None and state.active is None:
                    run = state.again
                    return lambda: self.replay.again(run)
                if state.to_compare is not None and state.active is None:
                    trace = state.to_compare
                    return lambda: self.replay.beside(trace)
                if state.active is None and (work := self.jobs.next()) is not None:
                    return functools.partial(run_exclusively, work, self.pipe)
                if state.finished is not None and state.finished.inexact and state.active is None:
                    run = state.finished
                    return lambda: self.decoder.next(run, run.pipe or self._pipeline.pipe)
                state.changed.wait()
            return None

    def _load_pipeline(self) -> None:
        state = self._state
        self._show(status="loading", _notice=self._pipeline.loading, error="")
        failed = None
        try:
            pipe = load(self._pipeline.name)
            check_call(pipe, self._arguments)
            self._pipeline.pipe = pipe
            self._use_scenes_meter()
        except Exception as cause:  # noqa: BLE001 - whatever it is, it is told
            failed = Run(None, state="failed", error=explain(cause, 0, None), cause=cause)
        with state.changed:
            state.load = False
            if failed is not None:
                state.latest, state.wanted = failed, None
                self._show(status="failed", error=failed.error, _notice="")
            elif state.wanted is not None:
                self._show(status="queued", _notice="")
            else:
                self._show(status="stopped" if state.latest else "idle", _notice="")
            state.changed.notify_all()

    def _use_scenes_meter(self) -> None:
        """Where the model is the built-in one and no other meter was asked for."""
        if self._own_meter or not self._pipeline.is_scenes():
            return
        from diffvis_widget.concepts import ConceptMeter

        self.publisher.scorer.use(ConceptMeter, SCENES_LABEL)

    def _perform(self, run: Run) -> None:
        request = run.request or RunRequest("")
        run.state = "done"
        try:
            with self._denoiser(run), calm(self._pipeline.pipe):
                run.started = time.perf_counter()
                # The built-in model is so small that every head can be kept; of others it would be gigabytes.
                keep = "heads" if self._pipeline.is_scenes() else "layers"
                step = functools.partial(self.step, run, request)
                sample(self._pipeline.pipe, request, self._arguments, step, keep)
                self.decoder.quickly(run, self._pipeline.pipe)
        except Cancelled:
            run.state = "stopped"
        except Exception as cause:  # noqa: BLE001 - whatever a pipeline raises is told, not lost
            planned = None if run.trace is None else run.trace.meta.get("planned_steps")
            run.state, run.error, run.cause = "failed", explain(cause, run.steps, planned), cause
        self.end(run)

    def check_model(self, pipe: Any) -> None:
        """Check that a pipeline has the model of this session: its words, its meter and its Run button.

        Args:
            pipe: The pipeline.

        Raises:
            ValueError: It has another model.
        """
        from diffvis_widget.tracer import denoiser_lock

        if self._pipeline.pipe is None or denoiser_lock(self._pipeline.pipe) is not denoiser_lock(pipe):
            raise ValueError("view shows runs of the model it was made for: make it with dv.DiffVis(pipe)")

    def begin(self, run: Run) -> None:
        """A run that the notebook's own code makes, to be followed; one of the widget's own is over when it begins.

        Raises:
            RuntimeError: the widget is closed.
            ValueError: the widget has another model: its words, its meter and its Run button would be wrong.
        """
        state = self._state
        self.check_model(run.pipe)
        self.stop()
        with state.changed:
            if state.closed:
                raise RuntimeError("this widget is closed: make a new DiffVis")
            state.changed.wait_for(lambda: state.active is None)
            state.active, run.state = run, "done"
        self._show_going(run, status="running", progress=0.0, error="", _notice="")

    @contextlib.contextmanager
    def _denoiser(self, run: Run) -> Iterator[None]:
        """The denoiser for this run alone, waiting as long as another one has it and this one is wanted."""
        from diffvis_widget.tracer import denoiser_lock

        lock = denoiser_lock(self._pipeline.pipe)
        if not lock.acquire(blocking=False):
            self._show_going(run, status="queued", _notice="Queued: another run is using this model")
            while not lock.acquire(timeout=LOCK_POLL):
                run.check()
        try:
            self._show_going(run, status="running", progress=0.0, error="", _notice="")
            yield
        finally:
            lock.release()

    def _show_going(self, run: Run, **traits: Any) -> None:
        """Show that the run goes on, unless it was stopped in this very moment."""
        with self._state.changed:
            run.check()
            self._show(**traits)

    def step(self, run: Run, request: RunRequest, trace: Trace, shot: StepImages) -> None:
        """In the middle of the pipeline's call: hand the step over, and end the call if the run is to stop."""
        index = shot.step.index
        elapsed, planned = run.elapsed, max(int(trace.meta["planned_steps"]), index + 1)
        if run.trace is None:
            run.trace = trace
            self.publisher.begin(
                run, trace, shot, requested_settings(request, planned, trace), self._pipeline.unknown(request.prompt)
            )
        self.publisher.step(run, trace, shot, elapsed)
        if shot.exact and shot.prediction is not None:
            trace.keep_frame("prediction", index, shot.prediction)
        else:
            run.inexact.add(index)
        run.decode_seconds = shot.decode_seconds
        self._show(progress=(index + 1) / planned)
        run.check()

    def end(self, run: Run) -> None:
        """Send what is left of a run, keep it for a saved notebook, and call it ended."""
        state = self._state
        seconds = run.elapsed
        complete = state.wanted is not None or self.publisher.settle(run)
        self.publisher.end(run, seconds)
        notice = self.publisher.scorer.problem
        shown: dict[str, Any] = {"status": run.state, "error": run.error, "_notice": notice}
        if run.state == "done":
            shown["progress"] = 1.0
        if run.steps and state.wanted is None:
            shown["_snapshot"] = self.publisher.snapshot()
        with state.changed:
            state.latest, state.active = run, None
            if run.steps:
                state.finished = run
                self.history.add(run)
            self._show(**({"status": "queued"} if state.wanted is not None else shown))
            state.changed.notify_all()
        if not complete:
            self.replay.save_with_scores(run)


_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """A thread inside torch while the interpreter goes away crashes the process: end them first."""
    sessions = list(_sessions)
    for session in sessions:
        session.close()
    for session in sessions:
        session.join(10)
