"""Replays finished runs: from the history, from a file, or as the comparison run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from diffvis_widget.wire.recorded_run import run_payload
from diffvis_widget.wire.trace_messages import state_of

from .history import History
from .pipeline import SessionPipeline
from .publisher import Publisher
from .run import Run, describe_failure, error_text
from .state import SessionState

if TYPE_CHECKING:
    from diffvis_widget.traces import Trace

log = logging.getLogger(__name__)


class Replay:
    """Replays runs of one session.

    `show`, `open` and `compare` are called in the worker's thread, after it has set ``state.replaying``; they clear
    it. The other methods may be called in any thread.

    Args:
        state: the session's state.
        pipeline: its pipeline.
        publisher: gets the runs.
        history: keeps them.
    """

    def __init__(self, state: SessionState, pipeline: SessionPipeline, publisher: Publisher, history: History) -> None:
        self._state, self._pipeline, self._publisher, self._history = state, pipeline, publisher, history

    def show(self, run: Run) -> None:
        """Show a run of the history again; where that fails, the page says why.

        Args:
            run: the run.
        """

        def publish() -> bool:
            self._publisher.show(run)
            return self._publisher.settle(run)

        complete, traits = self._published(run, publish)
        with self._state.update():
            self._state.replaying = False
            self._state.latest = self._state.shown = run
            self._state.queue_traits(_notice="", **traits)
        if not complete:
            self.save_after_scoring(run)

    def open(self, trace: Trace) -> None:
        """Show the run that a widget without a pipeline was made of; where that fails, the run has failed.

        Args:
            trace: the run.
        """
        run = Run(None, trace=trace, state=state_of(trace))

        def publish() -> bool:
            if run.steps:
                self._history.add(run)
            return self._publisher.recorded(run, trace, self._pipeline.unknown_words(trace.prompt))

        complete, traits = self._published(run, publish)
        if traits["status"] == "failed":
            run.state, run.error = "failed", traits["error"]
        with self._state.update():
            self._state.replaying = False
            self._state.latest = self._state.shown = run
            self._state.queue_traits(_notice="", progress=1.0, **traits)
        if not complete:
            self.save_after_scoring(run)

    def _published(self, run: Run, publish: Callable[[], bool]) -> tuple[bool, dict[str, Any]]:
        """Whether the scores are complete, and the traits that say how the run, or its publication, ended."""
        try:
            complete = publish()
            return complete, {"status": run.state, "error": run.error, "_snapshot": self._publisher.snapshot()}
        except Exception as error:
            log.exception("a run could not be shown")
            run.cause = run.cause or error
            return True, {"status": "failed", "error": describe_failure(error, what="Showing the run")}

    def compare(self, trace: Trace) -> None:
        """Show a recorded run beside the current one; where that fails, the page says why.

        Args:
            trace: the recorded run.
        """
        run, label = Run(None, trace=trace, state="done"), self._publisher.scorer.label
        traits: dict[str, Any] = {"_comparison_run": run.id}
        try:
            run.payload = run_payload(run.id, trace, self._pipeline.unknown_words(trace.prompt), label)
        except Exception as error:
            log.exception("the comparison run could not be shown")
            traits = {"_notice": f"The run to compare with cannot be shown: {error_text(error)}"}
        with self._state.update():
            self._state.replaying = False
            if self._state.comparing is trace:  # no other comparison was requested in the meantime
                self._state.comparing = None
                if run.payload is not None:
                    self._history.set_comparison(run)
                self._state.queue_traits(**traits)

    def update_notes(self, trace: Trace) -> None:
        """Publish the notes of a trace as they are by now, and save them in the notebook.

        Args:
            trace: the trace of a run of the history.
        """
        for run in self._history.runs:
            if run.trace is trace:
                self._publisher.update_notes(run)
                self.save(run)

    def save_after_scoring(self, run: Run) -> None:
        """Save a run in the notebook once its scores are complete.

        Args:
            run: the run.
        """
        self._publisher.scorer.afterwards(lambda: self.save(run))

    def save(self, run: Run) -> None:
        """Save a run in the notebook, with the scores and notes that came after its end.

        Args:
            run: the run; nothing happens unless it is the latest and over.
        """
        state = self._state
        with state.changed:
            if state.latest is not run or state.active is not None or state.closed:
                return
        self._publisher.keep(run)
        self._state.set_traits(_snapshot=self._publisher.snapshot())
