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
from diffvis_widget.wire import encode

from .decoding import Decoding
from .history import History
from .jobs import Works, do_alone
from .outbox import Stream
from .pipeline import Model
from .publisher import Teller
from .replay import Kept
from .run import LOCK_POLL, Run, RunFailed, explain
from .sampling import Request, Shot, check_call, sample
from .scoring import SCENES_LABEL
from .state import Board, Show
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
        stream: Stream,
        show: Show,
        meter: ConceptMeter | None = None,
        pipe_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self._show = show
        self._arguments = dict(pipe_kwargs or {})
        self._model = model = Model(source)
        self._board = Board(load=model.recorded is None and model.pipe is None, recorded=model.recorded)
        self.history = History()
        self.works = Works(self._board.wake)
        self.teller = Teller(stream, lambda notice: show(_notice=notice))
        self.decoding = Decoding(self.teller, show)
        self.kept = Kept(self._board, model, self.teller, self.history, show)
        self._own_meter = meter is not None
        if meter is not None:
            self.teller.scorer.use(lambda: meter, meter.label)
        self._use_scenes_meter()
        self._thread = threading.Thread(target=self._work, name="diffvis-session", daemon=True)
        _sessions.add(self)
        self._thread.start()

    # -- asked from any thread ---------------------------------------------------------------------------------------

    def run(self, request: Request) -> None:
        """Ask for a run and return at once; it replaces one that waits and ends one that goes on."""
        board = self._board
        with board.changed:
            if board.closed:
                raise RuntimeError("this widget is closed: make a new DiffVis")
            if board.recorded is not None:
                raise RuntimeError("this widget shows a recorded run and has no pipeline: DiffVis(pipe) can run")
            board.wanted = Run(request)
            self.works.stop()
            board.load = board.load or self._model.pipe is None
            if board.active is not None and board.active.pipe is not None:
                self._show(_notice="Queued: a run of the notebook's own is going on")
            elif board.active is not None:
                board.active.stop.set()
                self._show(status="stopping", error="")
            elif board.load:
                self._show(status="loading", _notice=self._model.loading, error="")
            else:
                self._show(status="queued", error="")
            board.changed.notify_all()

    def stop(self) -> None:
        """End the run at its next step and forget the one that waits. Nothing happens where there is none."""
        board = self._board
        with board.changed:
            wanted, board.wanted = board.wanted, None
            if board.active is not None:
                board.active.stop.set()
                self._show(status="stopping")
            elif wanted is not None:
                wanted.state = "stopped"
                board.latest = wanted
                if not board.load:
                    self._show(status="stopped", _notice="")
            board.changed.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is asked for, loading or running; False if ``timeout`` seconds were not enough."""
        board = self._board
        with board.changed:
            return board.changed.wait_for(lambda: not board.busy, timeout)

    def trace(self) -> Trace:
        """The trace of the latest run.

        Raises:
            RunFailed: the latest run failed.
            RuntimeError: there was no run yet, or it was stopped before its first step.
        """
        board = self._board
        with board.changed:
            latest, finished = board.latest, board.finished
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
        board = self._board
        with board.changed:
            active = board.active
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
        with self._board.changed:
            active, finished = self._board.active, self._board.finished
        run = active if active is not None and active.trace is not None else finished
        return None if run is None else run.trace

    def show(self, run: Run) -> None:
        """Show a run of the history again. Returns at once.

        Raises:
            RuntimeError: the widget is closed, or a run is going on.
        """
        board = self._board
        with board.changed:
            if board.closed:
                raise RuntimeError("this widget is closed: make a new DiffVis")
            if board.busy:
                raise RuntimeError("a run is going on: stop it, or wait until it is done, to see an earlier one")
            board.again = run
            board.changed.notify_all()

    def compare(self, trace: Trace | None) -> None:
        """Lay a recorded run beside the one that is shown; None takes it away. Returns at once.

        Raises:
            RuntimeError: the widget is closed.
        """
        board = self._board
        with board.changed:
            if board.closed:
                raise RuntimeError("this widget is closed: make a new DiffVis")
            board.to_compare = trace
            if trace is None:
                self.history.put_beside(None)
                self._show(_beside="")
            board.changed.notify_all()

    def close(self) -> None:
        """Stop what goes on and end the threads. Returns at once."""
        board = self._board
        with board.changed:
            board.closed = True
            board.wanted = None
            self.works.stop()
            if board.active is not None:
                board.active.stop.set()
            board.changed.notify_all()
        self.teller.close()

    @property
    def pipe(self) -> Any:
        """The pipeline; None while there is none, and for a recorded run."""
        return self._model.pipe

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
        board = self._board
        with board.changed:
            while not board.closed:
                if board.load:
                    return self._load_pipeline
                if board.recorded is not None and board.finished is None:
                    trace = board.recorded
                    return lambda: self.kept.recorded(trace)
                if board.wanted is not None and board.active is None:
                    run, board.wanted = board.wanted, None
                    board.active = run
                    return lambda: self._perform(run)
                if board.again is not None and board.active is None:
                    run = board.again
                    return lambda: self.kept.again(run)
                if board.to_compare is not None and board.active is None:
                    trace = board.to_compare
                    return lambda: self.kept.beside(trace)
                if board.active is None and (work := self.works.next()) is not None:
                    return functools.partial(do_alone, work, self.pipe)
                if board.finished is not None and board.finished.inexact and board.active is None:
                    run = board.finished
                    return lambda: self.decoding.next(run, run.pipe or self._model.pipe)
                board.changed.wait()
            return None

    def _load_pipeline(self) -> None:
        board = self._board
        self._show(status="loading", _notice=self._model.loading, error="")
        failed = None
        try:
            pipe = load(self._model.name)
            check_call(pipe, self._arguments)
            self._model.pipe = pipe
            self._use_scenes_meter()
        except Exception as cause:  # noqa: BLE001 - whatever it is, it is told
            failed = Run(None, state="failed", error=explain(cause, 0, None), cause=cause)
        with board.changed:
            board.load = False
            if failed is not None:
                board.latest, board.wanted = failed, None
                self._show(status="failed", error=failed.error, _notice="")
            elif board.wanted is not None:
                self._show(status="queued", _notice="")
            else:
                self._show(status="stopped" if board.latest else "idle", _notice="")
            board.changed.notify_all()

    def _use_scenes_meter(self) -> None:
        """Where the model is the built-in one and no other meter was asked for."""
        if self._own_meter or not self._model.is_scenes():
            return
        from diffvis_widget.concepts import ConceptMeter

        self.teller.scorer.use(ConceptMeter, SCENES_LABEL)

    def _perform(self, run: Run) -> None:
        request = run.request or Request("")
        run.state = "done"
        try:
            with self._denoiser(run), calm(self._model.pipe):
                run.started = time.perf_counter()
                # The built-in model is so small that every head can be kept; of others it would be gigabytes.
                keep = "heads" if self._model.is_scenes() else "layers"
                step = functools.partial(self.step, run, request)
                sample(self._model.pipe, request, self._arguments, step, keep)
                self.decoding.quickly(run, self._model.pipe)
        except Cancelled:
            run.state = "stopped"
        except Exception as cause:  # noqa: BLE001 - whatever a pipeline raises is told, not lost
            planned = None if run.trace is None else run.trace.meta.get("planned_steps")
            run.state, run.error, run.cause = "failed", explain(cause, run.steps, planned), cause
        self.end(run)

    def begin(self, run: Run) -> None:
        """A run that the notebook's own code makes, to be followed; one of the widget's own is over when it begins.

        Raises:
            RuntimeError: the widget is closed.
            ValueError: the widget has another model: its words, its meter and its Run button would be wrong.
        """
        board = self._board
        from diffvis_widget.tracer import denoiser_lock

        if self._model.pipe is None or denoiser_lock(self._model.pipe) is not denoiser_lock(run.pipe):
            raise ValueError("view shows runs of the model it was made for: make it with dv.DiffVis(pipe)")
        self.stop()
        with board.changed:
            if board.closed:
                raise RuntimeError("this widget is closed: make a new DiffVis")
            board.changed.wait_for(lambda: board.active is None)
            board.active, run.state = run, "done"
        self._show_going(run, status="running", progress=0.0, error="", _notice="")

    @contextlib.contextmanager
    def _denoiser(self, run: Run) -> Iterator[None]:
        """The denoiser for this run alone, waiting as long as another one has it and this one is wanted."""
        from diffvis_widget.tracer import denoiser_lock

        lock = denoiser_lock(self._model.pipe)
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
        with self._board.changed:
            run.check()
            self._show(**traits)

    def step(self, run: Run, request: Request, trace: Trace, shot: Shot) -> None:
        """In the middle of the pipeline's call: hand the step over, and end the call if the run is to stop."""
        index = shot.step.index
        elapsed, planned = run.elapsed, max(int(trace.meta["planned_steps"]), index + 1)
        if run.trace is None:
            run.trace = trace
            self.teller.begin(
                run, trace, shot, encode.settings_of(request, planned, trace), self._model.unknown(request.prompt)
            )
        self.teller.step(run, trace, shot, elapsed)
        if shot.exact and shot.prediction is not None:
            trace.keep_frame("prediction", index, shot.prediction)
        else:
            run.inexact.add(index)
        run.decode_seconds = shot.decode_seconds
        self._show(progress=(index + 1) / planned)
        run.check()

    def end(self, run: Run) -> None:
        """Send what is left of a run, keep it for a saved notebook, and call it ended."""
        board = self._board
        seconds = run.elapsed
        complete = board.wanted is not None or self.teller.settle(run)
        self.teller.end(run, seconds)
        notice = self.teller.scorer.problem
        shown: dict[str, Any] = {"status": run.state, "error": run.error, "_notice": notice}
        if run.state == "done":
            shown["progress"] = 1.0
        if run.steps and board.wanted is None:
            shown["_snapshot"] = self.teller.snapshot()
        with board.changed:
            board.latest, board.active = run, None
            if run.steps:
                board.finished = run
                self.history.add(run)
            self._show(**({"status": "queued"} if board.wanted is not None else shown))
            board.changed.notify_all()
        if not complete:
            self.kept.save_with_scores(run)


_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """A thread inside torch while the interpreter goes away crashes the process: end them first."""
    sessions = list(_sessions)
    for session in sessions:
        session.close()
    for session in sessions:
        session.join(10)
