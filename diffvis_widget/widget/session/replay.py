"""Runs that are over: shown again, laid beside another one, read from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diffvis_widget.wire.recorded_run import run_payload
from diffvis_widget.wire.trace_messages import state_of

from .history import History
from .pipeline import SessionPipeline
from .publisher import Publisher
from .run import Run, explain
from .state import SessionState, Show

if TYPE_CHECKING:
    from diffvis_widget.traces import Trace


class Replay:
    """Shows them; its methods are called in the worker's thread, ``save_again`` and ``noted`` in any."""

    def __init__(
        self, state: SessionState, pipeline: SessionPipeline, publisher: Publisher, history: History, show: Show
    ) -> None:
        self._state, self._pipeline, self._publisher = state, pipeline, publisher
        self._history, self._show = history, show

    def again(self, run: Run) -> None:
        """A run of the history."""
        state = self._state
        self._publisher.show(run)
        complete = self._publisher.settle(run)
        with state.changed:
            state.again = None
            state.latest = state.finished = run
            self._show(status=run.state, error=run.error, _notice="", _snapshot=self._publisher.snapshot())
            state.changed.notify_all()
        if not complete:
            self.save_with_scores(run)

    def beside(self, trace: Trace) -> None:
        """A recorded run, for comparison with the one that is shown."""
        state, run = self._state, Run(None, trace=trace, state="done")
        shown: dict[str, Any] = {"_beside": run.id}
        try:
            run.payload = run_payload(run.id, trace, self._pipeline.unknown(trace.prompt), self._publisher.scorer.label)
            self._history.put_beside(run)
        except Exception as cause:  # noqa: BLE001 - a damaged or odd trace is told, not lost
            shown = {"_notice": f"The run to compare with cannot be shown: {cause}"}
        with state.changed:
            if state.to_compare is trace:
                state.to_compare = None
                self._show(**shown)
            state.changed.notify_all()

    def recorded(self, trace: Trace) -> None:
        """The run that a widget without a pipeline was made of."""
        state = self._state
        run, complete = Run(None, trace=trace, state=state_of(trace)), True
        try:
            complete = self._publisher.recorded(run, trace, self._pipeline.unknown(trace.prompt))
        except Exception as cause:  # noqa: BLE001 - a damaged or odd trace is told, not lost
            run.state, run.error, run.cause = "failed", explain(cause, 0, None), cause
        with state.changed:
            state.latest = state.finished = run
            if run.steps:
                self._history.add(run)
            snapshot = self._publisher.snapshot()
            self._show(status=run.state, error=run.error, _notice="", progress=1.0, _snapshot=snapshot)
            state.changed.notify_all()
        if not complete:
            self.save_with_scores(run)

    def noted(self, trace: Trace) -> None:
        """Tell the page, and what a saved notebook carries, of the notes that a trace has by now."""
        for run in self._history.runs:
            if run.trace is trace:
                self._publisher.noted(run)
                self.save_again(run)

    def save_with_scores(self, run: Run) -> None:
        """Once the scores that are still to come are there."""
        self._publisher.scorer.afterwards(lambda: self.save_again(run))

    def save_again(self, run: Run) -> None:
        """What came late, scores and notes, belongs into a saved notebook too."""
        state = self._state
        with state.changed:
            if state.latest is not run or state.active is not None or state.closed:
                return
        self._publisher.keep(run)
        self._show(_snapshot=self._publisher.snapshot())
