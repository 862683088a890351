"""The worker behind a widget: it loads the pipeline, runs it, and does everything else that needs the model.

Only one thread per session, the worker, touches the pipeline. A request (from the notebook's main thread, or from a
message handler in any thread) changes the state under its lock and wakes the worker. The latest request wins: a run in
progress is stopped at its next step. A run whose denoiser another session uses waits, with the status "queued".
"""

from __future__ import annotations

import atexit
import functools
import logging
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from diffvis_widget.wire.messages import RunRequest

from .decoding import IdleDecoder
from .history import History
from .jobs import JobQueue, run_exclusively
from .outbox import Outbox
from .pipeline import SessionPipeline
from .publisher import Publisher
from .replay import Replay
from .run import Run, RunFailed, describe_failure
from .runner import Runner
from .sampling import check_call
from .state import SessionState

if TYPE_CHECKING:
    from diffvis_widget.concepts import ConceptMeter
    from diffvis_widget.traces import Trace

log = logging.getLogger(__name__)


class Session:
    """Runs for one widget.

    Args:
        source: a pipeline, the name of one to load, None for the scenes model, or a Trace to show.
        outbox: gets the messages for the page.
        set_trait: sets one trait of the widget, by name and value; does nothing once the widget is gone.
        meter: scores the concepts; None scores those of the scenes model only, with its own meter.
        pipe_kwargs: further arguments for every pipeline call.

    Attributes:
        history: the runs that are kept.
        jobs: the long jobs that the page requested.
        publisher: encodes and scores the current run.
        decoder: decodes images in idle time.
        replay: shows finished runs.
        runner: performs runs.
    """

    history: History
    jobs: JobQueue
    publisher: Publisher
    decoder: IdleDecoder
    replay: Replay
    runner: Runner

    def __init__(
        self,
        source: Any,
        outbox: Outbox,
        set_trait: Callable[[str, Any], None],
        meter: ConceptMeter | None = None,
        pipe_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self._arguments = dict(pipe_kwargs or {})
        self._pipeline = pipeline = SessionPipeline(source, outbox.page_is_there)
        self._state = state = SessionState(set_trait, pipeline.needs_loading, pipeline.recorded, outbox.page_is_there)
        self.history = History()
        self.jobs = JobQueue(state.wake)
        self.publisher = Publisher(outbox, lambda notice: state.set_traits(_notice=notice))
        self.decoder = IdleDecoder(state, self.publisher, self.history)
        self.replay = Replay(state, pipeline, self.publisher, self.history)
        self.runner = Runner(state, pipeline, self._arguments, self.publisher, self.decoder, self.history, self.replay)
        self._custom_meter = meter is not None
        if meter is not None:
            self.publisher.scorer.use(lambda: meter, meter.label)
        self._use_scenes_model()
        self._thread = threading.Thread(target=self._work, name="diffvis-session", daemon=True)
        _sessions.add(self)
        self._thread.start()

    # -- called from any thread --------------------------------------------------------------------------------------

    def run(self, *runs: Run) -> None:
        """Request runs, one after the other, and return at once. They replace all others, at once or at the next step.

        Args:
            *runs: the runs, with their requests.

        Raises:
            RuntimeError: the widget is closed, or shows a recorded run.
            ValueError: the pipeline does not take a setting of the run.
        """
        state = self._state
        with state.update():
            state.check_open()
            self._pipeline.check(runs[0].request or RunRequest(""))  # the others differ in seed and steps only
            if self._pipeline.recorded is not None:
                raise RuntimeError("this widget shows a recorded run and has no pipeline: DiffVis(pipe) can run")
            state.requested, *state.following = runs
            self.jobs.cancel_all()
            state.loading = state.loading or self._pipeline.pipe is None
            if state.active is not None and state.active.pipe is not None:
                state.queue_traits(_notice="Queued: the notebook's own call is running")
            elif state.active is not None:
                state.active.stop.set()
                state.queue_traits(status="stopping", error="")
            elif state.loading:
                state.queue_traits(status="loading", _notice=self._pipeline.notice, error="")
            else:
                state.queue_traits(status="queued", error="")

    def stop(self) -> None:
        """Stop the run at its next step and forget the one that waits. Nothing happens where there is none."""
        state = self._state
        with state.update():
            requested, state.requested, state.following = state.requested, None, []
            if state.active is not None:
                state.active.stop.set()
                state.queue_traits(status="stopping")
            elif requested is not None:
                requested.state = "stopped"
                state.latest = requested
                if not state.loading:
                    state.queue_traits(status="stopped", _notice="")

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is requested, loading or running.

        Args:
            timeout: seconds; None waits without limit.

        Returns:
            Whether that happened in time.
        """
        return self._state.wait(timeout)

    def trace(self) -> Trace:
        """Get the latest run.

        Returns:
            Its trace.

        Raises:
            RunFailed: the latest run failed.
            RuntimeError: there was no run yet, or it was stopped before its first step.
        """
        with self._state.changed:
            latest, shown = self._state.latest, self._state.shown
        if latest is not None and latest.state == "failed":
            raise RunFailed(latest.error, latest.trace) from latest.cause
        if shown is None or shown.trace is None:
            raise RuntimeError(
                "no run has a finished step yet: call run() first, or give DiffVis a prompt"
                if latest is None
                else "the run was stopped before its first step was finished: call run() again"
            )
        return shown.trace

    def run_of(self, run: str) -> Run:
        """A run by its id, the one in progress too.

        Args:
            run: the id.

        Returns:
            The run.

        Raises:
            ValueError: no such run is kept.
        """
        live = {each.id: each for each in (self._state.active, self._state.shown) if each is not None}
        return live.get(run) or self.history.find(run)

    def trace_of(self, run: str) -> Trace:
        """The trace of a run by the run's id, as far as it has come.

        Args:
            run: the id.

        Returns:
            The trace.

        Raises:
            ValueError: no such run is kept, or it has no finished step yet.
        """
        trace = self.run_of(run).trace
        if trace is None:
            raise ValueError("this run has no finished step yet: try again after its first one")
        return trace

    @property
    def watched(self) -> Trace | None:
        """The trace of the run in progress, as far as it has come; else of the one that is or will be shown."""
        with self._state.changed:
            active, shown = self._state.active, self._state.shown
        run = active if active is not None and active.trace is not None else shown
        return self._pipeline.recorded if run is None else run.trace

    def show(self, run: Run) -> None:
        """Show a run of the history again. Returns at once.

        Args:
            run: the run.

        Raises:
            RuntimeError: the widget is closed, or a run is in progress.
        """
        state = self._state
        with state.update():
            state.check_open()
            if state.busy:
                raise RuntimeError("a run is in progress: stop it, or wait until it is done, to see an earlier one")
            state.to_replay = run

    def compare(self, trace: Trace | None) -> None:
        """Show a recorded run beside the current one. Returns at once.

        Args:
            trace: the recorded run; None removes the comparison.

        Raises:
            RuntimeError: the widget is closed.
        """
        state = self._state
        with state.update():
            state.check_open()
            state.to_compare, state.comparing = trace, None
            if trace is None:
                self.history.set_comparison(None)
                state.queue_traits(_comparison_run="")

    def begin(self, run: Run) -> None:
        """Make a run of the notebook's own code the active one, once the session's own run has stopped.

        Args:
            run: the run, with its pipeline.

        Raises:
            RuntimeError: the widget is closed.
            ValueError: the widget has another model: its words, its meter and its Run button would be wrong.
            Cancelled: it was stopped in this very moment.
        """
        self.check_model(run.pipe)
        self.stop()
        state = self._state
        with state.update():
            state.check_open()
            state.changed.wait_for(lambda: state.active is None or state.closed)
            state.check_open()
            state.active, run.state = run, "done"
        try:
            self.runner.start(run)
        except BaseException:
            run.state = "stopped"
            self.runner.end(run)
            raise

    def check_model(self, pipe: Any) -> None:
        """Refuse to show a run of another model.

        Args:
            pipe: the pipeline of the run.

        Raises:
            ValueError: its denoiser is not the session's.
        """
        from diffvis_widget.tracer import denoiser_lock

        if self.pipe is None or denoiser_lock(self.pipe) is not denoiser_lock(pipe):
            raise ValueError("view shows runs of the model it was made for: make it with dv.DiffVis(pipe)")

    def close(self) -> None:
        """Stop everything and end the threads. Returns at once."""
        state = self._state
        with state.update():
            state.closed, state.requested, state.following = True, None, []
            self.jobs.cancel_all()
            if state.active is not None:
                state.active.stop.set()
        self.publisher.close()

    @property
    def pipe(self) -> Any:
        """The pipeline; None while there is none, and for a recorded run."""
        return self._pipeline.pipe

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of every pipeline call beside those that the widget sets."""
        return dict(self._arguments)

    def join(self, timeout: float) -> None:
        """Wait until the worker's thread has ended.

        Args:
            timeout: seconds.
        """
        self._thread.join(timeout)

    @property
    def alive(self) -> bool:
        """Whether the worker runs."""
        return self._thread.is_alive()

    # -- the worker --------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (task := self._next()) is not None:
            try:
                task()
            except BaseException as error:
                log.exception("a task of the widget's worker failed")
                with self._state.update():
                    self._state.replaying = False
                    self._state.queue_traits(_notice=describe_failure(error, what="A task"))

    def _next(self) -> Callable[[], None] | None:
        """The next task, taken from the state, so that one that fails is not tried again; None once closed."""
        state = self._state
        with state.changed:
            while not state.closed:
                task = self._load_pipeline if state.loading else None if state.active else self._pending()
                if task is not None:
                    return task
                state.changed.wait()
            return None

    def _pending(self) -> Callable[[], None] | None:
        state = self._state
        if state.recorded is not None:
            trace, state.recorded, state.replaying = state.recorded, None, True
            return lambda: self.replay.open(trace)
        if state.requested is not None:
            run, state.requested = state.requested, None
            state.active = run
            return lambda: self.runner.perform(run)
        if state.to_replay is not None:
            earlier, state.to_replay, state.replaying = state.to_replay, None, True
            return lambda: self.replay.show(earlier)
        if state.to_compare is not None:
            state.comparing = other = state.to_compare
            state.to_compare, state.replaying = None, True
            return lambda: self.replay.compare(other)
        if (job := self.jobs.next()) is not None:
            return functools.partial(run_exclusively, job, self.pipe)
        if (shown := state.shown) is not None and (shown.inexact or shown.inexact_latents):
            return lambda: self.decoder.decode_next(shown, shown.pipe or self.pipe)
        return None

    def _load_pipeline(self) -> None:
        state = self._state
        state.set_traits(status="loading", _notice=self._pipeline.notice, error="")
        failed = None
        try:
            pipe = self._pipeline.load(state.set_traits)
            check_call(pipe, self._arguments)
            self._pipeline.pipe = pipe
            state.set_traits(_defaults=self._pipeline.defaults)
            self._use_scenes_model()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is shown
            failed = Run(None)
            failed.fail(error)
        with state.update():
            state.loading = False
            state.queue_traits(progress=0.0)
            if failed is not None:
                state.latest, state.requested, state.following = failed, None, []
                state.queue_traits(status="failed", error=failed.error, _notice="")
            elif state.requested is not None:
                state.queue_traits(status="queued", _notice="")
            else:
                state.queue_traits(status="stopped" if state.latest else "idle", _notice="")

    def _use_scenes_model(self) -> None:
        """The words of the scenes model are known, and it has a concept meter, unless the user chose another one."""
        self._state.set_traits(_vocabulary=self._pipeline.vocabulary(), _takes_concepts=self._pipeline.takes_concepts())
        if not self._custom_meter and self._pipeline.is_scenes():
            self.publisher.scorer.use_scenes_meter()


_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """A thread inside torch crashes the process while the interpreter shuts down: end these threads first."""
    sessions = list(_sessions)
    for session in sessions:
        session.close()
    for session in sessions:
        session.join(10)
