"""The worker behind a widget: it loads the pipeline, runs it, and decodes the rest of the pictures when it is idle.

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
from typing import TYPE_CHECKING, Any, Protocol

from diffvis_widget.widget import encode, kernel
from diffvis_widget.widget.history import History
from diffvis_widget.widget.loading import load
from diffvis_widget.widget.runs import Run, RunFailed, Stopped, explain
from diffvis_widget.widget.sampling import Request, Shot, check_call, sample
from diffvis_widget.widget.scoring import SCENES_LABEL
from diffvis_widget.widget.stream import Stream
from diffvis_widget.widget.teller import Teller
from diffvis_widget.widget.works import Work, Works

if TYPE_CHECKING:
    from diffvis_widget.concepts import ConceptMeter
    from diffvis_widget.traces import Trace

log = logging.getLogger(__name__)

LOCK_POLL = 0.05  # a run that waits for another one looks this often whether it is still wanted
QUICK = 1.0  # pictures that can be decoded in this many seconds are decoded before a run is called done


class Show(Protocol):
    """Sets traits of the widget; does nothing once the widget is gone."""

    def __call__(self, **traits: Any) -> None: ...


class Session:
    """Runs for one widget.

    ``source`` is a pipeline, the name of one to load, None for the scenes model, or a Trace to show.
    ``pipe_kwargs`` go to every pipeline call. ``focus`` is the step that somebody looks at.
    """

    def __init__(
        self,
        source: Any,
        stream: Stream,
        show: Show,
        meter: ConceptMeter | None = None,
        pipe_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        from diffvis_widget.traces import Trace

        self._show = show
        self.arguments = dict(pipe_kwargs or {})
        self._recorded = source if isinstance(source, Trace) else None
        self._name = source if isinstance(source, str) else None
        self._pipe = None if source is None or self._name or self._recorded else source
        self._changed = threading.Condition()
        self._wanted: Run | None = None
        self._active: Run | None = None
        self._latest: Run | None = None  # the last run that ended, whatever way
        self._finished: Run | None = None  # the run that is shown
        self._again: Run | None = None  # a kept run that is to be shown again
        self._to_compare: Trace | None = None  # a recorded run that is to be laid beside
        self.history = History()
        self.works = Works(self._wake)
        self._load = self._recorded is None and self._pipe is None
        self._closed = False
        self.focus = 0
        self.teller = Teller(stream, lambda notice: show(_notice=notice))
        self._meter = meter
        if meter is not None:
            self.teller.scorer.use(lambda: meter, meter.label)
        elif self._is_scenes():
            self._use_scenes_meter()
        self._thread = threading.Thread(target=self._work, name="diffvis-session", daemon=True)
        _sessions.add(self)
        self._thread.start()

    # -- asked from any thread ---------------------------------------------------------------------------------------

    def run(self, request: Request) -> None:
        """Ask for a run and return at once; it replaces one that waits and ends one that goes on."""
        with self._changed:
            if self._closed:
                raise RuntimeError("this widget is closed: make a new DiffVis")
            if self._recorded is not None:
                raise RuntimeError("this widget shows a recorded run and has no pipeline: DiffVis(pipe) can run")
            self._wanted = Run(request)
            self.works.stop()
            self._load = self._load or self._pipe is None
            if self._active is not None and self._active.pipe is not None:
                self._show(_notice="Queued: a run of the notebook's own is going on")
            elif self._active is not None:
                self._active.stop.set()
                self._show(status="stopping", error="")
            elif self._load:
                self._show(status="loading", _notice=self._loading, error="")
            else:
                self._show(status="queued", error="")
            self._changed.notify_all()

    def stop(self) -> None:
        """End the run at its next step and forget the one that waits. Nothing happens where there is none."""
        with self._changed:
            wanted, self._wanted = self._wanted, None
            if self._active is not None:
                self._active.stop.set()
                self._show(status="stopping")
            elif wanted is not None:
                wanted.state = "stopped"
                self._latest = wanted
                if not self._load:
                    self._show(status="stopped", _notice="")
            self._changed.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is asked for, loading or running; False if ``timeout`` seconds were not enough."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._busy, timeout)

    def trace(self) -> Trace:
        """The trace of the latest run.

        Raises:
            RunFailed: the latest run failed.
            RuntimeError: there was no run yet, or it was stopped before its first step.
        """
        with self._changed:
            latest, finished = self._latest, self._finished
        if latest is not None and latest.state == "failed":
            raise RunFailed(latest.error, latest.trace) from latest.cause
        if finished is None or finished.trace is None:
            raise RuntimeError(
                "no run has a finished step yet: call run() first, or give DiffVis a prompt"
                if latest is None
                else "the run was stopped before its first step was finished: call run() again"
            )
        return finished.trace

    def trace_of(self, run: str) -> Trace:
        """The trace of the run with this id, as far as it has come; ValueError if it is no longer here."""
        with self._changed:
            active = self._active
        known = active if active is not None and active.id == run else self.history.find(run)
        if known.trace is None:
            raise ValueError("this run has no finished step yet")
        return known.trace

    @property
    def watched(self) -> Trace | None:
        """The trace of the run that goes on, as far as it has come; else of the one that is shown."""
        with self._changed:
            active, finished = self._active, self._finished
        run = active if active is not None and active.trace is not None else finished
        return None if run is None else run.trace

    def show(self, run: Run) -> None:
        """Show a run of the history again. Returns at once.

        Raises:
            RuntimeError: the widget is closed, or a run is going on.
        """
        with self._changed:
            if self._closed:
                raise RuntimeError("this widget is closed: make a new DiffVis")
            if self._busy:
                raise RuntimeError("a run is going on: stop it, or wait until it is done, to see an earlier one")
            self._again = run
            self._changed.notify_all()

    def compare(self, trace: Trace | None) -> None:
        """Lay a recorded run beside the one that is shown; None takes it away. Returns at once.

        Raises:
            RuntimeError: the widget is closed.
        """
        with self._changed:
            if self._closed:
                raise RuntimeError("this widget is closed: make a new DiffVis")
            self._to_compare = trace
            if trace is None:
                self.history.put_beside(None)
                self._show(_beside="")
            self._changed.notify_all()

    def noted(self, trace: Trace) -> None:
        """Tell the page, and what a saved notebook carries, of the notes that a trace has by now."""
        for run in self.history.runs:
            if run.trace is trace:
                self.teller.noted(run)
                self._save_again(run)

    def close(self) -> None:
        """Stop what goes on and end the threads. Returns at once."""
        with self._changed:
            self._closed = True
            self._wanted = None
            self.works.stop()
            if self._active is not None:
                self._active.stop.set()
            self._changed.notify_all()
        self.teller.close()

    @property
    def pipe(self) -> Any:
        """The pipeline; None while there is none, and for a recorded run."""
        return self._pipe

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)

    @property
    def alive(self) -> bool:
        """Whether the worker's thread still goes."""
        return self._thread.is_alive()

    @property
    def _busy(self) -> bool:
        if self._closed:
            return False
        showing = self._recorded is not None and self._finished is None
        asked = self._wanted is not None or self._again is not None or self._to_compare is not None
        return self._load or showing or asked or self._active is not None

    # -- the worker --------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (task := self._next()) is not None:
            try:
                task()
            except Exception:  # the thread must outlive whatever went wrong
                log.exception("the widget's worker met an error of its own")

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while not self._closed:
                if self._load:
                    return self._load_pipeline
                if self._recorded is not None and self._finished is None:
                    trace = self._recorded
                    return lambda: self._show_recorded(trace)
                if self._wanted is not None and self._active is None:
                    run, self._wanted = self._wanted, None
                    self._active = run
                    return lambda: self._perform(run)
                if self._again is not None and self._active is None:
                    run = self._again
                    return lambda: self._show_again(run)
                if self._to_compare is not None and self._active is None:
                    trace = self._to_compare
                    return lambda: self._lay_beside(trace)
                if self._active is None and (work := self.works.next()) is not None:
                    return functools.partial(self._do, work)
                if self._finished is not None and self._finished.inexact and self._active is None:
                    run = self._finished
                    return lambda: self._decode_in_idle_time(run)
                self._changed.wait()
            return None

    @property
    def _loading(self) -> str:
        return f"Loading {self._name or 'the scenes model'}"

    def _load_pipeline(self) -> None:
        self._show(status="loading", _notice=self._loading, error="")
        failed = None
        try:
            pipe = load(self._name)
            check_call(pipe, self.arguments)
            self._pipe = pipe
            if self._meter is None and self._is_scenes():
                self._use_scenes_meter()
        except Exception as cause:  # noqa: BLE001 - whatever it is, it is told
            failed = Run(None, state="failed", error=explain(cause, 0, None), cause=cause)
        with self._changed:
            self._load = False
            if failed is not None:
                self._latest, self._wanted = failed, None
                self._show(status="failed", error=failed.error, _notice="")
            elif self._wanted is not None:
                self._show(status="queued", _notice="")
            else:
                self._show(status="stopped" if self._latest else "idle", _notice="")
            self._changed.notify_all()

    def _is_scenes(self) -> bool:
        """Whether the runs are those of the built-in model, whose words and whose meter are known."""
        from diffvis_widget import scenes

        if self._recorded is not None:
            ours = scenes.fingerprint()
            return ours is not None and self._recorded.meta.get("fingerprint") == ours
        return scenes.is_scenes(self._pipe)

    def _use_scenes_meter(self) -> None:
        from diffvis_widget.concepts import ConceptMeter

        self.teller.scorer.use(ConceptMeter, SCENES_LABEL)

    def _perform(self, run: Run) -> None:
        request = run.request or Request("")
        run.state = "done"
        try:
            with self._denoiser(run):
                run.started = time.perf_counter()
                # The built-in model is so small that every head can be kept; of others it would be gigabytes.
                keep = "heads" if self._is_scenes() else "layers"
                step = functools.partial(self.step, run, request)
                sample(self._pipe, request, self.arguments, step, keep)
                self._decode_quickly(run)
        except Stopped:
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
        from diffvis_widget.tracer import denoiser_lock

        if self._pipe is None or denoiser_lock(self._pipe) is not denoiser_lock(run.pipe):
            raise ValueError("view shows runs of the model it was made for: make it with dv.DiffVis(pipe)")
        self.stop()
        with self._changed:
            if self._closed:
                raise RuntimeError("this widget is closed: make a new DiffVis")
            self._changed.wait_for(lambda: self._active is None)
            self._active, run.state = run, "done"
        self._show_going(run, status="running", progress=0.0, error="", _notice="")

    @contextlib.contextmanager
    def _denoiser(self, run: Run) -> Iterator[None]:
        """The denoiser for this run alone, waiting as long as another one has it and this one is wanted."""
        from diffvis_widget.tracer import denoiser_lock

        lock = denoiser_lock(self._pipe)
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
        with self._changed:
            run.check()
            self._show(**traits)

    def step(self, run: Run, request: Request, trace: Trace, shot: Shot) -> None:
        """In the middle of the pipeline's call: hand the step over, and end the call if the run is to stop."""
        index = shot.step.index
        elapsed, planned = run.elapsed, max(int(trace.meta["planned_steps"]), index + 1)
        if run.trace is None:
            run.trace = trace
            self.teller.begin(
                run, trace, shot, encode.settings_of(request, planned, trace), self._unknown(request.prompt)
            )
        self.teller.step(run, trace, shot, elapsed)
        if shot.exact and shot.prediction is not None:
            trace.keep_frame("prediction", index, shot.prediction)
        else:
            run.inexact.add(index)
        run.decode_seconds = shot.decode_seconds
        self._show(progress=(index + 1) / planned)
        run.check()

    def _unknown(self, prompt: str) -> set[str]:
        from diffvis_widget import scenes

        return set(scenes.unknown_words(prompt)) if self._is_scenes() else set()

    def end(self, run: Run) -> None:
        """Send what is left of a run, keep it for a saved notebook, and call it ended."""
        seconds = run.elapsed
        complete = self._wanted is not None or self.teller.settle(run)
        self.teller.end(run, seconds)
        notice = self.teller.scorer.problem
        shown: dict[str, Any] = {"status": run.state, "error": run.error, "_notice": notice}
        if run.state == "done":
            shown["progress"] = 1.0
        if run.steps and self._wanted is None:
            shown["_snapshot"] = self.teller.snapshot()
        with self._changed:
            self._latest, self._active = run, None
            if run.steps:
                self._finished = run
                self.history.add(run)
            self._show(**({"status": "queued"} if self._wanted is not None else shown))
            self._changed.notify_all()
        if not complete:
            self.teller.scorer.afterwards(lambda: self._save_again(run))

    def _save_again(self, run: Run) -> None:
        """What came late, scores and notes, belongs into a saved notebook too."""
        with self._changed:
            if self._latest is not run or self._active is not None or self._closed:
                return
        self.teller.keep(run)
        self._show(_snapshot=self.teller.snapshot())

    # -- works -------------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _do(self, work: Work) -> None:
        """Work that needs the model, or might: no run of another widget goes on meanwhile."""
        from diffvis_widget.tracer import denoiser_lock

        pipe = self.pipe
        if pipe is None:
            work.do()
            return
        lock = denoiser_lock(pipe)
        while not lock.acquire(timeout=LOCK_POLL):
            if work.stop.is_set():
                break
        else:
            try:
                work.do()
            finally:
                lock.release()

    # -- in idle time ------------------------------------------------------------------------------------------------

    def _decode_quickly(self, run: Run) -> None:
        """The rest of the pictures, if that takes a moment only, or nobody watches: idle time may never come then."""
        while run.inexact and (len(run.inexact) * run.decode_seconds < QUICK or kernel.is_unattended()):
            run.check()
            self._decode_one(run)

    def _decode_in_idle_time(self, run: Run) -> None:
        from diffvis_widget.tracer import denoiser_lock

        lock = denoiser_lock(run.pipe or self._pipe)
        if not lock.acquire(timeout=LOCK_POLL):
            return
        try:
            self._decode_one(run)
        except Exception:
            run.inexact.clear()  # the previews stay
            log.exception("a prediction could not be decoded")
            return
        finally:
            lock.release()
        if not run.inexact:
            self.teller.score(run)
            self.teller.settle(run)
            self.teller.keep(run)
            self._show(_snapshot=self.teller.snapshot())

    def _decode_one(self, run: Run) -> None:
        """The exact picture of one previewed step: the one that is looked at first, then its neighbours."""
        from diffvis_widget.tracer import decode

        assert run.trace is not None  # a run without steps has no inexact ones
        index = min(run.inexact, key=lambda step: (abs(step - self.focus), step))
        image = decode(run.pipe or self._pipe, run.trace.records[index].prediction[None])[0]
        run.trace.keep_frame("prediction", index, image)
        run.inexact.discard(index)
        self.teller.frame(run, index, image)

    def _show_again(self, run: Run) -> None:
        self.teller.show(run)
        complete = self.teller.settle(run)
        with self._changed:
            self._again = None
            self._latest = self._finished = run
            self._show(status=run.state, error=run.error, _notice="", _snapshot=self.teller.snapshot())
            self._changed.notify_all()
        if not complete:
            self.teller.scorer.afterwards(lambda: self._save_again(run))

    def _lay_beside(self, trace: Trace) -> None:
        run = Run(None, trace=trace, state="done")
        shown: dict[str, Any] = {"_beside": run.id}
        try:
            run.told = encode.told_of(run.id, trace, self._unknown(trace.prompt), self.teller.scorer.label)
            self.history.put_beside(run)
        except Exception as cause:  # noqa: BLE001 - a damaged or odd trace is told, not lost
            shown = {"_notice": f"The run to compare with cannot be shown: {cause}"}
        with self._changed:
            if self._to_compare is trace:
                self._to_compare = None
                self._show(**shown)
            self._changed.notify_all()

    def _show_recorded(self, trace: Trace) -> None:
        run, complete = Run(None, trace=trace, state=encode.state_of(trace)), True
        try:
            complete = self.teller.recorded(run, trace, self._unknown(trace.prompt))
        except Exception as cause:  # noqa: BLE001 - a damaged or odd trace is told, not lost
            run.state, run.error, run.cause = "failed", explain(cause, 0, None), cause
        with self._changed:
            self._latest = self._finished = run
            if run.steps:
                self.history.add(run)
            snapshot = self.teller.snapshot()
            self._show(status=run.state, error=run.error, _notice="", progress=1.0, _snapshot=snapshot)
            self._changed.notify_all()
        if not complete:
            self.teller.scorer.afterwards(lambda: self._save_again(run))


_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """A thread inside torch while the interpreter goes away crashes the process: end them first."""
    sessions = list(_sessions)
    for session in sessions:
        session.close()
    for session in sessions:
        session.join(10)
